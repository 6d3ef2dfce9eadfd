"""Scores of programs: pass@n is the mean over all subsets, and what is verified need not be right."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from arc_experiments.scoring.by_program import program_scores
from arc_experiments.scoring.candidates import Candidate, ProgramAnswer
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet

RIGHT, WRONG = np.array([[1]], np.uint8), np.array([[2]], np.uint8)


def task(name: str, num_tests: int = 1) -> Task:
    pair = Pair(input=WRONG, output=RIGHT)
    return Task(id=name, train=(pair, pair), test=(pair,) * num_tests)


def program(
    task_id: str,
    sample: int,
    text: str,
    demonstrations: tuple[bool, ...],
    tests: Sequence[Any],
    *,
    reason: str | None = None,
    view: int = 0,
) -> list[Candidate]:
    """The candidates of one program; a test that is a text is the reason why there is no grid."""
    answer = ProgramAnswer(
        program=Program(language="draw", text=text),
        demonstrations=demonstrations,
        right_cells=sum(demonstrations) / 2,
        reason=reason,
    )
    return [
        Candidate(
            task_id=task_id,
            test_index=number,
            view=view,
            sample=sample,
            transforms="identity",
            text=text,
            num_tokens=5,
            log_probability=-1.0,
            grid=None if isinstance(grid, str) else grid,
            reason=grid if isinstance(grid, str) else None,
            program=answer,
        )
        for number, grid in enumerate(tests)
    ]


TASKS = TaskSet([task("seen"), task("hard", 2), task("silent")])
YES, HALF, NO = (True, True), (True, False), (False, False)
SEEN = [
    program("seen", 0, "pixel(1,0,0)", YES, [RIGHT]),
    program("seen", 1, "pixel(1,0,0)", YES, [RIGHT]),
    program("seen", 2, "pixel(2,0,0)", YES, [WRONG]),  # verified, and wrong on the test
    program("seen", 3, "no program", (), ["syntax"], reason="syntax"),
    program("seen", 4, "pixel(3,0,0)", HALF, [RIGHT]),  # right, though not verified
]
HARD = [
    program("hard", 0, "pixel(4,0,0)", YES, [RIGHT, WRONG]),  # of two test outputs one
    program("hard", 1, "pixel(5,0,0)", NO, ["timeout", RIGHT], reason="timeout"),
    program("hard", 2, "pixel(4,0,0)", YES, [RIGHT, WRONG], view=1),  # another program: it sees another task
]
CANDIDATES = [candidate for group in SEEN + HARD for candidate in group]


def scores(candidates: Sequence[Candidate] = CANDIDATES, tasks: TaskSet = TASKS) -> dict[str, Any]:
    found = program_scores(tasks, candidates)
    assert found is not None
    return found


def over_subsets(number: int, does: Callable[[Sequence[list[Candidate]]], float]) -> float:
    """The mean over all choices of `number` programs of each task, then over tasks."""
    means = []
    for programs in (SEEN, HARD, []):
        chosen = list(combinations(programs, min(number, len(programs))))
        means.append(sum(map(does, chosen)) / len(chosen))
    return sum(means) / len(means)


@pytest.mark.parametrize("row", range(4))
def test_fewer_programs_are_the_mean_over_all_that_could_have_been_sampled(row: int) -> None:
    def answers(chosen: Sequence[list[Candidate]]) -> list[ProgramAnswer]:
        return [group[0].program for group in chosen if group[0].program is not None]

    found = scores()["by_num_sampled"][row]
    expected = {
        "valid": lambda chosen: sum(one.reason is None for one in answers(chosen)),
        "distinct": lambda chosen: len(
            {(g[0].view, one.program.text) for g, one in zip(chosen, answers(chosen), strict=True)}
            - {(0, "no program")}
        ),
        "verified": lambda chosen: any(one.verified for one in answers(chosen)),
        "right": lambda chosen: any(all(one.grid is RIGHT for one in group) for group in chosen),
    }
    for name, does in expected.items():
        assert found[name] == pytest.approx(over_subsets(found["sampled"], does)), name


def test_the_numbers_sampled_double_up_to_all() -> None:
    assert [row["sampled"] for row in scores()["by_num_sampled"]] == [1, 2, 4, 5]


def test_programs_are_counted_once_however_many_test_outputs_they_give() -> None:
    counts = {name: value for name, value in scores().items() if isinstance(value, int)}
    assert counts == {
        "num_tasks": 3, "sampled": 8, "valid": 6, "distinct": 6, "verified": 5, "right": 3,
        "most_sampled": max(row["sampled"] for row in scores()["by_num_sampled"]),
    }  # fmt: skip


def test_verified_programs_that_are_wrong_on_a_test_are_counted_by_program_and_by_task() -> None:
    assert scores()["verified_wrong"] == {"programs": 4, "wrong": 3, "tasks": 2, "tasks_wrong": 1}


def test_reasons_are_those_of_programs_not_of_test_outputs() -> None:
    assert scores()["reasons"] == {"syntax": 1, "timeout": 1}


def test_without_programs_there_is_nothing_to_say() -> None:
    grid = Candidate(
        task_id="seen", test_index=0, view=0, transforms="identity", text="1", num_tokens=1,
        log_probability=-1.0, grid=RIGHT, reason=None,
    )  # fmt: skip
    assert program_scores(TASKS, [grid]) is None
    assert scores([grid, *CANDIDATES]) == scores()


def test_tasks_without_solutions_have_no_part() -> None:
    unsolved = task("hard", 2).without_solutions()
    found = scores(tasks=TaskSet([TASKS["seen"], unsolved]))
    assert (found["num_tasks"], found["sampled"]) == (1, 5)
