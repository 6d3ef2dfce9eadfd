"""The programs behind attempts: which are shown, and what they give for the demonstrations."""

from collections.abc import Iterator

import numpy as np
import pytest

from arc_experiments.augmentation import draw_views
from arc_experiments.jobs.shown_programs import shown_programs
from arc_experiments.programs.canvases import painted
from arc_experiments.programs.languages import language
from arc_experiments.programs.languages.draw import read_calls
from arc_experiments.programs.sandbox import ProgramLimits, Sandbox
from arc_experiments.report.programs import ShownProgram
from arc_experiments.scoring.candidates import Candidate, ProgramAnswer
from arc_experiments.scoring.selection import votes_then_log_probability
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet

TRUTH = "rect(3,1,1,2,2)\nline(8,0,0,0,5)"
LONGER = f"{TRUTH}\npixel(8,0,0)"
CLOSE = "rect(3,1,1,2,2)"
SEED = 3


def run(text: str, grid: Grid) -> Grid:
    return painted(grid, read_calls(text))


INPUTS = [np.full((6, 6), colour, np.uint8) for colour in range(5)]
PAIRS = tuple(Pair(input=grid, output=run(TRUTH, grid)) for grid in INPUTS)
TASK = Task(id="task", train=PAIRS[:3], test=PAIRS[3:])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(num_processes=1, limits=ProgramLimits(cpu_seconds=5)) as sandbox:
        yield sandbox


def answer(
    text: str, grids: tuple[Grid, ...], demonstrations: tuple[bool, ...], sample: int, view: int = 0
) -> list[Candidate]:
    program = ProgramAnswer(
        program=Program(language="draw", text=text), demonstrations=demonstrations, right_cells=0.9
    )
    return [
        Candidate(
            task_id="task", test_index=number, view=view, sample=sample, transforms="", text=text,
            num_tokens=9, log_probability=-1.0, grid=grid, reason=None, program=program,
        )
        for number, grid in enumerate(grids)
    ]  # fmt: skip


def ran(text: str, sample: int) -> list[Candidate]:
    grids = tuple(run(text, pair.input) for pair in TASK.test)
    right = tuple(np.array_equal(run(text, pair.input), pair.output) for pair in TASK.train)
    return answer(text, grids, right, sample)


def shown(candidates: list[Candidate], sandbox: Sandbox) -> list[ShownProgram]:
    return shown_programs(TaskSet([TASK]), candidates, votes_then_log_probability, sandbox, seed=SEED)


def test_the_shortest_verified_program_is_shown_once_for_all_test_outputs(sandbox: Sandbox) -> None:
    first, second = shown([*ran(LONGER, 0), *ran(CLOSE, 1), *ran(TRUTH, 2)], sandbox)
    assert (first.program.text, first.length, first.attempts) == (TRUTH, 2, ((0, 1), (1, 1)))
    assert all(map(np.array_equal, first.outputs, (pair.output for pair in TASK.train)))
    assert (second.program.text, second.attempts) == (CLOSE, ((0, 2), (1, 2)))
    assert all(map(np.array_equal, second.outputs, (run(CLOSE, pair.input) for pair in TASK.train)))


def test_what_a_program_gives_under_its_view_is_turned_back(sandbox: Sandbox) -> None:
    view = draw_views(TASK, 2, SEED)[1]
    turn, colours = view.steps[:2]
    mapping = dict(enumerate(colours.table.tolist()))
    draw = language("draw")
    text = draw.turn(TRUTH, turn.name, 6, 6)
    assert text is not None
    text = draw.recolour(text, mapping)
    assert text is not None
    grids = tuple(pair.output for pair in TASK.test)
    (one,) = shown(answer(text, grids, (True,) * 3, 0, view=1), sandbox)
    assert one.transforms == view.name
    assert text != TRUTH
    assert all(map(np.array_equal, one.outputs, (pair.output for pair in TASK.train)))


def test_a_grid_that_was_answered_has_no_program_unless_one_is_verified(sandbox: Sandbox) -> None:
    grid = run(CLOSE, TASK.test[0].input)
    answered = Candidate(
        task_id="task", test_index=0, view=0, transforms="identity", text="", num_tokens=9,
        log_probability=-1.0, grid=grid, reason=None,
    )  # fmt: skip
    (one,) = shown([answered, *ran(CLOSE, 0)], sandbox)
    assert one.attempts == ((1, 1),), "at the other test output the program alone gave it"
    assert shown([answered], sandbox) == []
