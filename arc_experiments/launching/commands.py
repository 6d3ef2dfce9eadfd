"""A frozen folder's worker: the command that runs it, in an environment that finds the package."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from arc_experiments.config.jobs import job_kind
from arc_experiments.runs import machine as places
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder

# glibc gives large blocks back to the system at once and gets them anew, page by page: with a vocabulary of
# 150,000 that took half of the time on a CPU. It reads these when a process starts.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def worker_command(folder: RunFolder) -> list[str]:
    """The command that runs, or goes on with, this folder: one worker, or what starts several."""
    started_by_others = "RANK" in os.environ  # by torchrun: this process becomes one of theirs
    config = folder.read_config()
    alone = started_by_others or config.hardware.num_processes == 1 or job_kind(config.job.name).starts_alone
    return [
        sys.executable,
        "-m",
        f"arc_experiments.launching.{'worker' if alone else 'torchrun'}",
        str(folder.path),
    ]


def worker_environment(*, place: int = 0, num_places: int = 1) -> dict[str, str]:
    """This process's environment, with the package found wherever the command was started.

    Args:
        place: of a sweep's jobs that run at the same time, which this is: they share out cores and GPUs.
    """
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **MALLOC,
        **os.environ,
        **places.environment(place, num_places),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def helper_environments(count: int) -> list[dict[str, str]]:
    """Of those that make this process one of `count` that share out its work, before it takes its own part."""
    return [
        {**worker_environment(), **places.part(number, count), places.HELPS: str(os.getpid())}
        for number in range(1, count)
    ]


def start_helpers(folder: RunFolder, environments: Sequence[dict[str, str]]) -> list[subprocess.Popen[bytes]]:
    """Start a process for each of these environments, to share out the work on a folder."""
    with (folder / "run.log").open("ab") as output:
        return [
            subprocess.Popen(
                worker_command(folder),
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            for environment in environments
        ]


def become_worker(folder: RunFolder) -> NoReturn:
    """Replace this process by the worker: same process id, so Ctrl-C and debuggers work."""
    sys.stdout.flush()
    sys.stderr.flush()
    pausing.forget(folder.path)
    command = worker_command(folder)
    os.execve(command[0], command, worker_environment())
