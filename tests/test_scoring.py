"""Scoring: every metric on hand-made cases, fixed denominators, intervals, submissions and their mistakes."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from arc_experiments.scoring.candidates import Candidate, Likelihood
from arc_experiments.scoring.metrics import in_todays_terms, score
from arc_experiments.scoring.per_output import HEADLINES
from arc_experiments.scoring.selection import Ranked, rules, votes_then_log_probability
from arc_experiments.scoring.submission import check_submission, submission
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Pair, Task, TaskSet

Cells = list[list[int]]
RIGHT: Cells = [[1, 2], [3, 4]]
CLOSE: Cells = [[1, 2], [3, 0]]
FAR: Cells = [[0, 0], [0, 0]]
WIDE: Cells = [[1, 2, 3]]
FRACTIONS = (
    *HEADLINES, "accuracy", "correct_pixels", "max_correct_pixels", "correct_size", "any_correct_size",
)  # fmt: skip


def grid(cells: Cells) -> Grid:
    return np.array(cells, np.uint8)


def tasks(**num_outputs: int) -> TaskSet:
    """Tasks with so many test outputs, of which RIGHT is the solution."""
    pair = Pair(input=grid([[0]]), output=grid(RIGHT))
    return TaskSet(Task(id=name, train=(pair,), test=(pair,) * num) for name, num in num_outputs.items())


def answers(
    *cells: Cells | None, task: str = "a", test_index: int = 0, reason: str = "ragged"
) -> list[Candidate]:
    """One candidate a view; later views are less probable, None is not valid."""
    return [
        Candidate(
            task_id=task,
            test_index=test_index,
            view=view,
            transforms="identity",
            text="",
            num_tokens=4,
            log_probability=-1.0 - view,
            grid=None if answer is None else grid(answer),
            reason=reason if answer is None else None,
        )
        for view, answer in enumerate(cells)
    ]


def one_output(*cells: Cells | None) -> dict[str, Any]:
    return score(tasks(a=1), answers(*cells))


def test_a_right_and_only_candidate_is_right_in_every_metric() -> None:
    result = one_output(RIGHT)
    assert {name: result[name] for name in FRACTIONS} == dict.fromkeys(FRACTIONS, 1.0)
    assert result["unanswered"] == 0
    assert result["by_rule"] == {"test_output": 1, "task_fraction": 1, "task_strict": 1}


def test_accuracy_is_the_share_of_right_candidates_and_counts_invalid_ones_as_wrong() -> None:
    assert one_output(RIGHT, CLOSE, RIGHT, None)["accuracy"] == 0.5


def test_pass_at_n_needs_one_right_candidate_among_all() -> None:
    result = one_output(FAR, FAR, CLOSE, CLOSE, RIGHT)
    assert (result["pass_at_n"], result["pass_at_2"], result["vote_2"]) == (1, 0, 0)
    assert one_output(FAR, CLOSE)["pass_at_n"] == 0


def test_every_rule_is_scored_beside_the_one_that_gives_the_attempts() -> None:
    plain = one_output(FAR, RIGHT, RIGHT)
    assert plain["by_selection"] == {
        "votes_then_log_probability": {"pass_at_1": 1.0, "pass_at_2": 1.0},
        "majority_vote": {"pass_at_1": 1.0, "pass_at_2": 1.0},
    }
    values = {str(FAR): -1.0, str(CLOSE): -2.0, str(RIGHT): -3.0}
    compared = [
        replace(one, likelihoods=(Likelihood(view=0, log_probability=values[str(cells)], num_tokens=4),))
        for cells in (FAR, CLOSE, RIGHT, RIGHT)
        for one in answers(cells)
    ]
    result = score(tasks(a=1, b=1), compared)  # b has no answer
    assert result["by_selection"]["majority_vote"] == {"pass_at_1": 0.5, "pass_at_2": 0.5}
    assert result["by_selection"]["likelihood_product"] == {"pass_at_1": 0.0, "pass_at_2": 0.0}
    named = score(tasks(a=1, b=1), compared, rules(with_likelihoods=True)["votes_plus_likelihood"])
    assert named["by_selection"] == result["by_selection"]
    assert named["by_selection"]["votes_plus_likelihood"] == {
        name: named[name] for name in ("pass_at_1", "pass_at_2")
    }


def test_the_most_voted_grid_is_the_first_attempt() -> None:
    result = one_output(FAR, RIGHT, RIGHT)
    assert (result["vote_1"], result["pass_at_1"]) == (1, 1)


def test_the_second_most_voted_grid_counts_within_two_and_not_within_one() -> None:
    result = one_output(FAR, FAR, RIGHT)
    assert (result["vote_1"], result["vote_2"], result["pass_at_1"], result["pass_at_2"]) == (0, 1, 0, 1)


def test_a_tie_of_votes_is_decided_by_log_probability() -> None:
    assert one_output(RIGHT, FAR)["vote_1"] == 1
    assert one_output(FAR, RIGHT)["vote_1"] == 0
    assert one_output(FAR, CLOSE, RIGHT)["vote_2"] == 0


def test_pass_at_k_follows_the_named_rule_and_vote_k_the_votes() -> None:
    def fewest_votes(grids: Iterable[Ranked]) -> list[Ranked]:
        return votes_then_log_probability(grids)[::-1]

    result = score(tasks(a=1), answers(FAR, FAR, RIGHT), rule=fewest_votes)
    assert (result["pass_at_1"], result["vote_1"]) == (1, 0)
    result = score(tasks(a=1), answers(FAR, FAR, FAR, CLOSE, CLOSE, RIGHT), rule=fewest_votes)
    assert (result["pass_at_2"], result["vote_2"]) == (1, 0)
    assert submission(tasks(a=1), answers(FAR, FAR, RIGHT), rule=fewest_votes)["a"][0]["attempt_1"] == RIGHT


def test_correct_pixels_is_a_mean_over_candidates_and_nothing_for_other_shapes_or_invalid_ones() -> None:
    result = one_output(CLOSE, CLOSE, WIDE, None)
    assert result["correct_pixels"] == (0.75 + 0.75) / 4
    assert result["max_correct_pixels"] == 0.75


def test_correct_size_is_a_mean_over_candidates_and_any_correct_size_the_best() -> None:
    result = one_output(FAR, WIDE, WIDE, None)
    assert (result["correct_size"], result["any_correct_size"]) == (0.25, 1)
    assert (one_output(WIDE)["correct_size"], one_output(WIDE)["any_correct_size"]) == (0, 0)


def test_without_a_valid_candidate_a_test_output_is_unanswered_and_wrong_everywhere() -> None:
    for result in (one_output(), one_output(None, None)):
        assert result["unanswered"] == 1
        assert {name: result[name] for name in FRACTIONS} == dict.fromkeys(FRACTIONS, 0.0)


def test_missing_tasks_and_outputs_stay_in_the_denominator() -> None:
    result = score(tasks(a=2, b=1, c=1), answers(RIGHT, task="b"))
    by_task, by_output = (
        dict.fromkeys(HEADLINES, 1 / 3),
        dict.fromkeys(set(FRACTIONS) - set(HEADLINES), 1 / 4),
    )
    assert {name: result[name] for name in FRACTIONS} == by_task | by_output
    assert (result["unanswered"], result["num_tasks"], result["num_test_outputs"]) == (0.75, 3, 4)


def test_every_test_output_weighs_the_same_however_many_candidates_it_has() -> None:
    candidates = answers(RIGHT) + answers(FAR, FAR, FAR, RIGHT, test_index=1)
    assert score(tasks(a=2), candidates)["accuracy"] == (1 + 0.25) / 2


def test_the_headline_is_kaggles_rule_and_the_others_stand_beside_it() -> None:
    candidates = answers(RIGHT) + answers(FAR, test_index=1) + answers(RIGHT, task="b")
    result = score(tasks(a=3, b=1), candidates)
    assert result["by_rule"] == {
        "test_output": 2 / 4,
        "task_fraction": pytest.approx((1 / 3 + 1) / 2),
        "task_strict": 1 / 2,
    }
    assert {result[name] for name in HEADLINES} == {result["by_rule"]["task_fraction"]}
    assert {value for rule in result["by_selection"].values() for value in rule.values()} == {
        result["pass_at_2"]
    }
    assert result["by_task"] == {"a": pytest.approx(1 / 3), "b": 1}
    assert result["accuracy"] == 2 / 4, "which is counted by test output"


def test_scores_of_the_first_version_are_read_in_todays_terms() -> None:
    """They counted test outputs, so that pass_at_2 was by_rule.test_output."""
    candidates = answers(RIGHT) + answers(FAR, test_index=1) + answers(RIGHT, task="b")
    new = score(tasks(a=3, b=1, c=1), candidates)
    old = new | {"pass_at_1": 2 / 5, "pass_at_2": 2 / 5, "vote_2": 2 / 5, "version": 1}
    gains = {"pass_at_1": {"difference": 0.1}, "pass_at_2": {"difference": 0.1}, "won": ["a"], "lost": []}
    before = old | {"by_task": {"a": 0.0, "b": 1.0, "c": 0.0}, "by_rule": {"task_fraction": 1 / 3}}
    found = in_todays_terms({"score": old, "before": {"score": before}, "difference": gains, "seconds": {}})
    assert found["score"]["pass_at_2"] == new["pass_at_2"] == pytest.approx(4 / 9)
    assert found["score"]["interval"] == {"pass_at_2": new["interval"]["pass_at_2"]}
    assert found["score"]["by_rule"] == new["by_rule"]
    assert (
        not {"pass_at_1", "pass_at_n", "vote_1", "vote_2", "by_group", "by_selection"} & found["score"].keys()
    )
    assert found["difference"]["pass_at_2"]["difference"] == pytest.approx(1 / 9)
    assert found["difference"].keys() == {"pass_at_2", "won", "lost"}
    assert in_todays_terms(found) == found
    one_each = score(tasks(a=1, b=1), candidates[:1]) | {"version": 1}
    assert in_todays_terms({"score": one_each})["score"] == one_each | {"version": 2}, "all rules are one"
    assert in_todays_terms({"train": {}}) == {"train": {}}


def test_the_scoring_rules_look_at_two_attempts() -> None:
    assert one_output(FAR, FAR, RIGHT)["by_rule"] == {"test_output": 1, "task_fraction": 1, "task_strict": 1}


def test_invalid_candidates_are_counted_by_reason() -> None:
    candidates = answers(None, RIGHT, None, reason="unfinished") + answers(
        None, test_index=1, reason="no_grid"
    )
    assert score(tasks(a=2), candidates)["invalid"] == {"no_grid": 1, "unfinished": 2}
    assert one_output(RIGHT)["invalid"] == {}


@pytest.mark.parametrize("stranger", [answers(RIGHT, task="z"), answers(RIGHT, test_index=1)])
def test_a_candidate_of_no_task_is_refused(stranger: list[Candidate]) -> None:
    use: Callable[..., Any]
    for use in (score, submission):
        with pytest.raises(ValueError, match="not among the tasks"):
            use(tasks(a=1), stranger)


def test_scoring_without_solutions_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"no test output of 1 task has a solution \(a\): score with"):
        score(tasks(a=1).without_solutions(), answers(RIGHT))


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no tasks to score"):
        score(TaskSet([]), [])


def test_the_score_is_plain_json() -> None:
    result = score(tasks(a=2, b=1), answers(RIGHT, None))
    assert json.loads(json.dumps(result)) == result


marks = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=30)


@pytest.mark.slow
@given(marks)
def test_an_interval_holds_its_fraction_and_stays_within_0_and_1(marks: list[list[bool]]) -> None:
    task_set = tasks(**{f"t{i}": len(outputs) for i, outputs in enumerate(marks)})
    result = score(
        task_set,
        [
            candidate
            for i, outputs in enumerate(marks)
            for j, right in enumerate(outputs)
            for candidate in answers(RIGHT if right else FAR, task=f"t{i}", test_index=j)
        ],
    )
    assert set(result["interval"]) == set(HEADLINES)
    for name, interval in result["interval"].items():
        low, high = interval or (result[name], result[name])
        assert 0 <= low <= result[name] <= high <= 1


def test_where_all_tasks_are_right_or_all_wrong_the_interval_is_that_of_the_binomial() -> None:
    all_right = [candidate for name in "abc" for candidate in answers(RIGHT, task=name)]
    low, high = stats.binomtest(3, 3).proportion_ci(0.95, method="exact")
    found = score(tasks(a=1, b=1, c=1), all_right)["interval"]
    assert found == {name: pytest.approx([low, high]) for name in HEADLINES}
    assert low == pytest.approx(0.292, abs=1e-3)
    found = score(tasks(a=1, b=2, c=1), [])["interval"]
    assert found == {name: pytest.approx([0, 1 - low]) for name in HEADLINES}


def test_an_interval_has_the_width_of_the_binomial_where_every_task_has_one_output() -> None:
    names = [f"t{i}" for i in range(400)]
    half = [candidate for name in names[::2] for candidate in answers(RIGHT, task=name)]
    low, high = score(tasks(**dict.fromkeys(names, 1)), half)["interval"]["pass_at_2"]
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_resampling_keeps_the_test_outputs_of_a_task_together() -> None:
    names = [f"t{i}" for i in range(100)]
    spread = [candidate for name in names for candidate in answers(RIGHT, task=name)]
    result = score(tasks(**dict.fromkeys(names, 2)), spread)
    assert result["interval"]["pass_at_2"] is None


@given(st.data())
def test_the_order_of_the_candidates_changes_no_score(data: st.DataObject) -> None:
    kinds = st.lists(st.sampled_from([RIGHT, CLOSE, FAR, WIDE, None]), max_size=5)
    candidates = answers(*data.draw(kinds)) + answers(*data.draw(kinds), test_index=1)
    shuffled = data.draw(st.permutations(candidates))
    assert score(tasks(a=2), candidates) == score(tasks(a=2), shuffled)


def test_a_submission_holds_two_attempts_for_every_test_output_in_order() -> None:
    candidates = answers(FAR, RIGHT, RIGHT) + answers(CLOSE, None, test_index=1) + answers(None, task="b")
    task_set = tasks(a=2, b=1, c=1).without_solutions()
    nothing = {"attempt_1": [[0]], "attempt_2": [[0]]}
    written = submission(task_set, candidates)
    assert written == {
        "a": [{"attempt_1": RIGHT, "attempt_2": FAR}, {"attempt_1": CLOSE, "attempt_2": CLOSE}],
        "b": [nothing],
        "c": [nothing],
    }
    assert list(written) == ["a", "b", "c"]
    check_submission(json.loads(json.dumps(written)), task_set)


def test_every_mistake_of_a_submission_is_told_at_once() -> None:
    entry = {"attempt_1": RIGHT, "attempt_2": RIGHT}
    wrong = {
        "b": [entry],
        "c": entry,
        "d": [{"attempt_1": RIGHT}],
        "e": [{"attempt_1": [[10]], "attempt_2": [[1], [1, 2]]}],
        "f": [RIGHT],
        "g": [entry | {"attempt_3": RIGHT}],
        "h": [{"attempt_1": [], "attempt_2": None}],
        "z": [entry],
    }
    with pytest.raises(ValueError, match="not valid") as caught:
        check_submission(wrong, tasks(a=1, b=2, c=1, d=1, e=1, f=1, g=1, h=1))
    assert str(caught.value).splitlines() == [
        "the submission is not valid:",
        "  z: no such task, take it out",
        "  a: the task is missing",
        "  b: has 1 entries for 2 test outputs",
        "  c: needs a list of 1 entries, this is a dict",
        "  d[0]: attempt_2 is missing",
        "  e[0]: attempt_1 is not a grid: it has the cell 10, not 0 to 9",
        "  e[0]: attempt_2 is not a grid: its rows have different lengths",
        "  f[0]: needs attempt_1 and attempt_2, this is a list",
        "  g[0]: attempt_3 is not an attempt, take it out",
        "  h[0]: attempt_1 is not a grid: it is not a table of rows and columns, but empty",
        "  h[0]: attempt_2 is not a grid: its rows have different lengths, or its cells are not numbers",
    ]


def test_a_submission_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ValueError, match="maps task ids"):
        check_submission([], tasks(a=1))
