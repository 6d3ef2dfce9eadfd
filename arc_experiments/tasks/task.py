"""The nouns: a pair of grids, a task, a set of tasks."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from arc_experiments.tasks.grids import Grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """An input grid and its output grid (None where the answer is held back)."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Demonstration pairs (`train`) and test pairs (`test`).

    Attributes:
        split: where its source keeps it.
        num_redrawn: pairs that a generator gave beside these, which were no good.
    """

    id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    split: str = ""
    num_redrawn: int = 0

    def __repr__(self) -> str:
        return f"<Task {self.id} | {len(self.train)} train | {len(self.test)} test>"

    def without_solutions(self) -> "Task":
        """The same task with its test outputs removed: what a solver may see."""
        test = tuple(Pair(input=pair.input, output=None) for pair in self.test)
        return Task(id=self.id, train=self.train, test=test, split=self.split)


class TaskSet:
    """Tasks in a fixed order, reached by position or by id.

    Attributes:
        ids: in their order.

    Raises:
        ValueError: two tasks with one id.
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
        """The tasks with these ids, in this order."""
        return TaskSet(self._by_id[task_id] for task_id in ids)

    def without_solutions(self) -> "TaskSet":
        return TaskSet(task.without_solutions() for task in self._tasks)

    def hash(self) -> str:
        """A digest of ids, order and every grid: the same tasks give the same 16 hex digits."""
        digest = hashlib.sha256()
        for task in self._tasks:
            digest.update(task.id.encode())
            for part in (task.train, task.test):
                for pair in part:
                    for grid in (pair.input, pair.output):
                        digest.update(b"-" if grid is None else bytes(grid.shape) + grid.tobytes())
                digest.update(b"|")
        return digest.hexdigest()[:16]
