"""Scoring: candidates and solutions become every metric; candidates become a submission.

In: a TaskSet, whose test outputs are the fixed denominator of every fraction, and candidates in any order.
Out: the `score` part of metrics.json, or the Kaggle submission
    {"007bbfb7": [{"attempt_1": [[7, 0], [0, 7]], "attempt_2": [[7, 0], [0, 0]]}], ...}
with one entry per test output. A test output without candidates counts as wrong in every metric.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import fsum
from typing import Any

import numpy as np

from arc_experiments.grids import Grid, GridError, check_grid
from arc_experiments.selection import (
    NUM_ATTEMPTS,
    Candidate,
    Ranked,
    Rule,
    distinct,
    rules,
    select,
    votes_then_log_probability,
)
from arc_experiments.tasks.task import TaskSet

Submission = dict[str, list[dict[str, list[list[int]]]]]

HEADLINES = ("pass_at_1", "pass_at_2", "pass_at_n", "vote_1", "vote_2")
NUM_RESAMPLES = 2000
ATTEMPTS = tuple(f"attempt_{number}" for number in range(1, NUM_ATTEMPTS + 1))


def score(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> dict[str, Any]:
    """Every metric of these candidates, as fractions 0..1 over all test outputs of `tasks`.

    - `accuracy`, `correct_size`, `correct_pixels`: the share of an output's candidates that are right, that
      have the right shape, and the mean share of right cells (0 where invalid or of another shape).
    - `pass_at_n`, `any_correct_size`, `max_correct_pixels`: the best candidate of each of these.
    - `pass_at_k`: right among the first k of `rule`. `vote_k`: right among the k most voted.
    - `unanswered`: no valid candidate.
    - `by_rule`, within two attempts: `test_output` (right outputs / all outputs, as on Kaggle),
      `task_fraction` (mean over tasks of the share of right outputs), `task_strict` (all outputs right).
    - `by_selection`: `pass_at_1` and `pass_at_2` of every rule; those of likelihoods where they were computed.
    - `by_task`: the share of right outputs of each task within two attempts.
    - `invalid`: number of candidates by reason.
    - `interval`: 95% bootstrap interval [low, high] of each headline fraction.

    Raises:
        ValueError: a test output without solution, a candidate of no task, or nothing to score.
    """
    by_output = _by_output(tasks, candidates)
    marks = _marks_of(tasks, by_output, rule)
    rows = [row for rows in marks.values() for row in rows]
    by_task = {task_id: _mean([row["pass_at_2"] for row in rows]) for task_id, rows in marks.items()}
    reasons = Counter(c.reason for group in by_output.values() for c in group if c.reason is not None)
    result: dict[str, Any] = {name: _mean([row[name] for row in rows]) for name in rows[0]}
    return result | {
        "num_tasks": len(tasks),
        "num_test_outputs": len(rows),
        "by_rule": {
            "test_output": result["pass_at_2"],
            "task_fraction": _mean(list(by_task.values())),
            "task_strict": _mean([float(share == 1) for share in by_task.values()]),
        },
        "by_selection": _by_selection(_solutions(tasks), by_output),
        "by_task": by_task,
        "invalid": dict(sorted(reasons.items())),
        "interval": intervals(list(marks.values())),
    }


def marks_by_task(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> dict[str, list[dict[str, float]]]:
    """The metrics that `score` gives the means of, for each test output of each task.

    Raises:
        ValueError: as `score`.
    """
    return _marks_of(tasks, _by_output(tasks, candidates), rule)


def intervals(marks: Sequence[Sequence[dict[str, float]]]) -> dict[str, list[float] | None]:
    """Percentile bootstrap over whole tasks, since the test outputs of a task stand or fall together.

    All headlines see the same resamples, and so does every run on the same tasks. None where every task has
    the same mark: resampling them can say nothing, and a point would look like certainty.
    """
    num_tasks = len(marks)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), size=NUM_RESAMPLES).astype(float)
    right = np.array([[sum(row[name] for row in rows) for name in HEADLINES] for rows in marks])
    outputs = np.array([[len(rows)] for rows in marks])
    fractions = (draws @ right) / (draws @ outputs)
    low, high = np.percentile(fractions, [2.5, 97.5], axis=0)
    return {
        name: [float(low[i]), float(high[i])] if low[i] < high[i] else None
        for i, name in enumerate(HEADLINES)
    }


def _by_selection(
    solutions: dict[str, list[Grid]], by_output: dict[tuple[str, int], list[Candidate]]
) -> dict[str, dict[str, float]]:
    """What the attempts of each rule would have scored."""
    has_likelihoods = any(candidate.likelihoods for group in by_output.values() for candidate in group)
    grids = [
        (expected, distinct(by_output[task_id, i]))
        for task_id, outputs in solutions.items()
        for i, expected in enumerate(outputs)
    ]
    return {
        name: {
            f"pass_at_{k}": _mean([_right_within(rule(group)[:k], expected) for expected, group in grids])
            for k in range(1, NUM_ATTEMPTS + 1)
        }
        for name, rule in rules(with_likelihoods=has_likelihoods).items()
    }


def submission(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> Submission:
    """Two attempts for every test output of `tasks`, in their order; solutions are not looked at.

    Where there is only one distinct grid it is given twice; where there is none, [[0]].

    Raises:
        ValueError: a candidate of no task.
    """
    by_output = _by_output(tasks, candidates)
    return {
        task.id: [_attempts(select(by_output[task.id, i], rule)) for i in range(len(task.test))]
        for task in tasks
    }


def check_submission(submission: object, tasks: TaskSet) -> None:
    """Accept a submission that answers every test output of `tasks` in the Kaggle format.

    Raises:
        ValueError: all mistakes, one a line.
    """
    if not isinstance(submission, dict):
        raise ValueError(f"a submission maps task ids to lists of attempts, this is a {_kind(submission)}")
    mistakes = [f"{key}: no such task, take it out" for key in submission if key not in tasks]
    for task in tasks:
        entries = submission.get(task.id)
        if entries is None:
            mistakes.append(f"{task.id}: the task is missing")
        elif not isinstance(entries, list):
            mistakes.append(
                f"{task.id}: needs a list of {len(task.test)} entries, this is a {_kind(entries)}"
            )
        else:
            if len(entries) != len(task.test):
                mistakes.append(f"{task.id}: has {len(entries)} entries for {len(task.test)} test outputs")
            for i, entry in enumerate(entries):
                mistakes += [f"{task.id}[{i}]: {mistake}" for mistake in _entry_mistakes(entry)]
    if mistakes:
        raise ValueError("the submission is not valid:\n" + "\n".join(f"  {line}" for line in mistakes))


def _solutions(tasks: TaskSet) -> dict[str, list[Grid]]:
    solutions = {task.id: [pair.output for pair in task.test if pair.output is not None] for task in tasks}
    lacking = [task.id for task in tasks if not task.test or len(solutions[task.id]) < len(task.test)]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(tasks)} tasks have test outputs without solution ({_some(lacking)}): "
            "score with the tasks that hold their solutions"
        )
    if not solutions:
        raise ValueError("there are no tasks to score: choose at least one (data.limit, inference.limit)")
    return solutions


def _by_output(tasks: TaskSet, candidates: Iterable[Candidate]) -> dict[tuple[str, int], list[Candidate]]:
    """Candidates by task id and test index, with an empty list where there is none."""
    by_output: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_output[candidate.task_id, candidate.test_index].append(candidate)
    known = {(task.id, i) for task in tasks for i in range(len(task.test))}
    strangers = [f"{task_id}[{i}]" for task_id, i in by_output if (task_id, i) not in known]
    if strangers:
        raise ValueError(
            f"there are candidates for test outputs that are not among the tasks ({_some(strangers)}): "
            "score with the tasks they were generated for"
        )
    return by_output


def _marks_of(
    tasks: TaskSet, by_output: dict[tuple[str, int], list[Candidate]], rule: Rule
) -> dict[str, list[dict[str, float]]]:
    return {
        task_id: [_marks(expected, by_output[task_id, i], rule) for i, expected in enumerate(outputs)]
        for task_id, outputs in _solutions(tasks).items()
    }


def _marks(expected: Grid, candidates: Sequence[Candidate], rule: Rule) -> dict[str, float]:
    """Every metric of one test output; its mean over test outputs is the metric of that name."""
    grids = distinct(candidates)
    attempts, most_voted = rule(grids), votes_then_log_probability(grids)
    # Once per distinct grid, weighted with its votes: hundreds of samples are mostly repetitions.
    sizes = [float(ranked.grid.shape == expected.shape) for ranked in grids]
    pixels = [_share_of_right_cells(ranked.grid, expected) for ranked in grids]

    def over_candidates(values: Sequence[float]) -> float:
        total = fsum(value * ranked.votes for value, ranked in zip(values, grids, strict=True))
        return total / len(candidates) if candidates else 0.0

    return {
        "pass_at_1": _right_within(attempts[:1], expected),
        "pass_at_2": _right_within(attempts[:2], expected),
        "pass_at_n": float(1 in pixels),
        "vote_1": _right_within(most_voted[:1], expected),
        "vote_2": _right_within(most_voted[:2], expected),
        "accuracy": over_candidates([float(share == 1) for share in pixels]),
        "correct_pixels": over_candidates(pixels),
        "max_correct_pixels": max(pixels, default=0.0),
        "correct_size": over_candidates(sizes),
        "any_correct_size": max(sizes, default=0.0),
        "unanswered": float(not grids),
    }


def _right_within(grids: Iterable[Ranked], expected: Grid) -> float:
    return float(any(np.array_equal(ranked.grid, expected) for ranked in grids))


def _share_of_right_cells(grid: Grid, expected: Grid) -> float:
    return np.count_nonzero(grid == expected) / expected.size if grid.shape == expected.shape else 0.0


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _attempts(ranked: Sequence[Ranked]) -> dict[str, list[list[int]]]:
    grids: list[list[list[int]]] = [one.grid.tolist() for one in ranked[:NUM_ATTEMPTS]] or [[[0]]]
    return {name: grids[min(i, len(grids) - 1)] for i, name in enumerate(ATTEMPTS)}


def _entry_mistakes(entry: object) -> Iterable[str]:
    if not isinstance(entry, dict):
        yield f"needs {' and '.join(ATTEMPTS)}, this is a {_kind(entry)}"
        return
    for name in ATTEMPTS:
        if name not in entry:
            yield f"{name} is missing"
            continue
        try:
            check_grid(entry[name])
        except GridError as error:
            yield f"{name} is not a grid: {error}"
    yield from (f"{name} is not an attempt, take it out" for name in entry if name not in ATTEMPTS)


def _kind(value: object) -> str:
    return type(value).__name__


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
