"""What two attempts lost: never proposed, or proposed and not chosen; by rule, on the page and in words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_grids import grid

from arc_experiments.comparison.contrasts import less_is_better
from arc_experiments.report.wording import lost_sentence
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.tasks import Pair, Task, TaskSet


def tasks(*num_tests: int) -> TaskSet:
    """Tasks with so many test outputs, all of them a 1."""
    pair = Pair(input=grid("0"), output=grid("1"))
    return TaskSet(Task(id=f"t{n}", train=(pair,), test=(pair,) * count) for n, count in enumerate(num_tests))


def answers(task: int, digits: str, test_index: int = 0, log_probability: float = -1.0) -> list[Candidate]:
    """A candidate a digit, each from a view of its own."""
    return [
        Candidate(
            task_id=f"t{task}",
            test_index=test_index,
            view=view,
            transforms="identity",
            text="",
            num_tokens=1,
            log_probability=log_probability - view,
            grid=grid(digit),
            reason=None,
        )
        for view, digit in enumerate(digits)
    ]


def test_what_is_lost_was_never_proposed_or_not_chosen() -> None:
    found = score(
        tasks(1, 1, 1, 2),
        [
            *answers(0, "1"),  # right
            *answers(1, "22331"),  # third of three
            *answers(2, "23"),  # never
            *answers(3, "1"),  # right, and no candidate for the second output
        ],
    )
    lost = found["lost"]
    assert found["pass_at_2"] == 1.5 / 4
    assert (lost["not_chosen"], lost["never_proposed"]) == (1 / 4, 1.5 / 4)
    assert lost["never_proposed"] == 1 - found["pass_at_n"]
    low, high = lost["interval"]["not_chosen"]
    assert 0 <= low < 1 / 4 < high <= 1


def test_each_rule_has_its_own_share_that_it_did_not_choose() -> None:
    """One vote each, so that log-probabilities decide for one rule and the earlier view for the other."""
    early = [replace(one, log_probability=-9.0 + one.view) for one in answers(0, "123")]
    found = score(tasks(1, 1), [*early, *answers(1, "1")])
    by_rule = found["lost"]["by_selection"]
    assert by_rule["votes_then_log_probability"]["not_chosen"] == 0.5 == found["lost"]["not_chosen"]
    nothing = pytest.approx([0.0, 1 - 0.025**0.5])  # Clopper and Pearson's for none of two tasks
    assert by_rule["majority_vote"] == {"not_chosen": 0.0, "interval": nothing}
    assert list(by_rule) == list(found["by_selection"])


def test_nothing_lost_has_the_exact_interval_of_so_many_tasks() -> None:
    found = score(tasks(1, 1), [*answers(0, "1"), *answers(1, "1")])["lost"]
    assert (found["not_chosen"], found["never_proposed"]) == (0, 0)
    nothing = pytest.approx([0.0, 1 - 0.025**0.5])
    assert found["interval"] == {"not_chosen": nothing, "never_proposed": nothing}


@settings(max_examples=30)
@given(st.lists(st.lists(st.text("123", max_size=6), min_size=1, max_size=3), min_size=1, max_size=8))
def test_right_and_lost_make_up_the_whole_by_every_rule(digits: list[list[str]]) -> None:
    candidates = [
        candidate
        for task, outputs in enumerate(digits)
        for index, text in enumerate(outputs)
        for candidate in answers(task, text, index)
    ]
    found = score(tasks(*map(len, digits)), candidates)
    lost = found["lost"]
    assert found["pass_at_2"] + lost["not_chosen"] + lost["never_proposed"] == pytest.approx(1)
    for name, part in lost["by_selection"].items():
        assert part["not_chosen"] >= 0
        assert found["by_selection"][name]["pass_at_2"] + part["not_chosen"] == pytest.approx(
            found["pass_at_n"]
        )


def test_intervals_are_those_of_the_tasks_drawn_anew() -> None:
    digits = ["1"] * 6 + ["22331"] * 3 + ["2"] * 11
    found = score(tasks(*[1] * 20), [one for n, text in enumerate(digits) for one in answers(n, text)])[
        "lost"
    ]
    drawn = np.random.default_rng(5).binomial(20, 3 / 20, 20000) / 20
    assert found["interval"]["not_chosen"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.051)


def test_the_sentence_adds_up_and_says_of_which_tasks() -> None:
    found = {
        "pass_at_2": 0.375,
        "lost": {
            "never_proposed": 0.5,
            "not_chosen": 0.125,
            "interval": {"never_proposed": [0.4, 0.6], "not_chosen": None},
        },
    }
    assert lost_sentence(found, " (2 of 3 tasks asked)") == (
        "not right in two attempts (2 of 3 tasks asked): 62.5% = 12.5% (a candidate was right, but not "
        "chosen) + 50.0% (no candidate was right; 95% interval 40.0\N{EN DASH}60.0%)"
    )


def test_a_comparison_takes_less_lost_for_better() -> None:
    assert less_is_better("score.lost.never_proposed")
