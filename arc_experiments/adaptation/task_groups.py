"""What shares one adapted model, and what that is trained on: a task's demonstrations, some in turn as test pairs.

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
class Unit:
    """Tasks without solutions that share an adapted model; `name` can stand in a file's name."""

    name: str
    tasks: TaskSet


def make_units(tasks: TaskSet, num_groups: int | None) -> list[Unit]:
    """The tasks in their order, in so many groups of about one size; None: each by itself."""
    blind = tasks.without_solutions()
    count = len(blind) if num_groups is None else min(num_groups, len(blind))
    parts = [blind.select(map(str, ids)) for ids in np.array_split(blind.ids, count)]
    digits = len(str(count - 1))
    return [
        Unit(name=f"{number:0{digits}}-{slug(part.ids[0])}", tasks=part) for number, part in enumerate(parts)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Units whose adapters are trained at once; `name` can stand in a file's name, and is none of a unit's of several."""

    units: tuple[Unit, ...]

    @property
    def name(self) -> str:
        first, *others = self.units
        return f"{first.name}-and-{len(others)}" if others else first.name


def make_groups(units: Sequence[Unit], together: int) -> list[Group]:
    """Groups of so many at most, of about one size and each of units of about one length, short ones first.

    One by one they keep their order.
    """
    if together == 1:
        return [Group(units=(unit,)) for unit in units]
    ordered = sorted(units, key=_length)
    parts = np.array_split(np.arange(len(ordered)), math.ceil(len(ordered) / together))
    return [Group(units=tuple(ordered[number] for number in part)) for part in parts]


def _length(unit: Unit) -> int:
    """Cells and ends of rows of all demonstrations, which its samples are made of."""
    pairs = [pair for task in unit.tasks for pair in task.train]
    shapes = [grid.shape for pair in pairs for grid in (pair.input, pair.output) if grid is not None]
    return sum(height * (width + 1) for height, width in shapes)


def in_turn(tasks: Iterable[Task], counts: Sequence[int]) -> TaskSet:
    """Every way to leave so many demonstrations out as test pairs and one at least in; test pairs do not come in.

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
