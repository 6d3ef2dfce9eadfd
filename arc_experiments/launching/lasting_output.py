"""A console whose process goes on though nobody reads it: a closed terminal, `| head`, a full log."""

import logging
import os
import sys
from typing import IO, Any, cast

from rich.console import Console

log = logging.getLogger(__name__)


def lasting_console(*, quiet: bool = False) -> Console:
    """Make a console on the standard output that drops what cannot be written."""
    return Console(file=cast(IO[str], _LastingFile(sys.stdout)), soft_wrap=True, highlight=False, quiet=quiet)


class _LastingFile:
    """A file that drops what it cannot write."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        try:
            self._file.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Go on without the output; after a broken pipe for good, also for what Python writes at its end."""
        if isinstance(error, BrokenPipeError):
            log.warning("nobody reads the output any more: it is lost, and the run goes on")
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)
