"""Marks: what each test output gets for its candidates. Scores are means of marks.

In: a TaskSet and candidates in any order. Out: for each task with solutions, a dictionary of marks per test
output; one without candidates gets the worst.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import fsum

import numpy as np

from arc_experiments.config.plurals import plural
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.selection import Ranked, Rule, distinct, in_order, votes_then_log_probability
from arc_experiments.tasks.grids import Grid, share_of_right_cells
from arc_experiments.tasks.task import TaskSet

# Scored by Kaggle's and ARC Prize's rule: the share of right test outputs per task, then the mean over tasks.
HEADLINES = ("pass_at_1", "pass_at_2", "pass_at_n", "vote_1", "vote_2")

Marks = dict[str, float]
ByOutput = dict[tuple[str, int], list[Candidate]]
"""Candidates by task id and test index; an empty list for those without."""


def marks_by_task(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> dict[str, list[Marks]]:
    """The marks of each test output of each task with solutions.

    Raises:
        ValueError: as `score`.
    """
    return marks_of(tasks, by_output(tasks, candidates), rule)


def task_shares(marks: Mapping[str, Sequence[Marks]], names: Sequence[str] = HEADLINES) -> dict[str, Marks]:
    """By task, the means of these marks over its test outputs; a headline score is their mean over tasks."""
    return {
        task_id: {name: mean([row[name] for row in rows]) for name in names}
        for task_id, rows in marks.items()
    }


def means(shares: Mapping[str, Marks]) -> Marks:
    """The mean over tasks of each share."""
    rows = list(shares.values())
    return {name: mean([row[name] for row in rows]) for name in rows[0]}


def solved(tasks: TaskSet) -> TaskSet:
    """The tasks whose test outputs are all known: those that can be scored."""
    return TaskSet(task for task in tasks if task.test and all(pair.output is not None for pair in task.test))


def solutions(tasks: TaskSet) -> dict[str, list[Grid]]:
    """The test outputs of each task that has them all.

    Raises:
        ValueError: there is none.
    """
    found = {
        task.id: [pair.output for pair in task.test if pair.output is not None] for task in solved(tasks)
    }
    if not len(tasks):
        raise ValueError("there are no tasks to score: choose at least one (data.limit, inference.limit)")
    if not found:
        raise ValueError(
            f"no test output of {plural(len(tasks), 'task')} has a solution ({some(tasks.ids)}): score with "
            "the tasks that hold their solutions"
        )
    return found


def by_output(tasks: TaskSet, candidates: Iterable[Candidate]) -> ByOutput:
    """Candidates by test output.

    Raises:
        ValueError: a candidate of no task.
    """
    found: ByOutput = defaultdict(list)
    for candidate in candidates:
        found[candidate.task_id, candidate.test_index].append(candidate)
    known = {(task.id, i) for task in tasks for i in range(len(task.test))}
    strangers = [f"{task_id}[{i}]" for task_id, i in found if (task_id, i) not in known]
    if strangers:
        raise ValueError(
            f"there are candidates for test outputs that are not among the tasks ({some(strangers)}): "
            "score with the tasks they were generated for"
        )
    return found


def marks_of(tasks: TaskSet, found: ByOutput, rule: Rule) -> dict[str, list[Marks]]:
    """As `marks_by_task`."""
    return {
        task_id: [_marks(expected, found[task_id, i], rule) for i, expected in enumerate(outputs)]
        for task_id, outputs in solutions(tasks).items()
    }


def _marks(expected: Grid, candidates: Sequence[Candidate], rule: Rule) -> Marks:
    """Every metric of one test output; its mean over test outputs is the metric of that name."""
    grids = distinct(candidates)
    attempts, most_voted = in_order(grids, rule), votes_then_log_probability(grids)
    # Once per distinct grid, weighted by its votes: hundreds of samples are mostly repetitions.
    sizes = [float(ranked.grid.shape == expected.shape) for ranked in grids]
    pixels = [share_of_right_cells(ranked.grid, expected) for ranked in grids]

    def over_candidates(values: Sequence[float]) -> float:
        total = fsum(value * ranked.votes for value, ranked in zip(values, grids, strict=True))
        return total / len(candidates) if candidates else 0.0

    return {
        "pass_at_1": right_within(attempts[:1], expected),
        "pass_at_2": right_within(attempts[:2], expected),
        "pass_at_n": float(1 in pixels),
        "vote_1": right_within(most_voted[:1], expected),
        "vote_2": right_within(most_voted[:2], expected),
        "accuracy": over_candidates([float(share == 1) for share in pixels]),
        "correct_pixels": over_candidates(pixels),
        "max_correct_pixels": max(pixels, default=0.0),
        "correct_size": over_candidates(sizes),
        "any_correct_size": max(sizes, default=0.0),
        "unanswered": float(not grids),
    }


def right_within(grids: Iterable[Ranked], expected: Grid) -> float:
    """1 if one of the grids is the expected one, else 0."""
    return float(any(np.array_equal(ranked.grid, expected) for ranked in grids))


def mean(values: Sequence[float]) -> float:
    """Exact to the last bit in any order."""
    return fsum(values) / len(values)


def some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
