"""Compare two sets of answers task by task, so that the choice of tasks adds no noise.

In: the tasks with solutions, and the candidates before and after. Out: the `difference` part of metrics.json,

    {"pass_at_2": {"difference": 0.12, "interval": [0.04, 0.2]}, ..., "won": ["007bbfb7"], "lost": []}
"""

from collections.abc import Iterable
from typing import Any

from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.per_output import HEADLINES, marks_by_task, means, task_shares
from arc_experiments.scoring.selection import Rule
from arc_experiments.scoring.uncertainty import bootstrap
from arc_experiments.tasks.task import TaskSet


def difference(
    tasks: TaskSet,
    before: Iterable[Candidate],
    after: Iterable[Candidate],
    rule: Rule,
    rule_before: Rule | None = None,
) -> dict[str, Any]:
    """By how much the second candidates are better or worse.

    - each headline score: after - before, and its 95% bootstrap interval over tasks (None if all gained
      alike).
    - `won`, `lost`: the tasks with more, or fewer, test outputs right within two attempts.

    Args:
        rule_before: the rule of the first candidates, if another one.

    Raises:
        ValueError: as `scoring.score`.
    """
    old = task_shares(marks_by_task(tasks, before, rule_before or rule))
    new = task_shares(marks_by_task(tasks, after, rule))
    gains = {
        task_id: {name: new[task_id][name] - old[task_id][name] for name in HEADLINES} for task_id in old
    }
    bounds = bootstrap(list(gains.values()))
    return {
        **{name: {"difference": value, "interval": bounds[name]} for name, value in means(gains).items()},
        "won": [task_id for task_id, gain in gains.items() if gain["pass_at_2"] > 0],
        "lost": [task_id for task_id, gain in gains.items() if gain["pass_at_2"] < 0],
    }
