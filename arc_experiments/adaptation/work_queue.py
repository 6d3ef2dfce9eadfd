"""Pieces of work that any number of processes share out, on any machines that see one folder.

    <folder>/<name>.json   what a finished piece gave: whole, or absent
    <folder>/<name>.lock   locked by the process that works on it; the system frees it when that process dies

Two processes may do one piece all the same, where a file system does not lock over machines: that costs time, and
changes nothing, since a piece gives the same whoever does it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.locks import locked

Piece = TypeVar("Piece")
LOOK_SECONDS = 0.5  # how often a process that has nothing left to do looks whether the others are done


class Queue(Generic[Piece]):
    """The pieces by name, in the order in which they are begun.

    Args:
        folder: theirs; it is made when work begins.
        from_json: what a finished piece gave, out of what its file holds.
    """

    def __init__(self, folder: Path, names: Sequence[str], from_json: Callable[[Any], Piece]) -> None:
        self.names = tuple(names)
        self._folder, self._from_json = RunFolder(folder), from_json
        self._known: dict[str, Piece] = {}  # what is finished stays as it is: it is read once

    @property
    def waiting(self) -> list[str]:
        """Those without a result."""
        return [name for name in self.names if not self._is_done(name)]

    @property
    def finished(self) -> dict[str, Piece]:
        """What the finished pieces gave, in the order of the pieces."""
        for name in self.names:
            if name not in self._known and self._is_done(name):
                self._known[name] = self._from_json(self._folder.read_json(f"{name}.json"))
        return {name: self._known[name] for name in self.names if name in self._known}

    def work(
        self,
        do: Callable[[str], Any],
        on_progress: Callable[[int], None] = lambda done: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Do what nobody else has done or is doing, until there is a result of everything.

        A piece whose process dies is done by another one.

        Args:
            do: makes the result of a piece, which can be written as JSON.
            on_progress: called with the number of finished pieces, at first and when there may be more.
            is_over: says that the results have been collected, and nothing is left to do; asked again and again.
        """
        self._folder.path.mkdir(parents=True, exist_ok=True)
        while not is_over():
            waiting, has_done = self.waiting, False
            on_progress(len(self.names) - len(waiting))
            if not waiting:
                break
            for name in waiting:
                if self._do(name, do):
                    has_done = True
                    on_progress(len(self.names) - len(self.waiting))
            if not has_done:  # the others are at the rest
                time.sleep(LOOK_SECONDS)

    def _do(self, name: str, do: Callable[[str], Any]) -> bool:
        """Whether this process has done it."""
        with self._claimed(name) as is_ours:
            if not is_ours or self._is_done(name):  # by another, since we looked
                return False
            self._folder.write_json(f"{name}.json", do(name))
            return True

    def _is_done(self, name: str) -> bool:
        return (self._folder / f"{name}.json").exists()

    @contextmanager
    def _claimed(self, name: str) -> Iterator[bool]:
        with ExitStack() as stack:
            try:
                is_ours = stack.enter_context(locked(self._folder / f"{name}.lock"))
            except FileNotFoundError:  # the results have been collected, and the folder is gone
                is_ours = False
            yield is_ours
