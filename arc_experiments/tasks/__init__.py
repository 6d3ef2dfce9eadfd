"""The nouns: pairs, tasks, ready rows, task sets, and the interface of a training source."""

from arc_experiments.tasks.ready_rows import Row
from arc_experiments.tasks.source import BadTasks, FixedTasks, Joined, ProcessorReader, Reader, TrainingSource
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet

__all__ = [
    "BadTasks",
    "FixedTasks",
    "Joined",
    "Pair",
    "ProcessorReader",
    "Program",
    "Reader",
    "Row",
    "Task",
    "TaskSet",
    "TrainingSource",
]
