"""End Monty's processes that use more CPU time than they may, whatever else the machine does.

Those of programs in Python are watched by `confined/running.py`.
"""

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

INTERVAL = 0.02  # seconds between two looks at the clocks


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used.

    Raises:
        OSError: it is gone.
    """
    if platform.system() == "Linux":
        return time.clock_gettime((~pid << 3) | 2)  # the clock of another process, see clock_getcpuclockid(3)
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from error
    return float(times.user + times.system)


@dataclass(kw_only=True)
class Timing:
    """One use of a process.

    Attributes:
        deadline: on the process's CPU clock, after which it is killed.
        seconds: of CPU time used, known after the use; more than allowed if the process was killed.
    """

    deadline: float
    seconds: float = 0.0
    killed: bool = False


class CpuWatch:
    """A thread that looks at the CPU clocks of the processes in use, and sleeps while there are none."""

    def __init__(self) -> None:
        self._timings: dict[int, Timing] = {}
        self._lock = threading.Lock()
        self._in_use = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="cpu-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._in_use.set()
        self._thread.join()

    @contextmanager
    def timing(self, pid: int, seconds: float) -> Iterator[Timing]:
        """Time the use of a process in the block, and kill it after so many seconds of CPU time."""
        start = cpu_seconds(pid)
        timing = Timing(deadline=start + seconds)
        with self._lock:
            self._timings[pid] = timing
        self._in_use.set()
        try:
            yield timing
        finally:
            with self._lock:
                del self._timings[pid]
            with suppress(OSError):  # it is dead
                timing.seconds = cpu_seconds(pid) - start
            if timing.killed:
                timing.seconds = max(timing.seconds, seconds + INTERVAL)

    def _watch(self) -> None:
        while not self._closed:
            self._in_use.wait()
            time.sleep(INTERVAL)
            with self._lock:
                if not self._timings:
                    self._in_use.clear()
                for pid, timing in self._timings.items():
                    with suppress(OSError):
                        if not timing.killed and cpu_seconds(pid) > timing.deadline:
                            timing.killed = True
                            os.kill(pid, signal.SIGKILL)
