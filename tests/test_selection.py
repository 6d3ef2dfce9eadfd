"""Selection: what is written can be read back, and the order of grids is the rule's and nothing else's."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_experiments.config.schema import NEED_LIKELIHOODS, SELECTIONS
from arc_experiments.scoring.candidates import Candidate, Likelihood
from arc_experiments.scoring.selection import Ranked, rules, select, votes_then_log_probability

A, B, C = [[1]], [[2]], [[3, 3]]


def candidate(cells: list[list[int]] | None, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "task_id": "007bbfb7",
        "test_index": 0,
        "view": 0,
        "transforms": "identity",
        "text": "some text",
        "num_tokens": 10,
        "log_probability": -5.0,
        "grid": None if cells is None else np.array(cells, np.uint8),
        "reason": "no_grid" if cells is None else None,
    }
    return Candidate(**(fields | changes))


def cells(ranked: list[Ranked]) -> list[list[list[int]]]:
    return [one.grid.tolist() for one in ranked]


def test_more_votes_stand_before_a_higher_log_probability() -> None:
    ranked = select([candidate(A, log_probability=-0.1), candidate(B, view=1), candidate(B, view=2)])
    assert cells(ranked) == [B, A]
    assert [one.votes for one in ranked] == [2, 1]


def test_equal_votes_are_decided_by_log_probability_per_token() -> None:
    long = candidate(B, view=1, num_tokens=100, log_probability=-20.0)
    assert cells(select([candidate(A, num_tokens=10, log_probability=-5.0), long])) == [B, A]


def test_the_log_probability_of_a_grid_is_the_mean_over_its_candidates() -> None:
    (ranked,) = select([candidate(A, log_probability=-2.0), candidate(A, view=1, log_probability=-4.0)])
    assert ranked.log_probability == pytest.approx(-0.3)


def test_a_full_tie_goes_to_the_earlier_view() -> None:
    assert cells(select([candidate(A, view=2), candidate(B, view=1), candidate(C, view=3)])) == [B, A, C]


def test_samples_of_one_view_that_tie_in_all_have_a_fixed_order() -> None:
    assert cells(select([candidate(B), candidate(A)])) == cells(select([candidate(A), candidate(B)]))


def test_the_views_of_a_grid_are_told_in_ascending_order() -> None:
    (ranked,) = select([candidate(A, view=view) for view in (5, 0, 3)])
    assert ranked.views == (0, 3, 5)


def test_invalid_candidates_have_no_vote() -> None:
    assert cells(select([candidate(None), candidate(None, view=1), candidate(A, view=2)])) == [A]


def test_without_a_valid_candidate_there_is_nothing_to_rank() -> None:
    assert select([]) == select([candidate(None)]) == []


def test_grids_with_the_same_cells_in_other_shapes_are_distinct() -> None:
    assert len(select([candidate([[1, 1]]), candidate([[1], [1]])])) == 2


def test_a_grid_that_is_a_turned_view_of_memory_equals_its_copy() -> None:
    turned = np.rot90(np.array([[1, 2], [3, 4]], np.uint8))
    (ranked,) = select([candidate(A, grid=turned), candidate(turned.tolist(), view=1)])
    assert ranked.votes == 2


def test_another_rule_can_be_named() -> None:
    def fewest_votes(grids: Any) -> list[Ranked]:
        return votes_then_log_probability(grids)[::-1]

    assert cells(select([candidate(A), candidate(A), candidate(B)], fewest_votes)) == [B, A]


def test_candidates_of_two_test_outputs_are_not_ranked_together() -> None:
    with pytest.raises(AssertionError):
        select([candidate(A), candidate(A, test_index=1)])


likelihoods = st.lists(
    st.builds(
        Likelihood, view=st.integers(0, 7), log_probability=st.floats(-900, 0), num_tokens=st.integers(1, 9)
    ),
    max_size=3,
)
answers = st.builds(
    candidate,
    st.sampled_from([A, B, C, None]),
    view=st.integers(0, 7),
    num_tokens=st.integers(0, 5),
    log_probability=st.sampled_from([-0.1, -0.2, -0.3, -1.0]) | st.floats(-50, 0),
)


@given(st.data(), st.lists(answers, max_size=12))
def test_the_order_of_the_candidates_never_changes_the_result(data: st.DataObject, given: list[Any]) -> None:
    shuffled = data.draw(st.permutations(given))
    for one, other in zip(select(given), select(shuffled), strict=True):
        assert one.grid.tolist() == other.grid.tolist()
        assert (one.votes, one.log_probability, one.views) == (
            other.votes,
            other.log_probability,
            other.views,
        )


@given(st.lists(answers, max_size=12))
def test_every_valid_candidate_votes_once(given: list[Candidate]) -> None:
    assert sum(one.votes for one in select(given)) == sum(one.grid is not None for one in given)


@given(answers, likelihoods)
def test_likelihoods_read_back_as_they_were_written(one: Candidate, values: list[Likelihood]) -> None:
    line = replace(one, likelihoods=tuple(values)).to_json()
    assert Candidate.from_json(line).likelihoods == tuple(values)
    assert Candidate.from_json(line).to_json() == line


@given(answers)
def test_a_candidate_reads_back_as_it_was_written(one: Candidate) -> None:
    line = one.to_json()
    assert "\n" not in line
    assert Candidate.from_json(line).to_json() == line


def test_a_candidate_is_written_with_the_documented_fields() -> None:
    assert candidate(A).to_json() == (
        '{"task": "007bbfb7", "test_index": 0, "view": 0, "sample": 0, "transforms": "identity", '
        '"text": "some text", "num_tokens": 10, "log_probability": -5.0, "valid": true, "reason": null, '
        '"grid": [[1]], "likelihoods": []}'
    )
    assert '"valid": false, "reason": "no_grid", "grid": null' in candidate(None).to_json()


@pytest.mark.parametrize("line", ["[]", "{}", candidate(A).to_json().replace('"view"', '"vow"')])
def test_a_line_without_a_whole_candidate_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="holds no whole candidate"):
        Candidate.from_json(line)


def test_a_line_that_was_cut_off_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        Candidate.from_json(candidate(A).to_json()[:40])


def test_a_line_with_a_grid_that_breaks_the_rules_is_refused() -> None:
    with pytest.raises(ValueError, match="not 0 to 9"):
        Candidate.from_json(candidate(A).to_json().replace("[[1]]", "[[10]]"))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_log_probability_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="task 007bbfb7, test output 0, view 0: log_probability"):
        candidate(A, log_probability=value)


def test_a_likelihood_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"log_probability is .*inf.*overflowed"):
        candidate(A, likelihoods=(Likelihood(view=0, log_probability=-math.inf, num_tokens=3),))


# Rules of likelihood. Each grid has probabilities under two views, and candidates that voted for it.
D = [[4]]
PROBABILITIES = {"A": (0.5, 0.1), "B": (0.25, 0.24), "C": (0.8, 0.001), "D": (0.2, 0.2)}
TOKENS = {"A": (2, 2), "B": (4, 4), "C": (9, 9), "D": (20, 20)}
VOTES = {"A": 1, "B": 1, "C": 2, "D": 1}
ORDERS = {
    "majority_vote": "CABD",
    "votes_then_log_probability": "CABD",
    "likelihood_product": "BADC",  # 0.06, 0.05, 0.04, 0.0008
    "full_probmul_3": "BADC",  # 1.19, 1.00, 0.78, -5.13
    "likelihood_sum": "CABD",  # 0.801, 0.6, 0.49, 0.4
    "likelihood_min": "BDAC",
    "likelihood_max": "CABD",
    "likelihood_mean": "DBCA",  # -0.08, -0.35, -0.40, -0.75 a token
    "votes_plus_likelihood": "BADC",  # -0.41, -0.50, -0.61, -1.57
}


def compared_candidates() -> list[Candidate]:
    grids = dict(zip("ABCD", (A, B, C, D), strict=True))
    found = []
    for name, probabilities in PROBABILITIES.items():
        values = tuple(
            Likelihood(view=view, log_probability=math.log(value), num_tokens=num_tokens)
            for view, (value, num_tokens) in enumerate(zip(probabilities, TOKENS[name], strict=True))
        )
        found += [candidate(grids[name], view=len(found), likelihoods=values) for _ in range(VOTES[name])]
    return found


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_rule_has_the_order_that_it_is_named_for(name: str) -> None:
    rule = rules(with_likelihoods=True)[name]
    by_cells = {str(cells): letter for letter, cells in zip("ABCD", (A, B, C, D), strict=True)}
    for listed in (compared_candidates(), compared_candidates()[::-1]):
        order = "".join(by_cells[str(one.grid.tolist())] for one in select(listed, rule))
        assert order == ORDERS[name]


def test_full_probmul_3_adds_3_to_the_log_probability_of_every_candidate_and_view() -> None:
    def voted(grid: list[list[int]], *log_probabilities: float, likelihood: float) -> list[Candidate]:
        values = (Likelihood(view=0, log_probability=likelihood, num_tokens=1),)
        return [
            candidate(grid, view=view, log_probability=value, likelihoods=values)
            for view, value in enumerate(log_probabilities)
        ]

    rule = rules(with_likelihoods=True)["full_probmul_3"]
    probable_twice = voted(A, -2.0, -2.0, likelihood=-3.0)  # 1 + 1 + 0
    probable_once = voted(B, -1.1, likelihood=-3.0)  # 1.9 + 0
    improbable_twice = voted(C, -2.0, -4.5, likelihood=-1.7)  # 1 - 1.5 + 1.3
    assert cells(select([*improbable_twice, *probable_once, *probable_twice], rule)) == [A, B, C]


def test_rules_of_likelihood_break_ties_by_votes() -> None:
    values = (Likelihood(view=0, log_probability=-1.0, num_tokens=2),)
    given = [
        candidate(A, likelihoods=values),
        candidate(B, view=1, likelihoods=values),
        candidate(B, view=2, likelihoods=values),
    ]
    for name in set(NEED_LIKELIHOODS) - {"full_probmul_3"}:  # which counts each candidate
        assert cells(select(given, rules(with_likelihoods=True)[name])) == [B, A]


def test_very_small_probabilities_do_not_underflow() -> None:
    def with_values(grid: list[list[int]], *values: float) -> Candidate:
        return candidate(
            grid,
            likelihoods=tuple(
                Likelihood(view=view, log_probability=value, num_tokens=900)
                for view, value in enumerate(values)
            ),
        )

    given = [with_values(A, -2000.0, -2010.0), with_values(B, -1999.0, -3000.0)]
    assert cells(select(given, rules(with_likelihoods=True)["likelihood_sum"])) == [B, A]
    assert cells(select(given, rules(with_likelihoods=True)["likelihood_product"])) == [A, B]


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_rule_takes_no_candidates_and_invalid_ones_and_such_without_likelihoods(name: str) -> None:
    rule = rules(with_likelihoods=True)[name]
    assert select([], rule) == select([candidate(None)], rule) == []
    assert cells(select([candidate(A), candidate(B, view=1), candidate(B, view=2)], rule)) == [B, A]


def test_without_likelihoods_the_rules_of_votes_are_left() -> None:
    assert set(rules(with_likelihoods=False)) == set(SELECTIONS) - set(NEED_LIKELIHOODS)
    assert list(rules(with_likelihoods=True)) == list(SELECTIONS)


def test_a_candidate_has_a_grid_or_a_reason_and_never_both() -> None:
    for grid, reason in ((None, None), (np.ones((1, 1), np.uint8), "ragged")):
        with pytest.raises(ValueError, match="either a grid or the reason"):
            candidate(A, grid=grid, reason=reason)


def test_an_answer_without_tokens_has_the_log_probability_zero() -> None:
    assert candidate(None, num_tokens=0, log_probability=0.0).mean_log_probability == 0
