"""Locks on files, which the system releases when the process that holds them ends, however it ends."""

import contextlib
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def locked(file: Path) -> Iterator[bool]:
    """Create a file and lock it until the end of the block; yields False if another process has locked it."""
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def is_locked(file: Path) -> bool:
    """Whether a process holds this lock; False as well where there is no file, or no locking."""
    try:
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class SharedLock:
    """A lock that several processes hold together; each can ask whether it is the only one.

    Where the file cannot be written, no process takes itself for the only one.
    """

    def __init__(self, file: Path) -> None:
        self._path, self._among_threads = file, threading.Lock()
        self._file: IO[str] | None = None

    def __enter__(self) -> "SharedLock":
        with contextlib.suppress(OSError):
            self._file = self._path.open("a")
            fcntl.flock(self._file, fcntl.LOCK_SH)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def is_only_holder(self) -> bool:
        if self._file is None:
            return False
        with self._among_threads:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            finally:
                fcntl.flock(self._file, fcntl.LOCK_SH)
            return True
