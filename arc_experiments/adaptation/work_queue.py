"""Pieces of work that any number of processes share, on any machines that see one folder.

    <folder>/<name>.json   the result of a finished piece: whole, or absent
    <folder>/<name>.lock   locked by the process that works on it; the system frees it when that process dies

Where a file system does not lock across machines, two processes may do the same piece: that costs time and
changes nothing, since the result does not depend on who makes it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.locks import locked

Piece = TypeVar("Piece")
LOOK_SECONDS = 0.5  # between two looks of an idle process whether the others are done


class WorkQueue(Generic[Piece]):
    """Pieces by name, in the order in which they are begun.

    Args:
        folder: for the files; it is made when work begins.
        from_json: converts what a file holds to the result.
    """

    def __init__(self, folder: Path, names: Sequence[str], from_json: Callable[[Any], Piece]) -> None:
        self.names = tuple(names)
        self._folder, self._from_json = RunFolder(folder), from_json
        self._known: dict[str, Piece] = {}  # results do not change, so each is read once

    @property
    def waiting(self) -> list[str]:
        """The names of the pieces without a result."""
        return [name for name in self.names if not self._is_done(name)]

    @property
    def finished(self) -> dict[str, Piece]:
        """The results so far, in the order of the pieces."""
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
        """Do the pieces that no other process has done or is doing, until all have a result.

        A piece whose process dies is done by another.

        Args:
            do: makes the result of a piece, which can be written as JSON.
            on_progress: called with the number of finished pieces, at first and when there may be more.
            is_over: whether the results have been collected; called again and again.
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
            if not has_done:  # others are working on the rest
                time.sleep(LOOK_SECONDS)

    def _do(self, name: str, do: Callable[[str], Any]) -> bool:
        """Do a piece unless another process has it; return whether this one did it."""
        with self._claimed(name) as is_ours:
            if not is_ours or self._is_done(name):  # by another in the meantime
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
