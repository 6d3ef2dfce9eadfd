"""Own parts of an experiment, which the files in conf/ name: docs/extending.md explains each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from arc_experiments.augmentation import ColourMap
from arc_experiments.scoring.selection import Ranked
from arc_experiments.tasks import BadTasks, FixedTasks, Pair, Task, TaskSet, TrainingSource


@dataclass(frozen=True, kw_only=True)
class TwoColours:
    """An augmentation: two colours other than the background change places in all grids."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability} is not within 0..1")

    def draw(self, task: Task, rng: np.random.Generator) -> ColourMap | None:
        """Return the step to apply to the task, or None to leave it as it is."""
        chance, first, second = rng.random(), *rng.choice(np.arange(1, 10), 2, replace=False)
        if chance >= self.probability:
            return None
        table = np.arange(10, dtype=np.uint8)
        table[[first, second]] = second, first
        return ColourMap(table)


@dataclass(frozen=True, kw_only=True)
class Mirrors(TrainingSource):
    """A source: one task, whose output is its input mirrored, with new grids on every visit."""

    side: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.side <= 30:
            raise ValueError(f"side={self.side} is not within 2..30")

    def read(self, bad_tasks: BadTasks) -> "Mirrors":
        """Return the tasks to train on: this is their source itself."""
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all tasks."""
        return ("mirrored",)

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        """Draw an instance of a task, as a function of the rng alone."""
        return self.task(self.ids[number], rng)

    def task(self, task_id: str, rng: np.random.Generator) -> Task:
        """Make a task of three demonstrations and a test pair."""
        inputs = rng.integers(0, 10, (4, self.side, self.side), dtype=np.uint8)
        pairs = [Pair(input=grid, output=grid[:, ::-1].copy()) for grid in inputs]
        return Task(id=task_id, train=tuple(pairs[:3]), test=tuple(pairs[3:]))


@dataclass(frozen=True, kw_only=True)
class FixedMirrors:
    """A source of fixed tasks, to validate on."""

    num_tasks: int = 4
    side: int = 4

    def read(self, bad_tasks: BadTasks) -> FixedTasks:
        """Return the same tasks each time."""
        return FixedTasks(TaskSet(self._tasks()))

    def _tasks(self) -> Iterator[Task]:
        for number in range(self.num_tasks):
            yield Mirrors(side=self.side).task(f"mirrored_{number}", np.random.default_rng(number))


def largest_first(grids: Iterable[Ranked]) -> list[Ranked]:
    """Order the distinct grids of one test output: the larger first; ties go by votes."""
    return sorted(grids, key=lambda ranked: -ranked.grid.size)


def stairs(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """Return the share of the learning rate at a step: half as much after every quarter of the training."""
    if step < warmup_steps:
        return step / warmup_steps
    return float(0.5 ** (4 * step // max_steps))
