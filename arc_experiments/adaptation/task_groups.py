"""Which tasks share an adapted model, and what it is trained on: their demonstrations, some in turn as test
pairs.

demonstrations a b c, one left out  ->  bc|a  ac|b  ab|c          (demonstrations | test pairs)
                      two left out  ->  c|ab  b|ac  a|bc
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from arc_experiments.composing.naming import slug
from arc_experiments.tasks import Task, TaskSet


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskGroup:
    """Tasks without solutions that share an adapted model; `name` is fit for a file name.

    Attributes:
        is_again: it is adapted to for the second time, on other samples.
    """

    name: str
    tasks: TaskSet
    is_again: bool = False


def make_task_groups(tasks: TaskSet, num_groups: int | None) -> list[TaskGroup]:
    """Cut the tasks, in their order, into groups of about one size; None: a group for each task."""
    blind = tasks.without_solutions()
    count = len(blind) if num_groups is None else min(num_groups, len(blind))
    parts = [blind.select(map(str, ids)) for ids in np.array_split(blind.ids, count)]
    digits = len(str(count - 1))
    return [
        TaskGroup(name=f"{number:0{digits}}-{slug(part.ids[0])}", tasks=part)
        for number, part in enumerate(parts)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """Task groups whose adapters are trained at once; of several, `name` is no group's own."""

    groups: tuple[TaskGroup, ...]

    @property
    def name(self) -> str:
        first, *others = self.groups
        return f"{first.name}-and-{len(others)}" if others else first.name


def make_bundles(groups: Sequence[TaskGroup], together: int) -> list[Bundle]:
    """Bundle at most `together` groups of about one length each, in bundles of about one size, short ones
    first.

    One by one they keep their order.
    """
    if together == 1:
        return [Bundle(groups=(group,)) for group in groups]
    ordered = sorted(groups, key=_length)
    parts = np.array_split(np.arange(len(ordered)), math.ceil(len(ordered) / together))
    return [Bundle(groups=tuple(ordered[number] for number in part)) for part in parts]


def _length(group: TaskGroup) -> int:
    """Count the cells and row ends of all demonstrations, which its samples are made of."""
    pairs = [pair for task in group.tasks for pair in task.train]
    shapes = [grid.shape for pair in pairs for grid in (pair.input, pair.output) if grid is not None]
    return sum(height * (width + 1) for height, width in shapes)


def in_turn(tasks: Iterable[Task], counts: Sequence[int]) -> TaskSet:
    """Return every way to leave `counts` demonstrations out as test pairs and at least one in; no test pair
    is used.

    Tasks with too few demonstrations have none.
    """
    return TaskSet(
        Task(
            id=f"{task.id}_without_{'_'.join(map(str, left_out))}",
            train=tuple(pair for number, pair in enumerate(task.train) if number not in left_out),
            test=tuple(task.train[number] for number in left_out),
            split=task.split,
        )
        for task in tasks
        for count in counts
        if count < len(task.train)
        for left_out in combinations(range(len(task.train)), count)
    )
