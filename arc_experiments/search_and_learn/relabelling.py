"""Hindsight relabelling: a program that does not solve a task solves the task "its inputs -> its outputs".

A wrong program is the right answer to another question, which costs nothing to check: the inputs stay as the
program saw them, its own outputs take the place of the task's, on demonstrations and tests alike.

    task      two demonstrations of a drawing of nine lines
    program   line(3,0,0,5,0)
              line(2,1,1,1,4)        draws other lines
    relabelled task: the same inputs, each with these two lines as its output; the program solves it

The method is hindsight experience replay (Andrychowicz et al. 2017) for programs, as in SOAR and arc25.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_experiments.programs.languages import language
from arc_experiments.programs.sandbox import Ran, Sandbox
from arc_experiments.tasks import Pair, Program, Task
from arc_experiments.tasks.grids import Grid

Quality = tuple[int, float]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A program that the model wrote for a task.

    Attributes:
        view: the position of the view under which it was written.
        quality: how many demonstrations it solves, and its share of right cells.
    """

    view: int
    program: Program
    quality: Quality


@dataclass(frozen=True, kw_only=True, eq=False)
class Relabelled:
    """A task that a program solves, and how well the program did on the task that it was written for."""

    task: Task
    quality: Quality


def relabel(
    seen_in: Mapping[int, Task], written: Iterable[Written], sandbox: Sandbox, *, most: int
) -> list[Relabelled]:
    """Make the tasks that programs for one task solve, the best program's last.

    A program is left out if it fails on an input, or returns each input as it is. Of programs with the same
    outputs the shortest remains.

    Args:
        seen_in: the task as it looks in each view, by the view's position.
        most: how many tasks to return: those of the best programs.
    """
    distinct = list({(one.view, one.program): one for one in written}.values())
    seen = [seen_in[one.view] for one in distinct]
    inputs = [[pair.input for pair in (*each.train, *each.test)] for each in seen]
    ran = sandbox.run([one.program for one in distinct], inputs)
    shortest: dict[bytes, tuple[int, int]] = {}
    for number, (grids, result) in enumerate(zip(inputs, ran, strict=True)):
        outputs = _outputs(result)
        if outputs is None or all(map(np.array_equal, grids, outputs)):
            continue
        length = language(distinct[number].program.language).length(distinct[number].program.text)
        key = _key([*grids, *outputs])
        shortest[key] = min(shortest.get(key, (length, number)), (length, number))
    best = sorted(shortest.values(), key=lambda found: (distinct[found[1]].quality, -found[0], -found[1]))
    return [
        Relabelled(
            task=_with_outputs(seen[number], distinct[number].program, ran[number], rank),
            quality=distinct[number].quality,
        )
        for rank, (_, number) in enumerate(best[-most:])
    ]


def best_last(relabelled: Iterable[Sequence[Relabelled]]) -> list[Task]:
    """Put the relabelled tasks of several tasks into one order, in which the best come last."""
    every = [one for each in relabelled for one in each]
    return [one.task for one in sorted(every, key=lambda one: one.quality)]  # stable


def _outputs(ran: Ran) -> list[Grid] | None:
    grids = [outcome.grid for outcome in ran.outcomes if outcome.grid is not None]
    return grids if len(grids) == len(ran.outcomes) else None


def _key(grids: Sequence[Grid]) -> bytes:
    return b"".join(bytes(grid.shape) + grid.tobytes() for grid in grids)


def _with_outputs(task: Task, program: Program, ran: Ran, rank: int) -> Task:
    pairs = tuple(
        Pair(input=pair.input, output=outcome.grid)
        for pair, outcome in zip((*task.train, *task.test), ran.outcomes, strict=True)
    )
    num_shown = len(task.train)
    return Task(
        id=f"{task.id}~{rank}",
        train=pairs[:num_shown],
        test=pairs[num_shown:],
        split=task.split,
        program=program,
    )
