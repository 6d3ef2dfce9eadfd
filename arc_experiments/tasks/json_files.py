"""A folder of task files, one JSON a task, folders in folders: the form in which ARC is published."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from arc_experiments.tasks.parsing import parse_task
from arc_experiments.tasks.source import BadTasks, FixedTasks
from arc_experiments.tasks.task import Task, TaskSet


@dataclass(frozen=True, kw_only=True)
class JsonFiles:
    """Reads `<path>/**/*.json`; a task's id is its file's name, its split the folder it lies in."""

    path: str

    def read(self, bad_tasks: BadTasks) -> FixedTasks:
        """Raises ValueError for a folder without tasks, and for a bad file, with the reason."""
        root = Path(self.path).expanduser()
        files = sorted(root.rglob("*.json"), key=lambda file: file.stem)
        if not files:
            raise ValueError(f"data.path={self.path}: no .json file in this folder or below it")
        for first, second in pairwise(files):
            if first.stem == second.stem:
                raise ValueError(f"data.path={self.path}: two files for task {first.stem}: {first}, {second}")
        tasks = []
        for file in files:
            with bad_tasks.caught():
                tasks.append(_read_file(file, root))
        return FixedTasks(TaskSet(tasks))


def _read_file(file: Path, root: Path) -> Task:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: not JSON in UTF-8: {error}") from error
    split = file.parent.name if file.parent != root else ""
    return parse_task(file.stem, data, split=split, where=str(file))
