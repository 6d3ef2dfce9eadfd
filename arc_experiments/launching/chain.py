"""A chain on this machine: processes that go on with a run one after another."""

import signal
import subprocess
from collections.abc import Callable
from types import FrameType

from arc_experiments.launching import links
from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.worker import STOPPED
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder


def run_chain(folder: RunFolder, total_jobs: int, run_once: Callable[[], int | None]) -> int:
    """Run workers one after another until the run has ended; returns the last one's exit code.

    Args:
        run_once: runs one to its end, and gives its exit code (negative: by a signal), or None if someone has told it
            to stop.
    """
    links.start_anew(folder)
    pausing.forget(folder.path)
    code: int | None = 0
    for _ in range(total_jobs):
        if not links.begin(folder):
            break
        code = run_once()
        if code is None or not links.end(folder, code):
            break
    return STOPPED if code is None else code


def run_here(folder: RunFolder, total_jobs: int) -> int:
    """The same in this terminal, whose Ctrl-C, like SIGTERM, stops the run and the chain."""
    is_told_to_stop = False

    def run_once() -> int | None:
        if is_told_to_stop:  # between two workers
            return None
        worker = subprocess.Popen(worker_command(folder), env=worker_environment())

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal is_told_to_stop
            is_told_to_stop = True
            if number == signal.SIGTERM:  # of Ctrl-C the worker is told, too
                worker.terminate()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        code = worker.wait()
        return None if is_told_to_stop else code

    return run_chain(folder, total_jobs, run_once)
