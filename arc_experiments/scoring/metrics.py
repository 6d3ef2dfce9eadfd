"""Every metric of a set of candidates: the `score` part of metrics.json.

In: a TaskSet, whose known test outputs are the fixed denominator of every fraction, and candidates in any
order. A test output without candidates counts as wrong in every metric.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from arc_experiments.config.user_code.functions import is_own
from arc_experiments.scoring.by_kind import by_group
from arc_experiments.scoring.by_program import program_scores
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.lost import lost
from arc_experiments.scoring.per_output import (
    HEADLINES,
    ByOutput,
    Marks,
    by_output,
    marks_of,
    mean,
    means,
    right_within,
    solutions,
    task_shares,
)
from arc_experiments.scoring.selection import (
    NUM_ATTEMPTS,
    Rule,
    distinct,
    in_order,
    rules,
    votes_then_log_probability,
)
from arc_experiments.scoring.uncertainty import bootstrap, share_intervals
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import TaskSet

# To be raised when a number of metrics.json changes its meaning, with a conversion in `in_todays_terms`.
METRICS_VERSION = 2
# What version 1 counted over all test outputs, and does not say by task.
RECOUNTED = (
    *(name for name in HEADLINES if name != "pass_at_2"),
    "by_selection",
    "by_group",
    "by_num_predictions",
)


def score(
    tasks: TaskSet,
    candidates: Iterable[Candidate],
    rule: Rule = votes_then_log_probability,
    source_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Every metric of these candidates, as fractions 0..1.

    By Kaggle's and ARC Prize's rule, the mean over tasks of the share of right test outputs:

    - `pass_at_k`: right among the first k of `rule`. `pass_at_n`: some candidate right. `vote_k`: right among
      the k most voted.

    Over all test outputs:

    - `accuracy`, `correct_size`, `correct_pixels`: the share of an output's candidates that are right, that
      have the right shape, and the mean share of right cells (0 where invalid or of another shape).
    - `any_correct_size`, `max_correct_pixels`: the best candidate of each of these.
    - `unanswered`: no valid candidate.

    And

    - `by_rule`: `pass_at_2` by the three rules in use: `task_fraction` (Kaggle's, `pass_at_2` itself),
      `test_output` (right test outputs / all test outputs), `task_strict` (share of tasks with every one
      right).
    - `by_selection`: `pass_at_1` and `pass_at_2` of every rule; of those of likelihoods if they were
      computed; of the user's own if it is in use.
    - `by_group`: `pass_at_2` by size of the test output, number of demonstrations, concept, source
      (`by_group`).
    - `lost`: right outputs that were never proposed, or not chosen, by every rule (`lost`).
    - `by_task`: the share of right outputs of each task within two attempts.
    - `invalid`: number of candidates by reason.
    - `programs`: of answers that are programs (`program_scores`); missing without.
    - `interval`: 95% interval [low, high] of each headline score (`share_intervals`).
    - `num_tasks_without_solutions`: tasks that are not scored, as not all of their test outputs are known.
    - `version`: `METRICS_VERSION`.

    Raises:
        ValueError: no task has solutions, or a candidate is of no task.
    """
    candidates = list(candidates)
    found = by_output(tasks, candidates)
    marks = marks_of(tasks, found, rule)
    shares = task_shares(marks)
    outputs = [row for rows in marks.values() for row in rows]
    by_task = {task_id: share["pass_at_2"] for task_id, share in shares.items()}
    result: dict[str, Any] = means(shares)
    by_selection = _by_selection(solutions(tasks), found, rule)
    programs = program_scores(tasks, candidates)
    return {
        **result,
        **{name: mean([row[name] for row in outputs]) for name in outputs[0] if name not in HEADLINES},
        "num_tasks": len(marks),
        "num_test_outputs": len(outputs),
        "num_tasks_without_solutions": len(tasks) - len(marks),
        "by_rule": {
            "task_fraction": result["pass_at_2"],
            "test_output": mean([row["pass_at_2"] for row in outputs]),
            "task_strict": mean([float(share == 1) for share in by_task.values()]),
        },
        "by_selection": {name: means(of_rule) for name, of_rule in by_selection.items()},
        "lost": lost(shares, by_selection),
        "by_group": by_group(tasks, marks, source_of),
        "by_task": by_task,
        "invalid": _reasons(c for (task_id, _), group in found.items() if task_id in marks for c in group),
        **({} if programs is None else {"programs": programs}),
        "interval": share_intervals(list(shares.values())),
        "version": METRICS_VERSION,
    }


def tasks_asked(metrics: Mapping[str, Any]) -> str:
    """`16 of 100 tasks asked` if `inference.limit` left tasks out of the scores; "" if not, or not known."""
    counts = metrics.get("answered", {})
    asked, known = counts.get("num_tasks", 0), counts.get("num_validation_tasks", 0)
    return f"{asked:,} of {known:,} tasks asked" if asked < known else ""


def in_todays_terms(metrics: dict[str, Any]) -> dict[str, Any]:
    """Convert metrics.json of any version to the meanings of this one.

    Version 1 counted `pass_at_k` and `vote_k` over all test outputs. `pass_at_2` by Kaggle's rule follows
    from its `by_task`; the other numbers that changed are left out, unless every task has one test output,
    so that all rules agree. `python -m arc_experiments.reselect <run folder>` counts them again from
    predictions.jsonl.
    """
    metrics = dict(metrics)
    if "before" in metrics:
        metrics["before"] = in_todays_terms(metrics["before"])
    old = metrics.get("score", {})
    if not old or old.get("version", 1) >= METRICS_VERSION:
        return metrics
    metrics["score"] = {**old, "version": METRICS_VERSION}
    if old.get("num_tasks") != old.get("num_test_outputs"):
        by_task = [{"pass_at_2": share} for share in old["by_task"].values()]
        kept = {name: value for name, value in old.items() if name not in RECOUNTED}
        converted = {"pass_at_2": old["by_rule"]["task_fraction"], "interval": share_intervals(by_task)}
        metrics["score"] = {**kept, **converted, "version": METRICS_VERSION, "converted_from": 1}
        if "difference" in metrics:
            metrics["difference"] = _difference_of(
                metrics["before"]["score"], metrics["score"], metrics["difference"]
            )
    return metrics


def _difference_of(before: dict[str, Any], after: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    gains = [{"pass_at_2": share - before["by_task"][task]} for task, share in after["by_task"].items()]
    value = after["pass_at_2"] - before["pass_at_2"]
    return {
        "pass_at_2": {"difference": value, "interval": bootstrap(gains)["pass_at_2"]},
        "won": old["won"],
        "lost": old["lost"],
    }


def _reasons(candidates: Iterable[Candidate]) -> dict[str, int]:
    reasons = Counter(candidate.reason for candidate in candidates if candidate.reason is not None)
    return dict(sorted(reasons.items()))


def _by_selection(
    expected: dict[str, list[Grid]], found: ByOutput, rule: Rule
) -> dict[str, dict[str, Marks]]:
    """By rule and task, what its attempts would have scored; the rule in use may be the user's."""
    has_likelihoods = any(candidate.likelihoods for group in found.values() for candidate in group)
    grids = {
        task_id: [(output, distinct(found[task_id, i])) for i, output in enumerate(outputs)]
        for task_id, outputs in expected.items()
    }
    names = [f"pass_at_{k}" for k in range(1, NUM_ATTEMPTS + 1)]
    scores = {}
    compared = rules(with_likelihoods=has_likelihoods)
    if is_own(rule.__name__):
        compared[rule.__name__] = rule
    for name, each in compared.items():
        marks = {
            task_id: [
                {at: right_within(order[:k], output) for k, at in enumerate(names, start=1)}
                for output, order in ((output, in_order(group, each)) for output, group in outputs)
            ]
            for task_id, outputs in grids.items()
        }
        scores[name] = task_shares(marks, names)
    return scores
