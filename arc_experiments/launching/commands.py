"""How a frozen folder's worker is started: the command, its environment, and what its exit code means."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from arc_experiments.config.job_kinds import job_kind
from arc_experiments.runs import cores_and_gpus, pausing
from arc_experiments.runs.folder import RunFolder

# glibc returns large blocks to the system at once and gets them anew, page by page, which took half of the
# time on a CPU with a vocabulary of 150,000. It reads these variables when a process starts.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def worker_command(folder: RunFolder) -> list[str]:
    """The command that runs or resumes this folder: one worker, or torchrun with several."""
    is_rank = "RANK" in os.environ  # torchrun started this process, which becomes one of its workers
    config = folder.read_config()
    alone = is_rank or config.hardware.num_processes == 1 or job_kind(config.job.name).starts_alone
    module = "worker" if alone else "torchrun"
    return [sys.executable, "-m", f"arc_experiments.launching.{module}", str(folder.path)]


def worker_environment(*, place: int = 0, num_places: int = 1) -> dict[str, str]:
    """This process's environment, in which the package is found from any directory.

    Args:
        place: which of the sweep's parallel jobs this is; they share out cores and GPUs. One alone has the
            place of this process.
    """
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **MALLOC,
        **os.environ,
        **(cores_and_gpus.environment(place, num_places) if num_places > 1 else {}),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def helper_environments(count: int) -> list[dict[str, str]]:
    """Environments of the `count - 1` helpers of this process; to be called before it takes its own share."""
    return [
        {**worker_environment(), **cores_and_gpus.part(number, count), cores_and_gpus.HELPS: str(os.getpid())}
        for number in range(1, count)
    ]


def start_helpers(folder: RunFolder, environments: Sequence[dict[str, str]]) -> list[subprocess.Popen[bytes]]:
    """Start a helper on a folder in each of these environments; their output goes to run.log."""
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


def run_worker(folder: RunFolder) -> int:
    """Start the worker, print its lines, and return its exit code."""
    pausing.forget_earlier(folder.path)
    with subprocess.Popen(
        worker_command(folder),
        env=worker_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:  # a notebook shows what is printed, not what a process writes
            print(line, end="", flush=True)  # noqa: T201
    return worker.returncode


def become_worker(folder: RunFolder) -> NoReturn:
    """Replace this process by the worker; it keeps the process id, so Ctrl-C and debuggers work."""
    sys.stdout.flush()
    sys.stderr.flush()
    pausing.forget_earlier(folder.path)
    command = worker_command(folder)
    os.execve(command[0], command, worker_environment())


def describe_exit(code: int) -> str:
    """`killed by signal 9 (out of memory?)`, `ended with exit code 7`."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"killed by signal {-code}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
