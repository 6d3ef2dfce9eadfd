"""What shares one adapted model, and what that is trained on: a task's demonstrations, some in turn as test pairs.

demonstrations a b c, one left out  ->  bc|a  ac|b  ab|c          (demonstrations | test pairs)
                      two left out  ->  c|ab  b|ac  a|bc
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from arc_experiments.naming import slug
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
