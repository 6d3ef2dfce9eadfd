"""Two answers to the same tasks: what one is better by, task by task."""

import pytest
from toy_grids import grid

from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.paired_difference import difference
from arc_experiments.scoring.selection import votes_then_log_probability
from arc_experiments.tasks import Pair, Task, TaskSet

RULE = votes_then_log_probability


def tasks(*num_tests: int) -> TaskSet:
    pair = Pair(input=grid("1"), output=grid("2"))
    return TaskSet(Task(id=f"t{n}", train=(pair,), test=(pair,) * count) for n, count in enumerate(num_tests))


def answers(**right: str) -> list[Candidate]:
    """For each task a digit a test output: 1 right in the first attempt, 2 in the second, 0 in none."""
    found = []
    for task_id, marks in right.items():
        for test_index, mark in enumerate(marks):
            for view, cell in enumerate({"0": "33", "1": "22", "2": "332"}[mark]):
                found.append(
                    Candidate(
                        task_id=task_id, test_index=test_index, view=view, transforms="", text=cell,
                        num_tokens=1, log_probability=-1.0, grid=grid(cell), reason=None,
                    )
                )  # fmt: skip
    return found


def test_won_and_lost_are_counted_task_by_task() -> None:
    four = tasks(1, 1, 2, 1)
    before, after = answers(t0="0", t1="1", t2="01", t3="1"), answers(t0="1", t1="0", t2="11", t3="2")
    found = difference(four, before, after, RULE)
    assert (found["won"], found["lost"]) == (["t0", "t2"], ["t1"])
    assert found["pass_at_2"]["difference"] == pytest.approx((1 - 1 + 1 / 2 + 0) / 4)
    assert found["pass_at_1"]["difference"] == pytest.approx((1 - 1 + 1 / 2 - 1) / 4)
    low, high = found["pass_at_2"]["interval"]
    assert low < 0 < high


def test_the_difference_is_that_of_the_scores() -> None:
    three = tasks(1, 3, 1)
    before, after = answers(t0="0", t1="201"), answers(t0="2", t1="110", t2="1")
    found = difference(three, before, after, RULE)
    old, new = score(three, before, RULE), score(three, after, RULE)
    for name in ("pass_at_1", "pass_at_2", "pass_at_n", "vote_1", "vote_2"):
        assert found[name]["difference"] == pytest.approx(new[name] - old[name])


def test_the_interval_is_narrower_than_that_of_unpaired_scores() -> None:
    many = tasks(*[1] * 40)
    before = answers(**{f"t{n}": "01"[n % 2] for n in range(40)})
    after = answers(**{f"t{n}": "01"[n % 2 or n == 0] for n in range(40)})
    low, high = difference(many, before, after, RULE)["pass_at_2"]["interval"]
    unpaired = score(many, before, RULE)["interval"]["pass_at_2"]
    assert high - low < (unpaired[1] - unpaired[0]) / 2
    assert 0 <= low < high


def test_where_all_gain_alike_there_is_no_interval() -> None:
    two = tasks(1, 1)
    found = difference(two, answers(t0="0", t1="0"), answers(t0="1", t1="1"), RULE)
    assert found["pass_at_2"] == {"difference": 1.0, "interval": None}
    same = difference(two, answers(t0="1"), answers(t0="1"), RULE)
    assert (same["won"], same["lost"], same["pass_at_2"]["interval"]) == ([], [], None)
