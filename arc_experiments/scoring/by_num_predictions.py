"""Scores against the number of predictions: what fewer candidates would have given.

[{"predictions": 1, "pass_at_1": 0.2, "pass_at_2": 0.2, "pass_at_n": 0.2, "vote_1": 0.2, "vote_2": 0.2},
 {"predictions": 2, ...}, {"predictions": 4, ...}, {"predictions": 8, ...}]
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.per_output import (
    HEADLINES,
    Marks,
    by_output,
    mean,
    means,
    right_within,
    solutions,
    task_shares,
)
from arc_experiments.scoring.selection import Rule, alike, in_order, rank, votes_then_log_probability
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.tasks.task import TaskSet

MOST_COUNTED = 100  # subsets of the candidates up to which all are counted
NUM_DRAWN = 32  # subsets drawn of more


def by_num_predictions(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> list[dict[str, Any]]:
    """The headline scores for 1, 2, 4, ... and all candidates of each test output.

    Each is a mean over subsets of the test output's candidates: over all of them up to `MOST_COUNTED`, else
    over `NUM_DRAWN` subsets, drawn for the task and the number alone. What no order decides is exact:
    `pass_at_n`, and everything with 1 prediction. A test output with fewer candidates than the number gives
    all it has.

    Raises:
        ValueError: as `score`.
    """
    found = by_output(tasks, candidates)
    outputs = {
        task_id: [(f"{task_id}[{i}]", grid, found[task_id, i]) for i, grid in enumerate(grids)]
        for task_id, grids in solutions(tasks).items()
    }
    most = max(len(group) for groups in outputs.values() for _, _, group in groups)
    numbers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [
        {"predictions": number, **_headlines(outputs, number, rule)} for number in [*numbers, most] if number
    ]


def _headlines(
    outputs: Mapping[str, Sequence[tuple[str, Grid, list[Candidate]]]], number: int, rule: Rule
) -> Marks:
    marks = {
        task_id: [_expected_marks(place, expected, group, number, rule) for place, expected, group in groups]
        for task_id, groups in outputs.items()
    }
    return means(task_shares(marks))


def _expected_marks(
    place: str, expected: Grid, candidates: Sequence[Candidate], number: int, rule: Rule
) -> Marks:
    """The mean marks of `number` of these candidates."""
    number, total = min(number, len(candidates)), len(candidates)
    groups = alike(sorted(candidates, key=lambda candidate: (candidate.view, candidate.sample)))
    num_right = sum(len(group) for group in groups if _is_right(group[0], expected))
    if num_right in (0, total):  # whichever are taken
        return dict.fromkeys(HEADLINES, float(num_right > 0))
    if number == 1:  # whichever is taken is the only attempt
        return dict.fromkeys(HEADLINES, num_right / total)
    # The grid of each candidate is looked up: comparing grids in each subset would take most of the time.
    members = [(n, candidate) for n, group in enumerate(groups) for candidate in group]
    marks = [
        _marks(expected, [members[n] for n in positions if n < len(members)], rule)
        for positions in _subsets(place, total, number)
    ]
    means = {name: mean([one[name] for one in marks]) for name in marks[0]}
    exact = {"pass_at_n": 1 - comb(total - num_right, number) / comb(total, number)}
    if number == 2:  # no rule leaves one of two out
        exact |= dict.fromkeys(("pass_at_2", "vote_2"), exact["pass_at_n"])
    return {**means, **exact}


def _is_right(candidate: Candidate, expected: Grid) -> bool:
    return candidate.grid is not None and np.array_equal(candidate.grid, expected)


def _marks(expected: Grid, members: Sequence[tuple[int, Candidate]], rule: Rule) -> Marks:
    """The marks of some candidates, each with the number of its group of equal grids."""
    groups: dict[int, list[Candidate]] = defaultdict(list)
    for number, candidate in members:
        groups[number].append(candidate)
    grids = [rank(group) for group in groups.values()]
    most_voted = votes_then_log_probability(grids)
    attempts = in_order(grids, rule)
    return {
        f"{name}_{k}": right_within(order[:k], expected)
        for name, order in (("pass_at", attempts), ("vote", most_voted))
        for k in (1, 2)
    }


def _subsets(place: str, total: int, number: int) -> Iterator[Sequence[int]]:
    """Positions of all subsets of this size, or of drawn ones; the last positions are invalid answers."""
    if comb(total, number) <= MOST_COUNTED:
        yield from combinations(range(total), number)
        return
    rng = rng_for("predictions", number, place)
    for _ in range(NUM_DRAWN):
        yield rng.choice(total, number, replace=False).tolist()
