"""What stops a run, and what each process does about it.

SIGTERM and Ctrl-C pass from a command to the processes that it started:

    sweep (launching.pool)           stops its workers and starts no more; a second signal kills them
    chain (launching.chain)          stops its worker and starts no other
    cluster job (schedulers.job)     passes SIGTERM on; USR1 asks for a pause, as the time limit does
    ranks (launching.torchrun)       torch's agent passes it on to all ranks, which pause at the same step
    worker, while it trains          finishes the step, writes a checkpoint, ends as `paused`
    worker, at any other time        stops at once (KeyboardInterrupt), keeps finished parts, ends as `paused`
    worker, a second signal          stops at once; the run resumes from its last checkpoint

A training also pauses when another process creates the file `.pause` in the run folder (`ask`), and when it
has used up the steps or seconds that `launch.chain` allows each job.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from arc_experiments.config.schema import Chain
from arc_experiments.runs.locks import locked
from arc_experiments.runs.run_state import LOCK

FILE = ".pause"  # in the run folder
# A second signal within this time is the same one: the cluster and the parent process may both send it.
SAME_SIGNAL = 3.0

Handler = Callable[[int, FrameType | None], None]


class Paused(KeyboardInterrupt):
    """The run has paused as asked, and can be resumed."""


class _Signals:
    """Whether a training listens, and when a signal came; one for the process, as signals are."""

    listening = False
    came: float | None = None
    process = 0  # what it has forked gets a terminal's signal, too


def watch_signals() -> None:
    """Let SIGTERM and Ctrl-C pause a training that listens; else, and repeated, they interrupt."""
    _Signals.came, _Signals.process = None, os.getpid()
    signal.signal(signal.SIGTERM, _on_signal)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of what a script has started beside itself
        signal.signal(signal.SIGINT, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    is_repeated = _Signals.came is not None and now - _Signals.came > SAME_SIGNAL
    _Signals.came = _Signals.came or now
    if is_repeated or not _Signals.listening:
        raise KeyboardInterrupt
    # A person waits. What was forked from this process says nothing; print may be what the signal interrupts.
    if number == signal.SIGINT and os.getpid() == _Signals.process:
        os.write(sys.stderr.fileno(), b"\nPausing at the end of this step. Ctrl-C again stops at once.\n")


def is_signalled() -> bool:
    """Whether a signal has asked this process to stop."""
    return _Signals.came is not None


@contextmanager
def handling(numbers: Sequence[int], handler: Handler) -> Iterator[None]:
    """Handle these signals within the block; does nothing in other threads than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Pause:
    """Whether a training should pause.

    Args:
        folder: the run folder.
        chain: the steps or seconds that each job may use; the seconds count from here.
    """

    def __init__(self, folder: Path, chain: Chain) -> None:
        self._file, self._chain = folder / FILE, chain
        self._began, self._first_step = time.monotonic(), 0

    @contextmanager
    def listening(self, first_step: int) -> Iterator[None]:
        """Let a signal wait for the end of a step, in a training that has done `first_step` steps before."""
        self._first_step = first_step
        _Signals.listening = True
        try:
            yield
        finally:
            _Signals.listening = False

    def is_due(self, step: int) -> bool:
        """Whether to pause at the end of a step, numbered from 1."""
        steps, seconds = self._chain.steps_per_job, self._chain.seconds_per_job
        return (
            is_signalled()
            or self._file.exists()
            or (steps is not None and step - self._first_step >= steps)
            or (seconds is not None and time.monotonic() - self._began >= seconds)
        )


def ask(folder: Path) -> None:
    """Ask the run in a folder to pause, from another process."""
    (folder / FILE).touch()


def forget(folder: Path) -> None:
    """Withdraw a request to pause; for the process that works on the folder."""
    (folder / FILE).unlink(missing_ok=True)


def forget_earlier(folder: Path) -> None:
    """Withdraw a request that an earlier start left behind, unless a process at work has yet to see it."""
    with locked(folder / LOCK) as is_free:
        if is_free:
            forget(folder)
