"""Every metric of a set of candidates: the `score` part of metrics.json.

In: a TaskSet, whose known test outputs are the fixed denominator of every fraction, and candidates in any order.
A test output without candidates counts as wrong in every metric.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from arc_experiments.scoring.by_kind import by_group
from arc_experiments.scoring.intervals import intervals
from arc_experiments.scoring.per_output import ByOutput, by_output, marks_of, mean, right_within, solutions
from arc_experiments.scoring.selection import (
    NUM_ATTEMPTS,
    Candidate,
    Rule,
    distinct,
    rules,
    votes_then_log_probability,
)
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import TaskSet

# To be raised when a number of metrics.json comes to mean something else: runs of two versions are not compared.
METRICS_VERSION = 1


def score(
    tasks: TaskSet,
    candidates: Iterable[Candidate],
    rule: Rule = votes_then_log_probability,
    source_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Every metric of these candidates, as fractions 0..1 over all test outputs of those `tasks` that have solutions.

    - `accuracy`, `correct_size`, `correct_pixels`: the share of an output's candidates that are right, that
      have the right shape, and the mean share of right cells (0 where invalid or of another shape).
    - `pass_at_n`, `any_correct_size`, `max_correct_pixels`: the best candidate of each of these.
    - `pass_at_k`: right among the first k of `rule`. `vote_k`: right among the k most voted.
    - `unanswered`: no valid candidate.
    - `num_tasks_without_solutions`: tasks that are not scored, as not all of their test outputs are known.
    - `by_rule`, within two attempts: `test_output` (right outputs / all outputs, as on Kaggle),
      `task_fraction` (mean over tasks of the share of right outputs), `task_strict` (all outputs right).
    - `by_selection`: `pass_at_1` and `pass_at_2` of every rule; those of likelihoods where they were computed.
    - `by_group`: `pass_at_2` by size of the test output, by number of demonstrations, by concept, by source
      (`groups.by_group`).
    - `by_task`: the share of right outputs of each task within two attempts.
    - `invalid`: number of candidates by reason.
    - `interval`: 95% bootstrap interval [low, high] of each headline fraction.
    - `version`: of what these numbers mean.

    Raises:
        ValueError: no task has solutions, or a candidate is of no task.
    """
    found = by_output(tasks, candidates)
    marks = marks_of(tasks, found, rule)
    rows = [row for rows in marks.values() for row in rows]
    by_task = {task_id: mean([row["pass_at_2"] for row in rows]) for task_id, rows in marks.items()}
    result: dict[str, Any] = {name: mean([row[name] for row in rows]) for name in rows[0]}
    return result | {
        "num_tasks": len(marks),
        "num_test_outputs": len(rows),
        "num_tasks_without_solutions": len(tasks) - len(marks),
        "by_rule": {
            "test_output": result["pass_at_2"],
            "task_fraction": mean(list(by_task.values())),
            "task_strict": mean([float(share == 1) for share in by_task.values()]),
        },
        "by_selection": _by_selection(solutions(tasks), found),
        "by_group": by_group(tasks, marks, source_of),
        "by_task": by_task,
        "invalid": _reasons(c for (task_id, _), group in found.items() if task_id in marks for c in group),
        "interval": intervals(list(marks.values())),
        "version": METRICS_VERSION,
    }


def _reasons(candidates: Iterable[Candidate]) -> dict[str, int]:
    reasons = Counter(candidate.reason for candidate in candidates if candidate.reason is not None)
    return dict(sorted(reasons.items()))


def _by_selection(expected: dict[str, list[Grid]], found: ByOutput) -> dict[str, dict[str, float]]:
    """What the attempts of each rule would have scored."""
    has_likelihoods = any(candidate.likelihoods for group in found.values() for candidate in group)
    grids = [
        (output, distinct(found[task_id, i]))
        for task_id, outputs in expected.items()
        for i, output in enumerate(outputs)
    ]
    return {
        name: {
            f"pass_at_{k}": mean([right_within(rule(group)[:k], output) for output, group in grids])
            for k in range(1, NUM_ATTEMPTS + 1)
        }
        for name, rule in rules(with_likelihoods=has_likelihoods).items()
    }
