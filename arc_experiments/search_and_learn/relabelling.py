"""Hindsight relabelling: a program that does not solve a task solves the task "its inputs -> its outputs".

A wrong program is the right answer to another question, which costs nothing to check: the inputs stay as the
program saw them, its own outputs take the place of the task's, on demonstrations and tests alike.

    task      two demonstrations of a drawing of nine lines
    program   line(3,0,0,5,0)
              line(2,1,1,1,4)        draws other lines
    relabelled task: the same inputs, each with these two lines as its output; the program solves it

Programs joined of several (see `joining`) are relabelled in the same way, so that a model that writes only
short programs sees longer ones.

The method is hindsight experience replay (Andrychowicz et al. 2017) for programs, as in SOAR and arc25.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_experiments.programs.languages import language
from arc_experiments.programs.sandbox import Sandbox
from arc_experiments.programs.verification import verify
from arc_experiments.search_and_learn import joining
from arc_experiments.tasks import Pair, Program, Task
from arc_experiments.tasks.grids import Grid

Quality = tuple[int, float]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A program for a task; `view` is the position of the view under which it was written."""

    view: int
    program: Program


@dataclass(frozen=True, kw_only=True, eq=False)
class Relabelled:
    """A task that a program solves.

    Attributes:
        quality: how many demonstrations of the task for which it was written the program solves, and its
            share of right cells.
    """

    task: Task
    quality: Quality


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What a program did on the task for which it was written, as its view shows it."""

    written: Written
    seen: Task
    outputs: Sequence[Grid]
    quality: Quality
    length: int


def relabel(
    seen_in: Mapping[int, Task], written: Iterable[Written], sandbox: Sandbox, *, most: int, joined: int = 0
) -> list[Relabelled]:
    """Make the tasks that programs for one task solve, the best program's last.

    A program is left out if it fails on an input, or returns each input as it is. Of programs with the same
    outputs the shortest remains.

    Args:
        seen_in: the task as it looks in each view, by the view's position.
        most: how many programs to take: the best ones.
        joined: how many to add that are several of them in one, whose outputs none of the programs gives.
    """
    found = _find(seen_in, written, sandbox)
    taken = _best(found.values())[-most:]
    if joined:
        taken = _best([*taken, *_joined(seen_in, found, sandbox, joined)])
    return [_relabelled(one, rank) for rank, one in enumerate(taken)]


def best_last(relabelled: Iterable[Sequence[Relabelled]]) -> list[Task]:
    """Put the relabelled tasks of several tasks into one order, in which the best come last."""
    every = [one for each in relabelled for one in each]
    return [one.task for one in sorted(every, key=lambda one: one.quality)]  # stable


def _find(seen_in: Mapping[int, Task], written: Iterable[Written], sandbox: Sandbox) -> dict[bytes, _Found]:
    """Run programs; return the shortest for all outputs that differ, by inputs and outputs."""
    distinct = list(dict.fromkeys(written))
    verdicts = verify(sandbox, [(seen_in[one.view], one.program) for one in distinct])
    shortest: dict[bytes, _Found] = {}
    for one, verdict in zip(distinct, verdicts, strict=True):
        seen, outcomes = seen_in[one.view], (*verdict.outcomes, *verdict.tests)
        inputs = [pair.input for pair in (*seen.train, *seen.test)]
        outputs = [outcome.grid for outcome in outcomes if outcome.grid is not None]
        if len(outputs) < len(outcomes) or all(map(np.array_equal, inputs, outputs)):
            continue
        found = _Found(
            written=one,
            seen=seen,
            outputs=outputs,
            quality=(sum(verdict.demonstrations), verdict.right_cells),
            length=language(one.program.language).length(one.program.text),
        )
        key = b"".join(bytes(grid.shape) + grid.tobytes() for grid in (*inputs, *outputs))
        shortest[key] = min(shortest.get(key, found), found, key=lambda each: each.length)
    return shortest


def _best(found: Iterable[_Found]) -> list[_Found]:
    """Sort by quality, then from long to short; the text makes the order independent of that given."""
    return sorted(
        found, key=lambda one: (one.quality, -one.length, one.written.view, one.written.program.text)
    )


def _joined(
    seen_in: Mapping[int, Task], found: Mapping[bytes, _Found], sandbox: Sandbox, most: int
) -> list[_Found]:
    """Join the programs of each view; return those with outputs that none of the programs gives."""
    written = list[Written]()
    for view, seen in seen_in.items():
        texts = [
            one.written.program.text
            for one in _best(found.values())
            if one.written.view == view and one.written.program.language == joining.LANGUAGE
        ]
        for text in joining.join(texts, seen.train)[: 2 * most]:
            written.append(Written(view=view, program=Program(language=joining.LANGUAGE, text=text)))
    new = _find(seen_in, written, sandbox)
    return _best(one for key, one in new.items() if key not in found)[-most:]


def _relabelled(found: _Found, rank: int) -> Relabelled:
    seen = found.seen
    pairs = tuple(
        Pair(input=pair.input, output=output)
        for pair, output in zip((*seen.train, *seen.test), found.outputs, strict=True)
    )
    num_shown = len(seen.train)
    task = Task(
        id=f"{seen.id}~{rank}",
        train=pairs[:num_shown],
        test=pairs[num_shown:],
        split=seen.split,
        program=found.written.program,
    )
    return Relabelled(task=task, quality=found.quality)
