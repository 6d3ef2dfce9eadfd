"""Scores against the number of predictions: what fewer candidates would have given.

[{"predictions": 1, "pass_at_1": 0.2, "pass_at_2": 0.2, "pass_at_n": 0.2, "vote_1": 0.2, "vote_2": 0.2},
 {"predictions": 2, ...}, {"predictions": 4, ...}, {"predictions": 8, ...}]
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from arc_experiments.grids import Grid
from arc_experiments.rngs import rng_for
from arc_experiments.scoring.marks import HEADLINES, Marks, by_output, mean, right_within, solutions
from arc_experiments.selection import Candidate, Rule, distinct, votes_then_log_probability
from arc_experiments.tasks.task import TaskSet

MOST_COUNTED = 100  # ways to take some of the candidates, up to which all of them are counted
NUM_DRAWN = 32  # of more


def by_num_predictions(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> list[dict[str, Any]]:
    """The headline fractions for 1, 2, 4, ... and all candidates of each test output.

    Each is a mean over subsets of the test output's candidates: over all of them where there are at most
    `MOST_COUNTED`, else over `NUM_DRAWN`, drawn for the task and the number alone (`pass_at_n` is exact always). A test
    output with fewer candidates than the number gives all it has.

    Raises:
        ValueError: as `score`.
    """
    found = by_output(tasks, candidates)
    outputs = [
        (f"{task_id}[{i}]", expected, found[task_id, i])
        for task_id, grids in solutions(tasks).items()
        for i, expected in enumerate(grids)
    ]
    most = max(len(group) for _, _, group in outputs)
    numbers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [
        {"predictions": number}
        | _means(
            [_expected_marks(place, expected, group, number, rule) for place, expected, group in outputs]
        )
        for number in [*numbers, most]
        if number
    ]


def _means(marks: Sequence[Marks]) -> Marks:
    return {name: mean([one[name] for one in marks]) for name in HEADLINES}


def _expected_marks(
    place: str, expected: Grid, candidates: Sequence[Candidate], number: int, rule: Rule
) -> Marks:
    """What `number` of these candidates give on average."""
    number, total = min(number, len(candidates)), len(candidates)
    num_right = sum(c.grid is not None and np.array_equal(c.grid, expected) for c in candidates)
    if num_right in (0, total):  # whichever are taken
        return dict.fromkeys(HEADLINES, float(num_right > 0))
    marks = [_marks(expected, subset, rule) for subset in _subsets(place, candidates, number)]
    means = {name: mean([one[name] for one in marks]) for name in marks[0]}
    return {**means, "pass_at_n": 1 - comb(total - num_right, number) / comb(total, number)}


def _marks(expected: Grid, candidates: Sequence[Candidate], rule: Rule) -> Marks:
    grids = distinct(candidates)
    attempts, most_voted = rule(grids), votes_then_log_probability(grids)
    return {
        "pass_at_1": right_within(attempts[:1], expected),
        "pass_at_2": right_within(attempts[:2], expected),
        "vote_1": right_within(most_voted[:1], expected),
        "vote_2": right_within(most_voted[:2], expected),
    }


def _subsets(place: str, candidates: Sequence[Candidate], number: int) -> Iterator[list[Candidate]]:
    """All subsets of this size, or some, drawn; in no order of the candidates."""
    ordered = sorted(candidates, key=lambda candidate: (candidate.view, candidate.sample))
    if comb(len(ordered), number) <= MOST_COUNTED:
        yield from map(list, combinations(ordered, number))
        return
    rng = rng_for("predictions", number, place)
    for _ in range(NUM_DRAWN):
        yield [ordered[position] for position in rng.choice(len(ordered), number, replace=False)]
