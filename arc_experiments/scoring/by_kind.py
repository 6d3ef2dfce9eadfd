"""Scores by kind of task: where a model is good and where it is not.

    {"output_cells": {"1-9": {"num_tasks": 12, "num_test_outputs": 13, "pass_at_2": 0.5,
                              "interval": [0.2, 0.8]}, ...},
     "demonstrations": {"2": {...}, "3": {...}},
     "concept": {"AboveBelow": {...}, ...},
     "source": {"arc1": {...}, ...}}

`source` is there if several sources of a mixture hold tasks out, `concept` if the tasks of a source come from
several splits: the folders of ConceptARC, or of one's own files.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arc_experiments.scoring.per_output import Marks, means, task_shares
from arc_experiments.scoring.uncertainty import share_intervals
from arc_experiments.tasks.task import Task, TaskSet

SIZES = (9, 25, 100, 225, 400, 900)  # most cells of a test output in each group: 3 x 3, 5 x 5, 10 x 10, ...
OTHER = "other"  # of no folder
MOST_DEMONSTRATIONS = 6  # this many or more are one group

ByName = dict[str, dict[str, list[Marks]]]
"""By group and task, the marks of the test outputs."""


def by_group(
    tasks: TaskSet, marks: Mapping[str, Sequence[Marks]], source_of: Mapping[str, str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """pass@2 of each group of test outputs, with its 95% interval over the tasks in it (`share_intervals`).

    As everywhere, the mean over tasks of the share of right test outputs; here of those outputs in the group.

    Args:
        marks: of the test outputs of the scored tasks.
        source_of: by task, the source that holds it out.
    """
    scored = [tasks[task_id] for task_id in marks]
    rows: dict[str, ByName] = {
        "output_cells": _grouped(marks, {task.id: _sizes(task) for task in scored}),
        "demonstrations": _grouped(marks, _of_tasks(scored, _demonstrations)),
    }
    sources = {task.id: source_of[task.id] if source_of else OTHER for task in scored}
    if len({(task.split, sources[task.id]) for task in scored}) > len(set(sources.values())):
        rows["concept"] = _grouped(marks, _of_tasks(scored, lambda task: task.split or OTHER))
    if len(set(sources.values())) > 1:
        rows["source"] = _grouped(marks, _of_tasks(scored, lambda task: sources[task.id]))
    order = {"output_cells": _first_number, "demonstrations": _first_number}
    return {
        kind: {name: _group(found[name]) for name in sorted(found, key=order.get(kind, str))}
        for kind, found in rows.items()
    }


def _grouped(marks: Mapping[str, Sequence[Marks]], names: Mapping[str, Sequence[str]]) -> ByName:
    """Group marks; `names` are the groups of each task's test outputs."""
    found: ByName = defaultdict(lambda: defaultdict(list))
    for task_id, rows in marks.items():
        for name, row in zip(names[task_id], rows, strict=True):
            found[name][task_id].append(row)
    return found


def _of_tasks(tasks: Sequence[Task], name: Callable[[Task], str]) -> dict[str, list[str]]:
    """By task, its group, once for each test output."""
    return {task.id: [name(task)] * len(task.test) for task in tasks}


def _group(by_task: Mapping[str, list[Marks]]) -> dict[str, Any]:
    shares = task_shares(by_task, ["pass_at_2"])
    return {
        "num_tasks": len(by_task),
        "num_test_outputs": sum(map(len, by_task.values())),
        **means(shares),
        "interval": share_intervals(list(shares.values()))["pass_at_2"],
    }


def _sizes(task: Task) -> list[str]:
    return [_size(pair.output.size) for pair in task.test if pair.output is not None]


def _size(num_cells: int) -> str:
    place = next(place for place, most in enumerate(SIZES) if num_cells <= most)
    return f"{SIZES[place - 1] + 1 if place else 1}-{SIZES[place]}"


def _demonstrations(task: Task) -> str:
    count = len(task.train)
    return str(count) if count < MOST_DEMONSTRATIONS else f"{MOST_DEMONSTRATIONS} or more"


def _first_number(name: str) -> int:
    return int(name.replace("-", " ").split()[0])
