"""What the stream trains on: a number of tasks, each drawn when it is asked for.

A data YAML's `source` names a dataclass with `read(bad_tasks) -> TrainingSource`: an archive of files, a package,
generators. Most give `FixedTasks`; tasks that hold more pairs than a visit shows, or make them, draw.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import numpy as np

from arc_experiments.tasks.task import Pair, Task, TaskSet


class TrainingSource(Protocol):
    """Tasks by number, in the order of `ids`."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def fixed(self) -> TaskSet:
        """Those of its tasks that are the same at each visit. Only these can be held out."""

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        """Task `number`, which may be a new instance of it at each visit, from the rng alone."""

    def pairs(self, number: int) -> Iterable[Pair]:
        """Every pair that is kept of task `number`; none of one whose pairs are made by a generator."""


class Reader(Protocol):
    """An option of `data.source`."""

    def read(self, bad_tasks: "BadTasks") -> TrainingSource: ...


@runtime_checkable
class TokenizerReader(Protocol):
    """An option of `data.source` whose tasks may depend on the model's tokenizer, which it loads if it needs it."""

    def read_with(self, tokenizer: Callable[[], Any], bad_tasks: "BadTasks") -> TrainingSource: ...


@dataclass(frozen=True)
class FixedTasks:
    """Tasks that are the same at each visit."""

    fixed: TaskSet

    @property
    def ids(self) -> tuple[str, ...]:
        return self.fixed.ids

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        return self.fixed[number]

    def pairs(self, number: int) -> Iterable[Pair]:
        task = self.fixed[number]
        return (*task.train, *task.test)


class Joined:
    """The tasks of several sources one after another, which must have other ids each."""

    def __init__(self, sources: Iterable[TrainingSource]) -> None:
        self._sources = tuple(sources)
        self.ids = tuple(task_id for source in self._sources for task_id in source.ids)
        self.fixed = TaskSet(task for source in self._sources for task in source.fixed)
        self._ends = list(accumulate(len(source.ids) for source in self._sources))

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        source, own = self._place(number)
        return source.draw(own, rng)

    def pairs(self, number: int) -> Iterable[Pair]:
        source, own = self._place(number)
        return source.pairs(own)

    def _place(self, number: int) -> tuple[TrainingSource, int]:
        place = bisect_right(self._ends, number)
        return self._sources[place], number - ([0, *self._ends][place])


class BadTasks:
    """What happens to a task that cannot be read: the reading ends there, or it is left out and noted.

    Attributes:
        skipped: a message for each task left out: file, task, pair, reason.
        notes: what else there is to know about the tasks that were read, a line each.
    """

    def __init__(self, *, skip: bool = False) -> None:
        self._skip = skip
        self.skipped: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Reads one task within; a ValueError of it is raised, or noted."""
        try:
            yield
        except ValueError as error:
            if not self._skip:
                raise ValueError(f"{error} (data.on_bad_task=skip leaves such tasks out)") from error
            self.skipped.append(str(error))
