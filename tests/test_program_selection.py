"""Selection among programs and grids: verified programs first, then grids, then programs that came close."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_experiments.config.schema import NEED_LIKELIHOODS, SELECTIONS
from arc_experiments.scoring.by_num_predictions import by_num_predictions
from arc_experiments.scoring.candidates import Candidate, Likelihood, ProgramAnswer
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.selection import Ranked, rules, select
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.task import Program

A, B, C, D = [[1]], [[2]], [[3, 3]], [[4]]
SHORT, LONG = "pixel(1,0,0)", "pixel(1,0,0)\npixel(2,0,0)"


def answered(cells: list[list[int]] | None, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "task_id": "a", "test_index": 0, "view": 0, "transforms": "identity", "text": "1", "num_tokens": 10,
        "log_probability": -5.0, "grid": None if cells is None else np.array(cells, np.uint8),
        "reason": "raised" if cells is None else None,
    }  # fmt: skip
    return Candidate(**(fields | changes))


def by_program(
    cells: list[list[int]] | None,
    text: str = SHORT,
    right: tuple[bool, ...] = (True, True),
    right_cells: float = 0.5,
    **changes: Any,
) -> Candidate:
    program = ProgramAnswer(
        program=Program(language="draw", text=text), demonstrations=right, right_cells=right_cells
    )
    return answered(cells, program=program, **changes)


def wrong(cells: list[list[int]], text: str, *, right: int = 0, right_cells: float = 0.5) -> Candidate:
    """The output of a program with so many of three demonstrations right."""
    return by_program(cells, text, tuple(number < right for number in range(3)), right_cells)


def cells(ranked: list[Ranked]) -> list[list[list[int]]]:
    return [one.grid.tolist() for one in ranked]


def test_a_verified_program_stands_before_many_grids_and_these_before_other_programs() -> None:
    votes = [answered(B, view=view, log_probability=-0.1) for view in range(8)]
    close = [wrong(C, f"pixel({colour},0,0)", right=2) for colour in range(9)]
    assert cells(select([*close, *votes, by_program(A)])) == [A, B, C]


def test_more_distinct_verified_programs_stand_first_and_a_repeated_one_counts_once() -> None:
    repeated = [by_program(A, sample=sample) for sample in range(5)]
    two = [by_program(B, "pixel(7,0,0)"), by_program(B, "pixel(8,0,0)")]
    assert cells(select([*repeated, *two])) == [B, A]


def test_the_same_text_in_another_view_is_another_program() -> None:
    both = [by_program(B, view=0), by_program(B, view=1)]
    assert cells(select([by_program(A, "pixel(7,0,0)"), *both])) == [B, A]


def test_among_equals_the_shorter_verified_program_stands_first() -> None:
    assert cells(select([by_program(B, LONG), by_program(A, SHORT)])) == [A, B]


def test_other_programs_are_ordered_by_demonstrations_then_cells_then_number() -> None:
    programs = [
        wrong(A, "pixel(1,0,0)", right=1, right_cells=0.9),
        wrong(B, "pixel(2,0,0)", right=2, right_cells=0.1),
        wrong(C, "pixel(3,0,0)", right=1, right_cells=0.95),
        wrong(D, "pixel(4,0,0)", right=1, right_cells=0.9),
        wrong(D, "pixel(5,0,0)", right=0, right_cells=0.0),
    ]
    assert cells(select(programs)) == [B, C, D, A]


@pytest.mark.parametrize("name", SELECTIONS)
def test_programs_have_no_part_in_the_rule_for_grids(name: str) -> None:
    likely = (Likelihood(view=0, log_probability=-1.0, num_tokens=5),)
    less = (Likelihood(view=0, log_probability=-2.0, num_tokens=5),)
    grids = [answered(A, likelihoods=likely), answered(B, log_probability=-8.0, likelihoods=less)]
    programs = [wrong(B, f"pixel({colour},0,0)", right=2) for colour in range(6)]
    rule = rules(with_likelihoods=True)[name]
    assert cells(select([*programs, *grids], rule)) == cells(select(grids, rule)) == [A, B]


def test_a_program_without_a_grid_here_counts_nothing() -> None:
    assert cells(select([by_program(None), by_program(None, "pixel(7,0,0)"), answered(B)])) == [B]


def test_a_program_without_demonstrations_is_not_verified() -> None:
    assert not ProgramAnswer(
        program=Program(language="draw", text=SHORT), demonstrations=(), right_cells=0.0
    ).verified


@given(st.permutations(range(8)))
def test_the_order_does_not_depend_on_the_order_of_the_candidates(order: list[int]) -> None:
    candidates = [
        by_program(A, LONG), by_program(B, LONG), wrong(C, "pixel(3,0,0)"), wrong(D, "pixel(4,0,0)"),
        answered([[5]]), answered([[6]], view=1), by_program(None), by_program([[7]], SHORT),
    ]  # fmt: skip
    assert cells(select([candidates[n] for n in order])) == cells(select(candidates))


def test_scores_follow_the_same_order() -> None:
    def grid(cells: list[list[int]]) -> Any:
        return np.array(cells, np.uint8)

    shown = (Pair(input=grid(A), output=grid(A)),)
    tasks = TaskSet([Task(id="a", train=shown, test=(Pair(input=grid(A), output=grid(A)),))])
    votes = [answered(cells, view=view) for cells in (B, C) for view in range(3)]
    scores = score(tasks, [*votes, by_program(A)])
    assert scores["pass_at_1"] == 1
    assert scores["vote_2"] == 0
    names = [name for name in SELECTIONS if name not in NEED_LIKELIHOODS]
    assert {name: found["pass_at_1"] for name, found in scores["by_selection"].items()} == dict.fromkeys(
        names, 1
    )
    rows = by_num_predictions(tasks, [*votes, by_program(A)])
    assert [rows[0]["pass_at_1"], rows[-1]["pass_at_1"]] == [1 / 7, 1]


@pytest.mark.parametrize("cells", [A, None])
def test_a_program_is_written_and_read_back(cells: list[list[int]] | None) -> None:
    before = by_program(cells, LONG, (True, False), 1 / 3)
    after = Candidate.from_json(before.to_json())
    assert after.program == before.program
    assert after.to_json() == before.to_json()


def test_an_answer_without_a_program_is_written_as_before() -> None:
    assert "program" not in json.loads(answered(A).to_json())


def test_a_program_that_is_not_whole_is_refused() -> None:
    record = json.loads(by_program(A).to_json())
    del record["program"]["right_cells"]
    with pytest.raises(ValueError, match="this line holds no whole candidate"):
        Candidate.from_record(record)
