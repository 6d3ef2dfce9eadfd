"""Writes what `launch.command` submits, in the run folder.

    jobs/job2.sh         runs the second job of the chain; its output is appended to jobs/job2.log
    jobs/submit2.sub     what the template made of it, with the template's own ending

The latter is in the sweep's folder if several runs are submitted together.
"""

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from arc_experiments.composing.naming import slug
from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Launch
from arc_experiments.launching.schedulers import templates
from arc_experiments.launching.schedulers.command.job import UNFINISHED
from arc_experiments.launching.schedulers.command.submissions import Submission
from arc_experiments.launching.schedulers.scripts import script_lines, show_file
from arc_experiments.runs import cores_and_gpus
from arc_experiments.runs.folder import RunFolder

FOLDER = "jobs"
JOB = "arc_experiments.launching.schedulers.command.job"  # what a script becomes
TEMPLATE, SUBMIT = "launch.command.template", "launch.command.submit"


class JobFiles:
    """Writes the files of submissions.

    Args:
        home: the run folder, or the sweep's folder.

    Raises:
        ClusterError: the template or the submit command has a mistake.
    """

    def __init__(self, home: Path, launch: Launch) -> None:
        assert launch.command is not None
        self._home, self._launch, self._command = home.absolute(), launch, launch.command
        self._path = Path(local_path(launch.command.template)).absolute()
        self.uses = templates.variables_in(TEMPLATE, self._path)
        self.uses |= templates.variables_in(SUBMIT, launch.command.submit)

    def write(self, submission: Submission, after: str | None) -> list[str]:
        """Write the files and return the words of the command that submits them.

        Args:
            after: the id of the job whose end it waits for.

        Raises:
            ClusterError: the template or the command has a mistake.
        """
        variables = self._variables(submission, after)
        for folder in submission.folders:
            (folder / FOLDER).mkdir(exist_ok=True)
            script = _base(folder, submission).with_suffix(".sh")
            RunFolder(script.parent).write(script.name, self._script(folder, submission))
            script.chmod(0o755)
        file = self._file(submission)
        file.parent.mkdir(exist_ok=True)
        RunFolder(file.parent).write(file.name, templates.render_file(TEMPLATE, self._path, variables))
        return templates.render_command(SUBMIT, self._command.submit, variables | {"file": file})

    def show(self, submission: Submission, console: Console) -> None:
        """Print the files of a submission."""
        for folder in submission.folders:
            show_file(_base(folder, submission).with_suffix(".sh"), console)
        show_file(self._file(submission), console)

    def _place(self, submission: Submission) -> Path:
        """The run's folder, or the sweep's."""
        return submission.folders[0].path.absolute() if len(submission.folders) == 1 else self._home

    def _file(self, submission: Submission) -> Path:
        ending = Path(self._path.name.removesuffix(templates.ENDING)).suffix
        return self._place(submission) / FOLDER / f"submit{submission.number}{ending}"

    def _variables(self, submission: Submission, after: str | None) -> dict[str, Any]:
        """What the template and the submit command may use."""
        command, place = self._command, self._place(submission)
        jobs = [
            {"folder": str(folder.path.absolute()), "notes": str(_base(folder, submission))}
            for folder in submission.folders
        ]
        seconds = None if command.hours is None else round(command.hours * 3600)
        name = slug(self._home.name)
        return {
            "name": name if place == self._home else f"{name}-{slug(place.name)}",
            "home": str(place), "cwd": str(Path.cwd()), "jobs": jobs, **jobs[0],
            "script": f"{jobs[0]['notes']}.sh", "number": submission.number, "after": after,
            "restarts": self._launch.chain.total_jobs - 1, "limit": self._launch.max_parallel,
            "exit_unfinished": UNFINISHED, "seconds": seconds, "time": seconds and _clock(seconds),
            "run_seconds": self._run_seconds(), "pause_seconds": command.pause_seconds,
            "cpus": command.cpus, "gpus": command.gpus, "memory_gigabytes": command.memory_gigabytes,
            "disk_gigabytes": command.disk_gigabytes, "directives": list(command.directives),
            "setup": list(command.setup), "options": dict(command.options),
        }  # fmt: skip

    def _run_seconds(self) -> int | None:
        """How long the run may work before it has to save, if there is a time limit."""
        if self._command.hours is None:
            return None
        return max(1, round(self._command.hours * 3600) - self._command.pause_seconds)

    def _script(self, folder: RunFolder, submission: Submission) -> str:
        log, seconds = f"{_base(folder, submission)}.log", self._run_seconds()
        setup = [f"exec >>{shlex.quote(log)} 2>&1", f"export {cores_and_gpus.CLUSTER_JOB}=1"]
        if self._command.cpus is not None:
            setup.append(f"export {cores_and_gpus.CORES}={self._command.cpus}")
        words = [
            str(folder.path.absolute()),
            str(submission.number),
            *([] if seconds is None else [str(seconds)]),
        ]
        lines = script_lines(JOB, shlex.join(words), setup=[*setup, *self._command.setup])
        return "\n".join(["#!/bin/bash", *lines, ""])


def _base(folder: RunFolder, submission: Submission) -> Path:
    return (folder / FOLDER / f"job{submission.number}").absolute()


def _clock(seconds: int) -> str:
    """26:03:00, as schedulers write time limits."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
