"""Task files for tests: one as JSON data, random ones for property tests, and comparisons."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from arc_experiments.sources import Files
from arc_experiments.tasks import BadTasks, Pair, Task, TaskSet, TrainingSource
from arc_experiments.tasks.grids import Grid

GOOD: dict[str, Any] = {
    "train": [{"input": [[1, 2]], "output": [[2], [1]]}],
    "test": [{"input": [[3]], "output": [[4]]}],
}


def pairs_json(count: int) -> list[dict[str, Any]]:
    """Pairs of one rule, no two alike."""
    return [{"input": [[n // 10, n % 10]], "output": [[n % 10, n // 10]]} for n in range(count)]


def write(folder: Path, name: str, data: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def row_pair(rng: np.random.Generator, colour: int | None) -> dict[str, Any]:
    """A row of three cells that becomes one of this colour; without a colour it is copied."""
    row = rng.integers(0, 10, 3).tolist()
    return {"input": [row], "output": [row if colour is None else [colour] * 3]}


def write_copying(folder: Path, rng: np.random.Generator) -> None:
    """Write 50 tasks to train on, which copy rows."""
    for number in range(50):
        pairs = [row_pair(rng, None) for _ in range(int(rng.integers(3, 8)))]
        write(folder, f"training/t{number}.json", {"train": pairs[1:], "test": pairs[:1]})


def read(path: Path, **options: Any) -> TrainingSource:
    return Files(path=str(path), **options).read(BadTasks())


def zipped(folder: Path) -> Path:
    """A zip of a folder beside it."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def as_json(tasks: TaskSet) -> dict[str, tuple[str, dict[str, Any]]]:
    """All that a set of tasks holds, in order."""
    return {task.id: (task.split, task.to_json()) for task in tasks}


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)) | st.just((30, 30)))
    return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 10, shape, dtype=np.uint8)


def pairs(*, solved: bool = True) -> st.SearchStrategy[Pair]:
    return st.builds(Pair, input=grids(), output=grids() if solved else st.none())


# What may stand in a file's name everywhere; Mini-ARC's names have blanks, commas and dots.
names = st.text(st.sampled_from("abcXYZ0189_- ,.'é"), min_size=1, max_size=12).filter(
    lambda name: name.strip(" .") == name
)


@st.composite
def task_sets(draw: st.DrawFn) -> TaskSet:
    """Tasks of a few splits, by id; those of the split `test` may lack their outputs."""
    ids = sorted(draw(st.lists(names, min_size=1, max_size=4, unique_by=str.casefold)))
    return TaskSet(draw(_tasks(task_id)) for task_id in ids)


@st.composite
def _tasks(draw: st.DrawFn, task_id: str) -> Task:
    split = draw(st.sampled_from(["training", "evaluation", "test"]))
    tests = pairs(solved=split != "test")
    return Task(
        id=task_id,
        train=tuple(draw(st.lists(pairs(), min_size=1, max_size=3))),
        test=tuple(draw(st.lists(tests, min_size=1, max_size=2))),
        split=split,
    )
