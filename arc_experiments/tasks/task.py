"""Pairs of grids, programs, tasks, and sets of tasks."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from arc_experiments.tasks.grids import Grid

# Why a generator's pair is refused: the generator failed, or made invalid cells; a grid is larger than
# allowed; the output is the input; each grid has a single colour; the input was seen before; the verifier
# disagrees.
REFUSALS = ("error", "bad cells", "oversize", "unchanged", "constant", "duplicate", "unverified")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """An input grid and its output grid (None if the answer is withheld)."""

    input: Grid
    output: Grid | None


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

    def __repr__(self) -> str:
        return f"<Task {self.id} | {len(self.train)} train | {len(self.test)} test>"

    def without_solutions(self) -> "Task":
        """Return the task without its test outputs and program, as a solver may see it."""
        test = tuple(Pair(input=pair.input, output=None) for pair in self.test)
        return Task(id=self.id, train=self.train, test=test, split=self.split)


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
