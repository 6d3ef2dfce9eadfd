"""Write tasks as JSON in the formats that `Files` reads: one task or many per file, or Kaggle's two files."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from arc_experiments.tasks.task import Task, TaskSet


def write_folder(tasks: Iterable[Task], folder: Path) -> None:
    """Write one file per task into folders named after the splits."""
    for task in tasks:
        _write(folder / task.split / f"{task.id}.json", task.to_json())


def write_file(tasks: Iterable[Task], file: Path) -> None:
    """Write all tasks into one file, by id."""
    TaskSet(tasks).save(file)


def write_kaggle(tasks: Iterable[Task], folder: Path, *, prefix: str = "arc-agi") -> None:
    """Write each split's challenges, and its solutions if its test outputs are known.

    Raises:
        ValueError: only some test outputs of a split are known.
    """
    splits: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        splits[task.split].append(task)
    for split, of_split in splits.items():
        outputs = {task.id: [pair.output for pair in task.test] for task in of_split}
        known = [output is not None for of_task in outputs.values() for output in of_task]
        if any(known) and not all(known):
            raise ValueError(
                f"split {split}: {known.count(False)} of {len(known)} test outputs are not known"
            )
        write_file(
            (task.without_solutions() for task in of_split), folder / f"{prefix}_{split}_challenges.json"
        )
        if all(known):
            solutions = {
                task_id: [output.tolist() for output in of_task if output is not None]
                for task_id, of_task in outputs.items()
            }
            _write(folder / f"{prefix}_{split}_solutions.json", solutions)


def _write(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data), encoding="utf-8")
