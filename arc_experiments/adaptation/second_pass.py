"""The second pass: adapt anew to each task, the least certain first; its answers join those of the first.

It draws other samples, so the two passes are two adapted models that vote together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from arc_experiments.adaptation.task_groups import Bundle, TaskGroup
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.per_output import by_output
from arc_experiments.scoring.selection import Rule, select
from arc_experiments.tasks import TaskSet

FIRST_SAMPLE = 10_000  # the number of each view's first answer, beyond all those of the first pass
Certainty = tuple[float, float]
UNANSWERED: Certainty = (0.0, float("-inf"))


def again(group: TaskGroup) -> TaskGroup:
    """Return the same tasks for the second pass."""
    return replace(group, name=f"again-{group.name}", is_again=True)


def least_certain_first(
    bundles: Iterable[Bundle], candidates: Sequence[Candidate], rule: Rule
) -> list[Bundle]:
    """Sort bundles by the least certain test output of their tasks; those without any answer come first."""
    bundles = list(bundles)
    tasks = TaskSet(task for bundle in bundles for group in bundle.groups for task in group.tasks)
    found = by_output(tasks, candidates)
    sure = {
        task.id: min(_certainty(found[task.id, number], rule) for number in range(len(task.test)))
        for task in tasks
    }
    return sorted(
        bundles, key=lambda bundle: min(sure[i] for group in bundle.groups for i in group.tasks.ids)
    )


def _certainty(candidates: Sequence[Candidate], rule: Rule) -> Certainty:
    """Return the share of all answers that are the first attempt, then the log-probability of its tokens."""
    ranked = select(candidates, rule)
    return (ranked[0].votes / len(candidates), ranked[0].log_probability) if ranked else UNANSWERED
