"""Frozen folders to jobs of a SLURM cluster: a script for sbatch, and which job waits for which.

a run                    one job
a run as a chain         all its jobs at once, each waiting for the end, however that is, of the one before
a sweep                  an array, `launch.max_parallel` elements at a time
a sweep of chains        `launch.max_parallel` lanes: jobs of one name, of which the cluster runs one at a time
job=adapt with workers   an array on one folder
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_experiments.composing.naming import slug
from arc_experiments.config.schema import Launch
from arc_experiments.launching import links
from arc_experiments.launching.cluster import JOBS_FILE, ClusterError, jobs_of, queued, sbatch
from arc_experiments.runs.folder import RunFolder

SCRIPT = "slurm.sh"


def submit(folders: Sequence[RunFolder], home: Path, launch: Launch, console: Console) -> int:
    """Submit what is left to do, and say what was submitted; returns the exit code.

    Args:
        home: the run folder, or that of the sweep; the script goes there.

    Raises:
        ClusterError: the cluster has refused, or there is none.
    """
    waiting = [folder for folder in folders if not folder.is_done and not _is_queued(folder, console)]
    finished = sum(folder.is_done for folder in folders)
    console.print(f"{len(folders)} runs, {finished} finished already, {len(waiting)} to submit")
    if not waiting:
        return 0
    if len(waiting) > 1 and launch.slurm is not None and launch.slurm.workers > 1:
        raise ClusterError(
            f"launch.slurm.workers={launch.slurm.workers} share out one run's tasks: a sweep's jobs have one each"
        )
    name = slug(home.name)
    chained = launch.chain.total_jobs > 1
    if len(waiting) == 1 or chained:
        for number, folder in enumerate(waiting):
            lane = "" if len(waiting) == 1 else f"-lane{number % launch.max_parallel}"
            _submit_run(folder, launch, f"{name}{lane}", console)
    else:
        _submit_array(waiting, home, launch, name, console)
    if not launch.dry_run:
        console.print(f"how it goes: python -m arc_experiments.status {RunFolder(home)}")
    return 0


def _is_queued(folder: RunFolder, console: Console) -> bool:
    still = queued(jobs_of(folder))
    if still:
        console.print(
            f"{folder}: its jobs {', '.join(sorted(still))} are in the queue already (scancel ends them)"
        )
    return bool(still)


def _submit_run(folder: RunFolder, launch: Launch, name: str, console: Console) -> None:
    """A chain of jobs, or one, or workers on one folder."""
    assert launch.slurm is not None
    script = _write_script(folder.path, launch, name, [folder])
    workers = [f"--array=0-{launch.slurm.workers - 1}"] if launch.slurm.workers > 1 else []
    if not launch.dry_run:
        links.start_anew(folder)
    jobs: list[str] = []
    for _ in range(launch.chain.total_jobs):
        # Also of its name one at a time: two chains on one folder would only wait for each other.
        dependency = f"afterany:{jobs[-1]},singleton" if jobs else "singleton"
        jobs.append(
            _submit(
                [*workers, *([] if workers else [f"--dependency={dependency}"]), str(script)], launch, console
            )
        )
        # At once, as the cluster may refuse the next.
        _note(folder, _elements(jobs[0], launch.slurm.workers) if workers else jobs, launch)


def _elements(job: str, count: int) -> list[str]:
    return [f"{job}_{number}" for number in range(count)]


def _submit_array(
    folders: Sequence[RunFolder], home: Path, launch: Launch, name: str, console: Console
) -> None:
    script = _write_script(home, launch, name, folders)
    if not launch.dry_run:
        for folder in folders:
            links.start_anew(folder)
    job = _submit([f"--array=0-{len(folders) - 1}%{launch.max_parallel}", str(script)], launch, console)
    for folder, element in zip(folders, _elements(job, len(folders)), strict=True):
        _note(folder, [element], launch)


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


def _write_script(home: Path, launch: Launch, name: str, folders: Sequence[RunFolder]) -> Path:
    RunFolder(home).write(SCRIPT, script_text(home, launch, name, folders))
    return home / SCRIPT


def script_text(home: Path, launch: Launch, name: str, folders: Sequence[RunFolder]) -> str:
    """What sbatch is given: for one folder, or for an array of them, which the cluster keeps as it is now."""
    slurm = launch.slurm
    assert slurm is not None
    options = {
        "job-name": name, "output": f"{home.absolute()}/slurm-%j.log", "open-mode": "append",
        "partition": slurm.partition, "account": slurm.account, "constraint": slurm.constraint,
        "time": slurm.time, "nodes": slurm.nodes, "ntasks-per-node": 1, "cpus-per-task": slurm.cpus_per_task,
        "mem": slurm.memory, "gres": f"gpu:{slurm.gpus_per_node}" if slurm.gpus_per_node else None,
        # To this script alone, which python has become by then: it asks the run to save and stop.
        "signal": f"B:USR1@{slurm.signal_seconds}",
    }  # fmt: skip
    lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {directive}" for directive in slurm.directives)]
    package = Path(__file__).parents[2]
    paths = " ".join(shlex.quote(str(folder.path.absolute())) for folder in folders)
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "set -e",
            f"cd {shlex.quote(str(Path.cwd()))}",
            f"export PYTHONPATH={shlex.quote(str(package))}${{PYTHONPATH:+:$PYTHONPATH}}",
            *slurm.setup,
            f"folders=({paths})",
            f"exec {shlex.quote(sys.executable)} -m arc_experiments.launching.slurm_job "
            + ('"${folders[$SLURM_ARRAY_TASK_ID]}"' if len(folders) > 1 else '"${folders[0]}"'),
            "",
        ]
    )
