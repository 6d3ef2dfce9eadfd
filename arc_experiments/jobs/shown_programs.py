"""The programs behind the attempts, run once more to show what each gives for the demonstrations."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from arc_experiments.augmentation import NotInImage, View, draw_views
from arc_experiments.programs.languages import language
from arc_experiments.programs.sandbox import Outcome, Sandbox
from arc_experiments.report.programs import ShownProgram
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.per_output import by_output
from arc_experiments.scoring.selection import NUM_ATTEMPTS, Rule, select
from arc_experiments.scoring.support import best_program
from arc_experiments.tasks import Program, Task, TaskSet
from arc_experiments.tasks.grids import Grid


def shown_programs(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule, sandbox: Sandbox, *, seed: int
) -> list[ShownProgram]:
    """For each attempt whose grid programs gave, the best of them; task by task.

    Args:
        seed: of the views.
    """
    found = by_output(tasks, candidates)
    chosen: list[tuple[Task, View, Program, list[tuple[int, int]]]] = []
    for task in tasks:
        behind: dict[tuple[int, Program], list[tuple[int, int]]] = {}
        for test_index in range(len(task.test)):
            for number, one in _behind_attempts(found[task.id, test_index], rule):
                behind.setdefault(one, []).append((test_index, number))
        views = draw_views(task, 1 + max((view for view, _ in behind), default=0), seed)
        chosen += [(task, views[view], program, attempts) for (view, program), attempts in behind.items()]
    ran = sandbox.run(
        [program for _, _, program, _ in chosen],
        [[view.see(pair.input) for pair in task.train] for task, view, _, _ in chosen],
    )
    return [
        ShownProgram(
            task_id=task.id,
            attempts=tuple(attempts),
            transforms=view.name,
            program=program,
            length=language(program.language).length(program.text),
            outputs=tuple(_output(view, outcome) for outcome in one.outcomes),
        )
        for (task, view, program, attempts), one in zip(chosen, ran, strict=True)
    ]


def _behind_attempts(
    candidates: Sequence[Candidate], rule: Rule
) -> Iterator[tuple[int, tuple[int, Program]]]:
    """The number of each attempt that programs gave, from 1, and the best of these, with its view."""
    for number, ranked in enumerate(select(candidates, rule)[:NUM_ATTEMPTS], start=1):
        if ranked.support is None or not (ranked.support.num_verified or not ranked.support.num_answers):
            continue
        best = best_program(
            one for one in candidates if one.grid is not None and np.array_equal(one.grid, ranked.grid)
        )
        if best is not None and best.program is not None:
            yield number, (best.view, best.program.program)


def _output(view: View, outcome: Outcome) -> Grid | str:
    if outcome.grid is None:
        return str(outcome.reason)
    try:
        return view.undo(outcome.grid)
    except NotInImage as error:
        return error.reason
