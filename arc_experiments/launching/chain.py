"""A chain: one run as several jobs in a row, each of which resumes where the last one stopped.

What became of a job is read from the run's status, not from exit codes, which srun and torchrun pass on
unreliably.

    done                      the chain ends
    paused                    the next job resumes
    failed by a mistake       the chain ends, since the next job would fail alike
    failed, or died           the next job resumes from the last checkpoint, unless two died at the same step
"""

import math
import signal
import subprocess
from collections.abc import Callable
from types import FrameType

from arc_experiments.launching.commands import describe_exit, worker_command, worker_environment
from arc_experiments.launching.worker import MISTAKE, STOPPED, TAKEN
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import FAILED, PAUSED, RUNNING

MAX_DEATHS = 2  # at one step


def run_chain(folder: RunFolder, total_jobs: int, run_once: Callable[[], int | None]) -> int:
    """Run workers one after another until the run has ended; returns the last one's exit code.

    Args:
        run_once: runs a worker to its end and returns its exit code (negative: the signal that killed it), or
            None if the user has stopped the chain.
    """
    forget_deaths(folder)
    pausing.forget_earlier(folder.path)
    code: int | None = 0
    for _ in range(total_jobs):
        if not begin_job(folder):
            break
        code = run_once()
        if code is None or not end_job(folder, code):
            break
    return STOPPED if code is None else code


def run_here(folder: RunFolder, total_jobs: int) -> int:
    """Run a chain in this terminal; Ctrl-C and SIGTERM stop both the worker and the chain."""
    worker: subprocess.Popen[bytes] | None = None
    is_stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopped
        is_stopped = True
        if number == signal.SIGTERM and worker is not None:  # Ctrl-C reaches the worker by itself
            worker.terminate()

    def run_once() -> int | None:
        nonlocal worker
        if is_stopped:  # between two workers
            return None
        worker = subprocess.Popen(worker_command(folder), env=worker_environment())
        code = worker.wait()
        return None if is_stopped else code

    with pausing.handling((signal.SIGINT, signal.SIGTERM), stop):
        return run_chain(folder, total_jobs, run_once)


def forget_deaths(folder: RunFolder) -> None:
    """Forget earlier deaths: the user has typed the command again, and may have removed their cause."""
    if folder.status.get("deaths"):
        folder.update_status(deaths=[])


def begin_job(folder: RunFolder) -> bool:
    """Whether to start the next job: not if the run is done or given up. Records a death that nobody saw."""
    with folder.locked() as is_free:
        if is_free and folder.status.get("state") == RUNNING:
            _record_death(folder, "its process has died unseen")
    return not folder.is_done and not _is_given_up(folder)


def end_job(folder: RunFolder, code: int) -> bool:
    """Record how a worker ended, and return whether the next job should start.

    Args:
        code: the worker's exit code; negative: the signal that killed it.
    """
    if code == TAKEN or folder.is_done:
        return False
    with folder.reclaimed() as is_ours:
        if not is_ours:  # this worker has helped another one, which is still at work
            return False
        status = folder.status
        state = status.get("state", RUNNING)
        if code == MISTAKE and state == FAILED:
            return False
        if code == STOPPED and state == RUNNING:  # stopped before it could say so
            folder.end(PAUSED)
        elif state == RUNNING:
            _record_death(folder, describe_exit(code))
        elif state == FAILED:
            _record_death(folder, str(status.get("error") or FAILED))
    return not _is_given_up(folder)


def _is_given_up(folder: RunFolder) -> bool:
    """Whether the run has died so often at one step that another job would die there, too."""
    deaths = folder.status.get("deaths", [])
    return any(deaths.count(step) >= MAX_DEATHS for step in deaths)


def _record_death(folder: RunFolder, reason: str) -> None:
    status = folder.status
    step = status.get("step")
    # After the last step the run answers tasks, which makes progress that no step shows.
    if step is not None and step < status.get("max_steps", math.inf):
        folder.update_status(deaths=[*status.get("deaths", []), step])
    if _is_given_up(folder):
        reason = f"{reason}; {MAX_DEATHS} times at step {step}, so the chain ends here"
    folder.end(FAILED, reason)
