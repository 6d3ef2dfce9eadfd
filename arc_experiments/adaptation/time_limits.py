"""Time limits of a whole job, over all its processes and attempts: `adapt.seconds` and
`adapt.deadline_hours`.

    clock.json  {"attempt": 2, "spent": 310.5, "until": 1760000000.0}

The process that holds the run folder keeps a file for each. Only the time at work counts: what a killed job
had left is still there for the next attempt. `adapt.seconds_per_task` ends single trainings, see training.py.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from arc_experiments.runs.folder import RunFolder

LOOK_SECONDS = 0.2  # between two looks whether the other process has started
NOTE_SECONDS = 5.0  # between two notes: what a kill may take from the count
SOONEST_SECONDS = 0.001  # 0 would switch the alarm off
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
    """

    def __init__(
        self, folder: RunFolder, seconds: float | None, attempt: int, file: str = "clock.json"
    ) -> None:
        self._folder, self._seconds, self._attempt, self._file = folder, seconds, attempt, file
        self._spent, self._began, self._until = 0.0, time.monotonic(), float("inf")
        self._noted = float("-inf")

    def start(self, already: float = 0.0) -> None:
        """Begin an attempt with what earlier ones left.

        Args:
            already: seconds since the attempt began that count as well.
        """
        if self._seconds is None:
            return
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._spent = self._read().get("spent", 0.0)
        self._began = time.monotonic() - already
        self._until = time.time() + self._seconds - self._spent - already
        self.note()

    def note(self) -> None:
        """Write down what has been spent so far, unless that was done a moment ago."""
        if self._seconds is None or time.monotonic() - self._noted < NOTE_SECONDS:
            return
        self._noted = time.monotonic()
        spent = self._spent + time.monotonic() - self._began
        self._folder.write_json(self._file, {"attempt": self._attempt, "spent": spent, "until": self._until})

    def follow(self, is_over: Callable[[], bool]) -> bool:
        """Wait until the process that holds the folder starts; take its end. False if `is_over` is first."""
        if self._seconds is None:
            return True
        while (values := self._read()).get("attempt") != self._attempt:
            if is_over():
                return False
            time.sleep(LOOK_SECONDS)
        self._until = values["until"]
        return True

    @property
    def is_over(self) -> bool:
        return self.seconds_left <= 0

    @property
    def seconds_left(self) -> float:
        """Infinity without a budget; below 0 once it is used up."""
        return self._until - time.time()

    def _read(self) -> dict[str, Any]:
        if not (self._folder / self._file).exists():
            return {}
        values: dict[str, Any] = self._folder.read_json(self._file)
        return values


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
