"""Two answers to the same tasks, compared task by task: what differs between them is not the luck of the tasks.

In: the tasks with solutions, and the candidates before and after. Out: the `difference` part of metrics.json,
    {"pass_at_2": {"difference": 0.12, "interval": [0.04, 0.2]}, ..., "won": ["007bbfb7"], "lost": []}
"""

from collections.abc import Iterable
from math import fsum
from typing import Any

from arc_experiments.scoring.intervals import intervals
from arc_experiments.scoring.per_output import HEADLINES, marks_by_task
from arc_experiments.scoring.selection import Candidate, Rule
from arc_experiments.tasks.task import TaskSet


def difference(
    tasks: TaskSet,
    before: Iterable[Candidate],
    after: Iterable[Candidate],
    rule: Rule,
    rule_before: Rule | None = None,
) -> dict[str, Any]:
    """What the second candidates are better (or worse) by.

    - each headline fraction: after - before, and its 95% bootstrap interval over tasks (None where all gained alike).
    - `won`, `lost`: the tasks of which more, or fewer, test outputs are right within two attempts.

    Args:
        rule_before: that of the first candidates, if it is another one.

    Raises:
        ValueError: as `scoring.score`.
    """
    old, new = marks_by_task(tasks, before, rule_before or rule), marks_by_task(tasks, after, rule)
    gains = {
        task_id: [
            {name: second[name] - first[name] for name in HEADLINES}
            for first, second in zip(old[task_id], new[task_id], strict=True)
        ]
        for task_id in old
    }
    rows = [row for rows in gains.values() for row in rows]
    bounds = intervals(list(gains.values()))
    total = {task_id: sum(row["pass_at_2"] for row in rows) for task_id, rows in gains.items()}
    return {
        **{
            name: {"difference": fsum(row[name] for row in rows) / len(rows), "interval": bounds[name]}
            for name in HEADLINES
        },
        "won": [task_id for task_id, gain in total.items() if gain > 0],
        "lost": [task_id for task_id, gain in total.items() if gain < 0],
    }
