"""Pausing: a training that is asked to pause ends its step, writes a checkpoint and leaves the rest to a later start.

It is asked by a signal (SIGTERM, as from a cluster that wants its nodes back), by a file in the run folder (as a chain's
job makes it when its time is nearly up), or by what a chain allots to each of its jobs (`launch.chain`). What does
not train stops at once at a signal: its finished parts are kept as they come.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from arc_experiments.config.schema import Chain

FILE = ".pause"  # in the run folder


class Paused(KeyboardInterrupt):
    """The run has paused where it was asked to, and can be gone on with."""


# Within so many seconds a second signal is the same one: of several processes each is told by the cluster, and by what
# has started them as well.
SAME_SIGNAL = 3.0


class _Signals:
    """Who listens, and when a signal has come; signals belong to the whole process, and so does this."""

    listening = False
    came: float | None = None


def watch_signals() -> None:
    """SIGTERM asks for a pause where someone listens, and else, or when it comes again, raises KeyboardInterrupt."""
    _Signals.came = None
    signal.signal(signal.SIGTERM, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    comes_again = _Signals.came is not None and now - _Signals.came > SAME_SIGNAL
    _Signals.came = _Signals.came or now
    if comes_again or not _Signals.listening:
        raise KeyboardInterrupt


def is_signalled() -> bool:
    """Whether a signal has told this process to stop."""
    return _Signals.came is not None


class Pause:
    """Whether this process is asked to pause.

    Args:
        folder: the run folder.
        chain: what each job of a chain may do; its seconds count from here.
    """

    def __init__(self, folder: Path, chain: Chain) -> None:
        self._file, self._chain = folder / FILE, chain
        self._began, self._first_step = time.monotonic(), 0

    @contextmanager
    def listening(self, first_step: int) -> Iterator[None]:
        """While a training that begins after `first_step` steps asks at each step."""
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
    """Take back what was asked of an earlier start."""
    (folder / FILE).unlink(missing_ok=True)
