"""What each stage gave: answers before adaptation, adaptation, the second pass, and another run's answers.

{"name": "adaptation", "num_tasks": 236, "num_answered": 240, "pass_at_2": 0.21, "won": ["e3"], "lost": []}
"""

from collections.abc import Iterator, Sequence
from typing import Any

from arc_experiments.adaptation.results import Adapted, Results
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.paired_difference import difference
from arc_experiments.scoring.per_output import by_output, solved
from arc_experiments.scoring.selection import Rule
from arc_experiments.tasks import TaskSet


def stages(
    tasks: TaskSet, results: Results, fallback: Sequence[Candidate], rule: Rule
) -> Iterator[dict[str, Any]]:
    """Yield a stage at a time, for metrics.json.

    `num_tasks`: those it gave answers to. `num_answered`: those of which every test input has an answer by
    then. If there are solutions, `pass_at_2` is the score by then, `won` and `lost` the tasks with more and
    fewer test outputs right than a stage before.

    Args:
        fallback: answers of another run (`inference.fallback_run`).
    """
    given = [
        ("before", results.before, results.before),
        ("adaptation", results.after_first, _of(results.adapted)),
    ]
    if results.again:
        given.append(("second_pass", results.candidates, _of(results.again)))
    if fallback:
        given.append(("fallback_run", [*results.candidates, *fallback], list(fallback)))
    earlier: Sequence[Candidate] = ()
    for name, by_then, own in given:
        yield {
            "name": name,
            "num_tasks": len({one.task_id for one in own if one.grid is not None}),
            "num_answered": _num_answered(tasks, by_then),
            **(_scored(tasks, earlier, by_then, rule) if len(solved(tasks)) else {}),
        }
        earlier = by_then


def _of(units: Sequence[Adapted]) -> list[Candidate]:
    return [candidate for unit in units for candidate in unit.candidates or ()]


def _num_answered(tasks: TaskSet, candidates: Sequence[Candidate]) -> int:
    found = by_output(tasks, (one for one in candidates if one.grid is not None))
    return sum(all(found[task.id, number] for number in range(len(task.test))) for task in tasks)


def _scored(
    tasks: TaskSet, earlier: Sequence[Candidate], by_then: Sequence[Candidate], rule: Rule
) -> dict[str, Any]:
    """Return the score, and the tasks with more or fewer test outputs right than before."""
    gained = difference(tasks, (), by_then, rule)["pass_at_2"]["difference"]  # from no answer at all
    compared = difference(tasks, earlier, by_then, rule)
    return {"pass_at_2": gained, "won": compared["won"], "lost": compared["lost"]}
