"""Tasks that are drawn on every visit: some of many pairs, or one of several variants."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from arc_experiments.config.plurals import plural
from arc_experiments.tasks.ready_rows import Row
from arc_experiments.tasks.source import BadTasks, FixedTasks, Joined, TrainingSource
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet


class Drawn(Protocol):
    """A task with a new instance on every visit."""

    @property
    def id(self) -> str: ...

    def draw(self, rng: np.random.Generator) -> Task: ...

    @property
    def pairs(self) -> Iterable[Pair]: ...

    @property
    def program(self) -> Program | None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PairPool:
    """Different pairs of one rule; a visit draws some, and the last is the test pair.

    Attributes:
        num_demonstrations: minimum and maximum of a visit's demonstrations.
        program: maps the input of every pair to its output; None if no such program is known.

    Raises:
        ValueError: there are too few pairs for one visit.
    """

    id: str
    pairs: tuple[Pair, ...]
    num_demonstrations: tuple[int, int]
    split: str = ""
    program: Program | None = None

    def __post_init__(self) -> None:
        if len(self.pairs) <= self.num_demonstrations[0]:
            raise ValueError(
                f"task {self.id} has {plural(len(self.pairs), 'different pair')}, but a visit draws at least "
                f"{self.num_demonstrations[0]} demonstrations and a test pair"
            )

    def draw(self, rng: np.random.Generator) -> Task:
        low, high = self.num_demonstrations
        count = int(rng.integers(low, min(high, len(self.pairs) - 1) + 1))
        drawn = [self.pairs[number] for number in rng.choice(len(self.pairs), count + 1, replace=False)]
        return Task(
            id=self.id, train=tuple(drawn[:-1]), test=(drawn[-1],), split=self.split, program=self.program
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Variants:
    """Several tasks with the same id; a visit draws one."""

    id: str
    variants: tuple[Task | PairPool, ...]
    program: None = None

    def draw(self, rng: np.random.Generator) -> Task:
        drawn = self.variants[int(rng.integers(len(self.variants)))]
        return drawn.draw(rng) if isinstance(drawn, PairPool) else drawn

    @property
    def pairs(self) -> Iterator[Pair]:
        for variant in self.variants:
            yield from (*variant.train, *variant.test) if isinstance(variant, Task) else variant.pairs


def without_repetitions(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Drop repeated pairs: a demonstration that is also the test pair would reveal the answer."""
    found: dict[tuple[object, ...], Pair] = {}
    for pair in pairs:
        grids = (pair.input, pair.output)
        key = tuple(grid if grid is None else (grid.shape, grid.tobytes()) for grid in grids)
        found.setdefault(key, pair)
    return tuple(found.values())


@dataclass(frozen=True)
class DrawnTasks:
    """A source of tasks that are drawn."""

    tasks: tuple[Drawn, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(task.id for task in self.tasks)

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        return self.tasks[number].draw(rng)

    def pairs(self, number: int) -> Iterable[Pair]:
        return self.tasks[number].pairs

    def language(self, number: int) -> str | None:
        program = self.tasks[number].program
        return None if program is None else program.language


def kept_tasks(found: Iterable[Task | Drawn], where: str, bad_tasks: BadTasks) -> TrainingSource:
    """Make a source of the tasks that a reader found: the fixed ones, then the drawn ones, each by id.

    A ready row that is found again is recorded among the skipped ones.

    Raises:
        ValueError: there are no tasks, or two have the same id, or some are invalid.
    """
    num_before = len(bad_tasks.skipped)
    tasks = sorted(_without_repeated_rows(found, where, bad_tasks), key=lambda task: task.id)
    bad_tasks.check()
    if not tasks:
        skipped = bad_tasks.skipped[num_before:]
        reason = f"none of its tasks can be read; the first: {skipped[0]}" if skipped else "it has no tasks"
        raise ValueError(f"{where}: {reason}")
    for first, second in pairwise(tasks):
        if first.id == second.id:
            raise ValueError(f"{where}: it has two tasks with the id {first.id}")
    fixed = FixedTasks(TaskSet(task for task in tasks if isinstance(task, Task)))
    drawn = DrawnTasks(tuple(task for task in tasks if not isinstance(task, Task)))
    if not drawn.tasks:
        return fixed
    return Joined((fixed, drawn)) if len(fixed.fixed) else drawn


def _without_repeated_rows(
    found: Iterable[Task | Drawn], where: str, bad_tasks: BadTasks
) -> Iterator[Task | Drawn]:
    rows: set[str] = set()
    for task in found:
        if isinstance(task, Row) and task.id in rows:
            bad_tasks.skipped.append(f"{where}: {task.id} is a repetition, which is kept once")
            continue
        if isinstance(task, Row):
            rows.add(task.id)
        yield task
