"""A time budget of the whole job, over all its processes and attempts.

    clock.json  {"attempt": 2, "spent": 310.5, "until": 1760000000.0}

The process that holds the run folder keeps it. What counts is the time that it has been at work: a job that was killed
has left what it had not used.
"""

import time
from collections.abc import Callable
from typing import Any

from arc_experiments.runs.folder import RunFolder

LOOK_SECONDS = 0.2
NOTE_SECONDS = 5.0  # between two notes: what a kill may take from the count


class Clock:
    """How much is left of a budget; endless without one.

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
        """Begin an attempt, with what the earlier ones have left.

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
        """Write down what has been spent so far, unless that has just been done."""
        if self._seconds is None or time.monotonic() - self._noted < NOTE_SECONDS:
            return
        self._noted = time.monotonic()
        spent = self._spent + time.monotonic() - self._began
        self._folder.write_json(self._file, {"attempt": self._attempt, "spent": spent, "until": self._until})

    def follow(self, is_over: Callable[[], bool]) -> bool:
        """Take the end from the process that holds the folder, once it has started. False if `is_over` before."""
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
        """Infinity without a budget; below 0 when it is used up."""
        return self._until - time.time()

    def _read(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if (self._folder / self._file).exists():
            values = self._folder.read_json(self._file)
        return values
