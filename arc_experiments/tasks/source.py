"""What the stream trains on: a number of tasks, each drawn when it is asked for."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from arc_experiments.tasks.task import Task, TaskSet


class TrainingSource(Protocol):
    """Tasks by number. `draw` may make a new instance of the task at each visit, from the rng alone."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    def draw(self, number: int, rng: np.random.Generator) -> Task: ...


@dataclass(frozen=True)
class FixedTasks:
    """Tasks that are the same at each visit."""

    tasks: TaskSet

    @property
    def ids(self) -> tuple[str, ...]:
        return self.tasks.ids

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        return self.tasks[number]
