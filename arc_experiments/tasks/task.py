"""Pairs of grids, programs, tasks, and sets of tasks."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arc_experiments.tasks.grids import Grid, GridError, check_grid
from arc_experiments.tasks.html import row

MOST_SHOWN = 10  # tasks of a set, in a notebook

# Why a generator's pair is refused: the generator failed, or made invalid cells; a grid is larger than
# allowed; the output is the input; each grid has a single colour; the input was seen before; the verifier
# disagrees.
REFUSALS = ("error", "bad cells", "oversize", "unchanged", "constant", "duplicate", "unverified")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """An input grid and its output grid (None if the answer is withheld)."""

    input: Grid
    output: Grid | None

    def to_json(self) -> dict[str, Any]:
        sides = {"input": self.input, "output": self.output}
        return {side: grid.tolist() for side, grid in sides.items() if grid is not None}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program in one of the languages of `arc_experiments.programs`.

    Attributes:
        text: in the language's canonical form, unless it is an answer as it was written.
        open_end: whether nothing is learnt of where it ends, so that a model may write longer programs.
    """

    language: str
    text: str
    open_end: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Demonstration pairs (`train`) and test pairs (`test`).

    Attributes:
        split: the part of its source that it belongs to.
        program: maps the input of every pair to its output; None if no such program is known.
        refused: how many of a generator's pairs were refused while this task was drawn, by `REFUSALS`.
    """

    id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    split: str = ""
    program: Program | None = None
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_lists(
        cls, task_id: str, train: Iterable[tuple[Any, Any]], test: Iterable[tuple[Any, Any]]
    ) -> "Task":
        """Make a task of pairs (input, output) of nested lists or arrays; an unknown test output is None.

        Raises:
            GridError: something is no grid; the message names task, pair (counted from 0) and side.
            ValueError: there are no train or no test pairs, or one is not (input, output).
        """
        return cls(
            id=task_id,
            train=_pairs_of(train, f"task {task_id}, train"),
            test=_pairs_of(test, f"task {task_id}, test"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return `{"train": [{"input", "output"}], "test": [...]}`, without outputs that are withheld."""
        return {
            "train": [pair.to_json() for pair in self.train],
            "test": [pair.to_json() for pair in self.test],
        }

    def __repr__(self) -> str:
        return f"<Task {self.id} | {len(self.train)} train | {len(self.test)} test>"

    def _repr_html_(self) -> str:
        parts = {"demonstration": self.train, "test": self.test}
        rows = [
            row([("input", pair.input), ("output", pair.output)], f"{self.id}, {part} {number}")
            for part, pairs in parts.items()
            for number, pair in enumerate(pairs, start=1)
        ]
        return f'<div style="display:flex;flex-wrap:wrap;gap:24px">{"".join(rows)}</div>'

    def without_solutions(self) -> "Task":
        """Return the task without its test outputs and program, as a solver may see it."""
        test = tuple(Pair(input=pair.input, output=None) for pair in self.test)
        return Task(id=self.id, train=self.train, test=test, split=self.split)


def _pairs_of(given: Iterable[Any], place: str) -> tuple[Pair, ...]:
    pairs = []
    for number, pair in enumerate(given):
        where = f"{place} pair {number}"
        if isinstance(pair, str | dict) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(
                f"{where} (counted from 0) is not (input, output), two grids, "
                f"or (input, None) if the output is not known: {str(pair)[:80]}"
            )
        first, second = pair
        output = None if second is None else _grid_of(second, f"{where}, output")
        pairs.append(Pair(input=_grid_of(first, f"{where}, input"), output=output))
    if not pairs:
        raise ValueError(f"{place}: there are no pairs, and a task needs at least one")
    return tuple(pairs)


def _grid_of(cells: object, where: str) -> Grid:
    try:
        return check_grid(cells)
    except GridError as error:
        raise type(error)(f"{where}: {error}") from error


class TaskSet:
    """Tasks in a fixed order, accessed by position or by id.

    Raises:
        ValueError: two tasks have the same id.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = tuple(tasks)
        self._by_id = {task.id: task for task in self._tasks}
        self.ids = tuple(task.id for task in self._tasks)
        if len(self._by_id) != len(self._tasks):
            counts = Counter(task.id for task in self._tasks)
            twice = [task_id for task_id, count in counts.items() if count > 1]
            raise ValueError(f"task ids must be unique, found twice: {', '.join(twice[:5])}")

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __getitem__(self, key: int | str) -> Task:
        return self._by_id[key] if isinstance(key, str) else self._tasks[key]

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._by_id

    def __repr__(self) -> str:
        return f"<TaskSet of {len(self)} tasks, {self.num_test_outputs} test outputs>"

    def _repr_html_(self) -> str:
        shown = "".join(task._repr_html_() for task in self._tasks[:MOST_SHOWN])
        more = len(self) - MOST_SHOWN
        return shown + (f"<div>and {more} more</div>" if more > 0 else "")

    def save(self, file: Path | str) -> Path:
        """Write all tasks into one JSON file, by id, for `data=files data.path=<file>`."""
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({task.id: task.to_json() for task in self._tasks}), encoding="utf-8")
        return path

    @property
    def num_test_outputs(self) -> int:
        return sum(len(task.test) for task in self._tasks)

    def select(self, ids: Iterable[str]) -> "TaskSet":
        """Return the tasks with these ids, in this order."""
        return TaskSet(self._by_id[task_id] for task_id in ids)

    def without_solutions(self) -> "TaskSet":
        return TaskSet(task.without_solutions() for task in self._tasks)

    def hash(self) -> str:
        """Return a digest of ids, order, programs and every grid, 16 hex digits."""
        digest = hashlib.sha256()
        for task in self._tasks:
            digest.update(task.id.encode())
            if task.program is not None:
                digest.update(f"{task.program.language} {task.program.text}".encode())
            for part in (task.train, task.test):
                for pair in part:
                    for grid in (pair.input, pair.output):
                        digest.update(b"-" if grid is None else bytes(grid.shape) + grid.tobytes())
                digest.update(b"|")
        return digest.hexdigest()[:16]
