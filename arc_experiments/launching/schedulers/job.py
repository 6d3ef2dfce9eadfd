"""What a job of any scheduler does: runs one worker of a chain, and ends the chain once nothing is left."""

import signal
import subprocess
from collections.abc import Callable

from arc_experiments.launching import chain
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import RUNNING


def run_job(folder: RunFolder, run_once: Callable[[], int], cancel_rest: Callable[[], None]) -> bool:
    """Run one job of a run; returns whether another one would resume it.

    Args:
        run_once: runs a worker to its end and returns its exit code.
        cancel_rest: cancels the run's jobs that were submitted after this one.
    """
    next_starts = chain.begin_job(folder)
    if next_starts:
        pausing.forget_earlier(folder.path)
        signal.signal(signal.SIGUSR1, lambda number, frame: pausing.ask(folder.path))
        next_starts = chain.end_job(folder, run_once())
    if not next_starts and folder.state.name != RUNNING:  # if it runs, this job has helped another one
        cancel_rest()
    return next_starts


def wait_for(worker: subprocess.Popen[bytes]) -> int:
    """Pass SIGTERM on to a worker and return its exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: worker.send_signal(number))
    return worker.wait()
