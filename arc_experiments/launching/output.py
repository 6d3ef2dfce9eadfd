"""What a sweep says: to a terminal, a log or a pipe that may be gone or full before its jobs are done."""

import contextlib
import sys
from typing import IO, Any, cast

from rich.console import Console


def lasting_console() -> Console:
    """A console on this process's output. What it cannot write is lost, and stops nothing."""
    return Console(file=cast(IO[str], _Lasting(sys.stdout)), soft_wrap=True, highlight=False)


class _Lasting:
    """A file that takes what it cannot write."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()
