"""Submits frozen folders to a SLURM cluster: a script for sbatch, and which job waits for which.

a run                    one job
a run as a chain         all its jobs at once, each waiting for the end (in any state) of the one before
a sweep                  an array, `launch.max_parallel` elements at a time
a sweep of chains        `launch.max_parallel` lanes: jobs of one name, which the cluster runs one at a time
job=adapt with workers   an array on one folder
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_experiments.composing.naming import slug
from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Launch
from arc_experiments.launching import chain
from arc_experiments.launching.schedulers import templates
from arc_experiments.launching.schedulers.scheduler import ClusterError, Queued
from arc_experiments.launching.schedulers.scripts import script_lines, show_file
from arc_experiments.runs.folder import FolderError, RunFolder, read_object

SCRIPT = "slurm.sh"
JOB = "arc_experiments.launching.schedulers.slurm.job"  # what it becomes
# In the run folder: {"jobs": ["123", "124"]} in order; elements of an array are "123_0".
JOBS_FILE = "slurm.json"
OWN_PREFIXES = ("SLURM_", "SRUN_")


def submit(folders: Sequence[RunFolder], home: Path, launch: Launch, console: Console) -> None:
    """Submit these runs; an array's script is written into `home`.

    Raises:
        ClusterError: the cluster has refused, or there is none.
    """
    name = slug(home.name)
    if len(folders) == 1 or launch.chain.total_jobs > 1:
        for number, folder in enumerate(folders):
            lane = "" if len(folders) == 1 else f"-lane{number % launch.max_parallel}"
            _submit_run(folder, launch, f"{name}{lane}", console)
    else:
        _submit_array(folders, home, launch, name, console)


def queued(folders: Sequence[RunFolder], seconds: float) -> list[Queued]:
    """Each run's jobs that SLURM still has; 124 stands for its whole array."""
    known = [_known_jobs(folder) for folder in folders]
    try:
        states, failure = queue_states(sorted({job for jobs, _ in known for job in jobs}), seconds), ""
    except ClusterError as error:
        states, failure = {}, str(error)
    return [
        Queued(
            jobs={job: state for job, state in states.items() if {job, job.partition("_")[0]} & set(jobs)},
            problem=problem or (failure if jobs else ""),
            cancel="scancel",
        )
        for jobs, problem in known
    ]


def _known_jobs(folder: RunFolder) -> tuple[list[str], str]:
    """The jobs that were submitted for a run, or why they cannot be read."""
    try:
        return jobs_of(folder), ""
    except (OSError, FolderError) as error:
        return [], str(error)


def _submit_run(folder: RunFolder, launch: Launch, name: str, console: Console) -> None:
    """Submit one run: a job, the jobs of a chain, or several workers on one folder."""
    assert launch.slurm is not None
    script = _write_script(folder.path, launch, name, [folder], console)
    if not launch.dry_run:
        chain.forget_deaths(folder)
    if launch.slurm.workers > 1:
        _submit_elements([folder] * launch.slurm.workers, "", script, launch, console)
        return
    jobs: list[str] = []
    for _ in range(launch.chain.total_jobs):
        # Singleton as well: two chains on one folder would only wait for each other.
        dependency = f"afterany:{jobs[-1]},singleton" if jobs else "singleton"
        jobs.append(_submit([f"--dependency={dependency}", str(script)], launch, console))
        _note(folder, jobs, launch)  # each at once: the cluster may refuse the next


def _submit_array(
    folders: Sequence[RunFolder], home: Path, launch: Launch, name: str, console: Console
) -> None:
    script = _write_script(home, launch, name, folders, console)
    if not launch.dry_run:
        for folder in folders:
            chain.forget_deaths(folder)
    _submit_elements(folders, f"%{launch.max_parallel}", script, launch, console)


def _submit_elements(
    folders: Sequence[RunFolder], limit: str, script: Path, launch: Launch, console: Console
) -> None:
    """Submit an array whose element i works on the i-th folder; one folder may have several elements."""
    job = _submit([f"--array=0-{len(folders) - 1}{limit}", str(script)], launch, console)
    elements: dict[Path, list[str]] = {}
    for number, folder in enumerate(folders):
        elements.setdefault(folder.path, []).append(f"{job}_{number}")
    for path, jobs in elements.items():
        _note(RunFolder(path), jobs, launch)


def _submit(arguments: list[str], launch: Launch, console: Console) -> str:
    if launch.dry_run:
        console.print(f"sbatch {shlex.join(arguments)}", markup=False)
        return "JOB"
    job = sbatch(arguments)
    console.print(f"submitted: job {job}")
    return job


def _note(folder: RunFolder, jobs: list[str], launch: Launch) -> None:
    if not launch.dry_run:
        folder.write_json(JOBS_FILE, {"jobs": jobs})


def _write_script(
    home: Path, launch: Launch, name: str, folders: Sequence[RunFolder], console: Console
) -> Path:
    RunFolder(home).write(SCRIPT, script_text(home, launch, name, folders))
    if launch.dry_run:
        show_file(home / SCRIPT, console)
    return home / SCRIPT


def script_text(home: Path, launch: Launch, name: str, folders: Sequence[RunFolder]) -> str:
    """The script for sbatch: for one folder, or for an array of them. The cluster keeps a copy of it.

    Raises:
        ClusterError: the user's template has a mistake, or does not run the job.
    """
    slurm = launch.slurm
    assert slurm is not None
    options = {
        "job-name": name, "output": f"{home.absolute()}/slurm-%j.log", "open-mode": "append",
        "partition": slurm.partition, "account": slurm.account, "constraint": slurm.constraint,
        "time": slurm.time, "nodes": slurm.nodes, "ntasks-per-node": 1, "cpus-per-task": slurm.cpus_per_task,
        "mem": slurm.memory, "gres": f"gpu:{slurm.gpus_per_node}" if slurm.gpus_per_node else None,
        # To the script alone, which has become JOB by then: that asks the run to pause.
        "signal": f"B:USR1@{slurm.signal_seconds}",
    }  # fmt: skip
    lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {directive}" for directive in slurm.directives)]
    paths = " ".join(shlex.quote(str(folder.path.absolute())) for folder in folders)
    folder = '"${folders[$SLURM_ARRAY_TASK_ID]}"' if len(folders) > 1 else '"${folders[0]}"'
    body = script_lines(JOB, folder, setup=[*slurm.setup, f"folders=({paths})"])
    if slurm.template is None:
        return "\n".join(["#!/bin/bash", *lines, *body, ""])
    key, variables = "launch.slurm.template", {"directives": "\n".join(lines), "body": "\n".join(body)}
    text = templates.render_file(key, Path(local_path(slurm.template)), {**variables, "name": name})
    missing = [name for name, part in variables.items() if part not in text]
    if missing:
        raise ClusterError(f"{key}: {slurm.template} leaves out {{{{ {missing[0]} }}}}, on a line of its own")
    return text


def sbatch(arguments: Sequence[str]) -> str:
    """Submit a job and return its id.

    Raises:
        ClusterError: with sbatch's message.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "launch=slurm: there is no sbatch here. Type the command on a login node of the cluster, or "
            "launch.dry_run=true to write the scripts only"
        )
    # A job submitted from inside another would take that one's variables for its own.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OWN_PREFIXES) or name == "SLURM_CONF"
    }
    done = subprocess.run(
        ["sbatch", "--parsable", *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise ClusterError(f"launch=slurm: the cluster refused: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def queue_states(jobs: Sequence[str], seconds: float) -> dict[str, str]:
    """The states of those jobs that wait or run: `{"123": "PENDING", "124_1": "RUNNING"}`; {} without SLURM.

    Raises:
        ClusterError: the cluster does not answer within `seconds`, so nobody knows.
    """
    if not jobs or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"launch=slurm: squeue has not answered for {seconds:.0f} s") from error
    if done.returncode and "Invalid job id" not in done.stderr:  # one that SLURM has forgotten
        raise ClusterError(f"launch=slurm: squeue cannot tell what is in the queue: {done.stderr.strip()}")
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, whether they wait or run."""
    if jobs:
        subprocess.run(["scancel", *jobs], capture_output=True)


def jobs_of(folder: RunFolder) -> list[str]:
    """The jobs that were last submitted for a run.

    Raises:
        FolderError: slurm.json is not one of ours.
    """
    jobs = read_object(folder / JOBS_FILE).get("jobs", [])
    if not isinstance(jobs, list):
        raise FolderError(f"{folder}/{JOBS_FILE} names no list of jobs: remove it")
    return [str(job) for job in jobs]
