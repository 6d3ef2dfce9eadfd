"""Submits frozen folders by a command and a template of the user's, to any scheduler.

`submissions` says which jobs there are, `job_files` writes what is submitted, `queue_record` remembers it.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from arc_experiments.config.schema import Command, Launch
from arc_experiments.launching import chain
from arc_experiments.launching.schedulers import templates
from arc_experiments.launching.schedulers.command.job_files import SUBMIT, JobFiles
from arc_experiments.launching.schedulers.command.queue_record import Submitted, queued
from arc_experiments.launching.schedulers.command.submissions import Submission, plan
from arc_experiments.launching.schedulers.scheduler import ClusterError
from arc_experiments.runs.folder import RunFolder

__all__ = ["queued", "submit"]

ELEMENT = "launch.command.element"
SUBMIT_SECONDS = 120.0


def submit(folders: Sequence[RunFolder], home: Path, launch: Launch, console: Console) -> None:
    """Write and submit the files of these runs.

    Raises:
        ClusterError: a mistake in the template, what the scheduler cannot do, or its refusal.
    """
    assert launch.command is not None
    files = JobFiles(home, launch)
    submissions = plan(folders, launch, files.uses)
    for submission in submissions:  # before anything is submitted: a mistake may be in any of them
        files.write(submission, None if submission.after is None else "JOB")
    jobs: list[str] = []
    for submission in submissions:
        words = files.write(submission, None if submission.after is None else jobs[submission.after])
        if launch.dry_run:
            files.show(submission, console)
            console.print(shlex.join(words), markup=False)
            jobs.append(f"JOB{len(jobs) + 1}")
        else:
            jobs.append(_submit(submission, words, launch.command))
            console.print(f"submitted: job {jobs[-1]}", markup=False)


def _submit(submission: Submission, words: list[str], command: Command) -> str:
    """Submit and record; returns the job's id."""
    first = [Submitted.first(folder, command) for folder in submission.folders]
    if submission.number == 1:
        for folder in submission.folders:
            chain.forget_deaths(folder)
    job = _call(words, command.id)
    elements = [job] * len(submission.folders)
    if command.element is not None:
        elements = [
            templates.render_command(ELEMENT, command.element, {"job": job, "index": index})[0]
            for index in range(len(submission.folders))
        ]
    for folder, record, element in zip(submission.folders, first, elements, strict=True):
        earlier = record if submission.number == 1 else Submitted.read(folder)
        replace(earlier, jobs=[*earlier.jobs, element], others=elements).write(folder)
    return job


def _call(words: list[str], pattern: str) -> str:
    """Run the submit command and find the job's id in what it prints.

    Raises:
        ClusterError: it is not there, fails, hangs, or prints no id.
    """
    typed = shlex.join(words)
    if shutil.which(words[0]) is None:
        raise ClusterError(
            f"{SUBMIT}: there is no {words[0]} here. Type the command on a machine that submits to the "
            "scheduler, or launch.dry_run=true to write the files only"
        )
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SUBMIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{SUBMIT}: `{typed}`: {error}") from error
    said = (done.stderr.strip() or done.stdout.strip()) or "it printed nothing"
    if done.returncode:
        raise ClusterError(f"{SUBMIT}: `{typed}` failed with exit code {done.returncode}: {said}")
    found = re.search(pattern, f"{done.stdout}\n{done.stderr}", re.MULTILINE)
    if found is None:
        raise ClusterError(
            f"{SUBMIT}: `{typed}` printed no job id that launch.command.id='{pattern}' finds, so nothing is "
            f"known of its job: {said}"
        )
    return found[1]
