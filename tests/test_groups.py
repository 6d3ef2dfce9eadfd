"""Scores by kind of task and against the number of predictions, on hand-made cases."""

from itertools import combinations

import numpy as np
import pytest

from arc_experiments.scoring.by_num_predictions import by_num_predictions
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.per_output import HEADLINES
from arc_experiments.scoring.selection import majority_vote
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Pair, Task, TaskSet


def square(side: int, colour: int = 1) -> Grid:
    return np.full((side, side), colour, np.uint8)


def task(name: str, *sides: int, demonstrations: int = 2, split: str = "") -> Task:
    """Its test outputs are squares of these sides."""
    pair = Pair(input=square(1), output=square(1))
    tests = tuple(Pair(input=square(1), output=square(side)) for side in sides)
    return Task(id=name, train=(pair,) * demonstrations, test=tests, split=split)


def answer(name: str, grid: Grid | None, index: int = 0, view: int = 0, sample: int = 0) -> Candidate:
    return Candidate(
        task_id=name, test_index=index, view=view, sample=sample, transforms="", text="", num_tokens=1,
        log_probability=-1.0 - view, grid=grid, reason="no_grid" if grid is None else None,
    )  # fmt: skip


def test_test_outputs_are_grouped_by_size_and_tasks_by_demonstrations() -> None:
    tasks = TaskSet(
        [
            task("a", 3, 30),
            task("b", 3, demonstrations=3),
            task("c", 5, demonstrations=9),
            task("d", 10, demonstrations=6),
        ]
    )
    found = score(tasks, [answer("a", square(3)), answer("b", square(3, 2)), answer("c", square(5))])[
        "by_group"
    ]
    sizes = {
        name: (g["num_tasks"], g["num_test_outputs"], g["pass_at_2"])
        for name, g in found["output_cells"].items()
    }
    assert sizes == {"1-9": (2, 2, 0.5), "10-25": (1, 1, 1), "26-100": (1, 1, 0), "401-900": (1, 1, 0)}
    assert list(sizes) == ["1-9", "10-25", "26-100", "401-900"]
    counts = {
        name: (g["num_tasks"], g["num_test_outputs"], g["pass_at_2"])
        for name, g in found["demonstrations"].items()
    }
    assert counts == {"2": (1, 2, 0.5), "3": (1, 1, 0), "6 or more": (2, 2, 0.5)}
    assert "concept" not in found


def test_concepts_are_the_folders_that_tasks_lie_in() -> None:
    splits = {"a": "Center", "b": "Center", "c": "AboveBelow", "d": ""}
    tasks = TaskSet(task(name, 1, split=split) for name, split in splits.items())
    found = score(tasks, [answer("a", square(1))])["by_group"]["concept"]
    assert list(found) == ["AboveBelow", "Center", "other"]
    assert found["Center"]["pass_at_2"] == 0.5
    low, high = found["Center"]["interval"]
    assert (low, high) == (0, 1)
    (low, high), above = found["AboveBelow"].pop("interval"), found["AboveBelow"]
    assert above == {"num_tasks": 1, "num_test_outputs": 1, "pass_at_2": 0}
    assert (low, high) == pytest.approx((0, 0.975)), "one wrong task says little"


def test_folders_that_say_no_more_than_the_sources_are_left_out() -> None:
    tasks = TaskSet(task(name, 1, split=split) for name, split in (("a", "x"), ("b", "y"), ("c", "y")))
    sources = {"a": "first", "b": "second", "c": "second"}
    assert "concept" not in score(tasks, [], source_of=sources)["by_group"]
    assert "concept" in score(tasks, [], source_of=sources | {"b": "first"})["by_group"]


def test_a_mixture_is_scored_by_source() -> None:
    tasks = TaskSet([task("a", 1, 1), task("b", 1), task("c", 1)])
    answers = [answer("a", square(1)), answer("c", square(1))]
    found = score(tasks, answers, source_of={"a": "arc1", "b": "held_out", "c": "held_out", "d": "arc1"})
    sources = {
        name: (g["num_test_outputs"], g["pass_at_2"]) for name, g in found["by_group"]["source"].items()
    }
    assert sources == {"arc1": (2, 0.5), "held_out": (2, 0.5)}
    one = score(tasks, answers, source_of=dict.fromkeys("abc", "arc1"))
    assert "source" not in one["by_group"]


def test_groups_of_a_kind_hold_every_scored_test_output_once_and_count_as_kaggle_does() -> None:
    tasks = TaskSet([task("a", 2, 2, 2, 20), task("b", 7), task("c", 3, demonstrations=4)])
    result = score(tasks, [answer("a", square(2), index=1), answer("b", square(7)), answer("c", square(3))])
    for kind in result["by_group"].values():
        assert sum(group["num_test_outputs"] for group in kind.values()) == result["num_test_outputs"]
    demonstrations = result["by_group"]["demonstrations"].values()
    sum_of_shares = sum(group["num_tasks"] * group["pass_at_2"] for group in demonstrations)
    assert sum_of_shares == pytest.approx(result["pass_at_2"] * result["num_tasks"])
    small = result["by_group"]["output_cells"]["1-9"]
    assert (small["num_tasks"], small["num_test_outputs"]) == (2, 4)
    assert small["pass_at_2"] == pytest.approx((1 / 3 + 1) / 2), "by task, of its outputs in the group"


def test_fewer_predictions_are_the_mean_over_all_their_subsets() -> None:
    tasks = TaskSet([task("a", 2), task("b", 2)])
    grids = [square(2), square(2, 3), square(2, 3), None]
    candidates = [answer("a", grid, view=view) for view, grid in enumerate(grids)]
    rows = by_num_predictions(tasks, candidates, majority_vote)
    assert [row["predictions"] for row in rows] == [1, 2, 4]
    assert {name: rows[0][name] for name in ("pass_at_1", "pass_at_2", "pass_at_n")} == {
        "pass_at_1": 0.125, "pass_at_2": 0.125, "pass_at_n": 0.125,
    }  # fmt: skip
    with_right = [pair for pair in combinations(range(4), 2) if 0 in pair]
    assert rows[1]["pass_at_n"] == pytest.approx(len(with_right) / 6 / 2)
    assert rows[1]["pass_at_2"] == pytest.approx(len(with_right) / 6 / 2)
    several = TaskSet(
        [task("a", 2, 2), task("b", 2)]
    )  # by Kaggle's rule: a right output of task a counts half
    assert by_num_predictions(several, candidates, majority_vote)[0]["pass_at_n"] == pytest.approx(
        0.25 / 2 / 2
    )
    result = score(tasks, candidates, majority_vote)
    for name in ("pass_at_1", "pass_at_2", "pass_at_n", "vote_1", "vote_2"):
        assert rows[-1][name] == result[name]


def test_many_predictions_are_drawn_the_same_way_each_time_and_in_any_order() -> None:
    tasks = TaskSet([task("a", 2)])
    grids = [square(2, 1 + (number % 3 > 0) * number % 5) for number in range(40)]
    candidates = [answer("a", grid, view=n % 8, sample=n // 8) for n, grid in enumerate(grids)]
    rows = by_num_predictions(tasks, candidates)
    assert [row["predictions"] for row in rows] == [1, 2, 4, 8, 16, 32, 40]
    assert rows == by_num_predictions(tasks, candidates[::-1])
    oracle = [row["pass_at_n"] for row in rows]
    assert oracle == sorted(oracle)
    assert oracle[0] == pytest.approx(sum(bool((grid == 1).all()) for grid in grids) / 40)


def test_one_prediction_of_very_many_is_right_as_often_as_they_are() -> None:
    candidates = [answer("a", square(2, 1 + (n > 40)), view=n % 8, sample=n // 8) for n in range(120)]
    first = by_num_predictions(TaskSet([task("a", 2)]), candidates)[0]
    assert first == {"predictions": 1, **dict.fromkeys(HEADLINES, 41 / 120)}


def test_a_test_output_with_fewer_candidates_gives_all_it_has_and_one_without_none() -> None:
    tasks = TaskSet([task("a", 2), task("b", 2), task("c", 2)])
    candidates = [answer("a", square(2)), *(answer("b", square(2, view % 3), view=view) for view in range(3))]
    rows = by_num_predictions(tasks, candidates)
    assert [row["predictions"] for row in rows] == [1, 2, 3]
    assert [row["pass_at_n"] for row in rows] == [
        pytest.approx((1 + share) / 3) for share in (1 / 3, 2 / 3, 1)
    ]
    assert by_num_predictions(tasks, []) == []
