"""Sources of training tasks: numbered tasks that are drawn on request.

A data YAML's `source` names a dataclass with `read(bad_tasks) -> TrainingSource`: an archive of files, a
package, generators. Most return `FixedTasks`; sources with many pairs per task, or with generators, draw new
pairs.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import numpy as np

from arc_experiments.config.plurals import plural
from arc_experiments.tasks.task import Pair, Task, TaskSet

MOST_NAMED = 10  # invalid tasks in one message
SKIPS = "data.on_bad_task=skip leaves such tasks out"


class TrainingSource(Protocol):
    """Tasks by number, in the order of `ids`.

    A class that inherits from it takes over what is the same in generators: nothing fixed, stored or solved.
    """

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def fixed(self) -> TaskSet:
        """The tasks that are the same on every visit; only these can be held out."""
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        """Draw an instance of task `number`, as a function of the rng alone."""

    def pairs(self, number: int) -> Iterable[Pair]:
        """Return every stored pair of task `number`; none if a generator makes its pairs."""
        return ()

    def language(self, number: int) -> str | None:
        """Return the language of the programs that task `number` is drawn with; None if it has none."""
        return None


class Reader(Protocol):
    """An option of `data.source`."""

    def read(self, bad_tasks: "BadTasks") -> TrainingSource: ...


@runtime_checkable
class ProcessorReader(Protocol):
    """An option of `data.source` whose tasks may depend on the model's processor or tokenizer, loaded if
    needed.
    """

    def read_with(self, processor: Callable[[], Any], bad_tasks: "BadTasks") -> TrainingSource: ...


@dataclass(frozen=True)
class FixedTasks:
    """Tasks that are the same on every visit."""

    fixed: TaskSet

    @property
    def ids(self) -> tuple[str, ...]:
        return self.fixed.ids

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        return self.fixed[number]

    def pairs(self, number: int) -> Iterable[Pair]:
        task = self.fixed[number]
        return (*task.train, *task.test)

    def language(self, number: int) -> str | None:
        program = self.fixed[number].program
        return None if program is None else program.language


class Joined:
    """Concatenate the tasks of several sources; their ids must differ."""

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

    def language(self, number: int) -> str | None:
        source, own = self._place(number)
        return source.language(own)

    def _place(self, number: int) -> tuple[TrainingSource, int]:
        place = bisect_right(self._ends, number)
        return self._sources[place], number - ([0, *self._ends][place])


class BadTasks:
    """Handle invalid tasks: stop reading, or skip them and record why.

    A reader that catches several before it stops calls `check` at its end.

    Attributes:
        skipped: a message for each skipped task: file, task, pair, reason.
        notes: other remarks about the tasks that were read, one line each.
    """

    def __init__(self, *, skip: bool = False) -> None:
        self._skip = skip
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self._refused: list[str] = []

    @contextmanager
    def caught(self, *, several: bool = False) -> Iterator[None]:
        """Raise or record a ValueError of the block, which reads one task.

        Args:
            several: raise only in `check`, all together.
        """
        try:
            yield
        except ValueError as error:
            if self._skip:
                self.skipped.append(str(error))
            elif not several:
                raise ValueError(f"{error} ({SKIPS})") from error
            else:
                self._refused.append(str(error))

    def check(self) -> None:
        """Raise ValueError if tasks were refused, with their number and a line for each of the first."""
        if not self._refused:
            return
        if len(self._refused) == 1:
            raise ValueError(f"{self._refused[0]} ({SKIPS})")
        count = plural(len(self._refused), "task")
        first = f"; the first {MOST_NAMED}" if len(self._refused) > MOST_NAMED else ""
        lines = [f"{count} cannot be read ({SKIPS}){first}:", *self._refused[:MOST_NAMED]]
        raise ValueError("\n  ".join(lines))
