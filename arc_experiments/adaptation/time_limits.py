"""Time limits of a whole job, over all its processes and attempts: `adapt.seconds` and
`adapt.deadline_hours`.

    clock.json  {"attempt": 2, "spent": 310.5, "boot": "3f6c...", "noted": 51234.5}

The process that holds the run folder keeps a file for each. Of `adapt.seconds` only the time at work counts:
what a killed job had left is still there for the next attempt. A deadline does not wait: of it, pauses count
as well, unless the machine was started anew. Moments are those of the monotonic clock, which nobody sets and
which the processes of a machine share.
`adapt.seconds_per_task` ends single trainings, see training.py.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from arc_experiments.runs.folder import RunFolder, read_object

LOOK_SECONDS = 0.2  # between two looks whether the other process has started
NOTE_SECONDS = 5.0  # between two notes: what a kill may take from the count
SOONEST_SECONDS = 0.001  # 0 would switch the alarm off
BOOT = Path("/proc/sys/kernel/random/boot_id")
AGAIN_SECONDS = 1.0  # repeat the alarm, in case a library swallowed the first one


class TimeOver(BaseException):
    """The time is over. Like a Ctrl-C, this is not caught by code that catches errors."""


class TimeLimit:
    """What is left of a time budget; endless without one.

    Args:
        folder: where the file lies.
        seconds: the budget, None for none.
        attempt: of the process that holds the run folder.
        file: its name.
        counts_pauses: whether the time between two attempts on this machine counts.
    """

    def __init__(
        self,
        folder: RunFolder,
        seconds: float | None,
        attempt: int,
        file: str = "clock.json",
        *,
        counts_pauses: bool = False,
    ) -> None:
        self._folder, self._seconds, self._attempt, self._file = folder, seconds, attempt, file
        self._counts_pauses = counts_pauses
        self._end = float("inf")  # on the monotonic clock
        self._noted = float("-inf")

    def start(self, already: float = 0.0) -> None:
        """Begin an attempt with what earlier ones left.

        Args:
            already: seconds since the attempt began that count as well.
        """
        if self._seconds is None:
            return
        self._folder.path.mkdir(parents=True, exist_ok=True)
        values = self._read()
        pause = _seconds_since(values) if self._counts_pauses else None
        self._end_after(self._seconds - values.get("spent", 0.0) - (already if pause is None else pause))
        self.note()

    def note(self) -> None:
        """Write down what has been spent so far, unless that was done a moment ago."""
        now = time.monotonic()
        if self._seconds is None or now - self._noted < NOTE_SECONDS:
            return
        self._noted = now
        spent = self._seconds - (self._end - now)
        values = {"attempt": self._attempt, "spent": spent, "boot": _boot(), "noted": now}
        self._folder.write_json(self._file, values)

    def follow(self, is_over: Callable[[], bool]) -> bool:
        """Wait until the process that holds the folder starts; take its end. False if `is_over` is first."""
        if self._seconds is None:
            return True
        while (values := self._read()).get("attempt") != self._attempt:
            if is_over():
                return False
            time.sleep(LOOK_SECONDS)
        # On another machine, whose clock is another, it has just been noted.
        self._end_after(self._seconds - values["spent"] - (_seconds_since(values) or 0.0))
        return True

    @property
    def is_over(self) -> bool:
        return self.seconds_left <= 0

    @property
    def seconds_left(self) -> float:
        """Infinity without a budget; below 0 once it is used up."""
        return self._end - time.monotonic()

    def _end_after(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def _read(self) -> dict[str, Any]:
        return read_object(self._folder / self._file)


def _seconds_since(values: dict[str, Any]) -> float | None:
    """Seconds since a note was made; None if this machine, as it was last started, has made none."""
    if not values.get("boot") or values["boot"] != _boot():
        return None
    return max(0.0, time.monotonic() - float(values["noted"]))


def _boot() -> str:
    """Name this start of this machine; empty where the system does not say."""
    return BOOT.read_text().strip() if BOOT.exists() else ""


def done_within(seconds: float, work: Callable[[], None]) -> bool:
    """Do the work, in the main thread, whatever it is at: loading weights, a step, an answer.

    Returns:
        False if it was cut off after these seconds (infinity: never).
    """
    if seconds == float("inf"):
        work()
        return True
    before = signal.signal(signal.SIGALRM, _ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(SOONEST_SECONDS, seconds), AGAIN_SECONDS)
        work()
    except TimeOver:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return True


def _ring(number: int, frame: FrameType | None) -> None:
    raise TimeOver
