"""The nouns: pairs, tasks, ready rows, sets of them, and what a source of them gives."""

from arc_experiments.tasks.rows import Row
from arc_experiments.tasks.source import BadTasks, FixedTasks, Joined, Reader, TokenizerReader, TrainingSource
from arc_experiments.tasks.task import Pair, Task, TaskSet

__all__ = [
    "BadTasks",
    "FixedTasks",
    "Joined",
    "Pair",
    "Reader",
    "Row",
    "Task",
    "TaskSet",
    "TokenizerReader",
    "TrainingSource",
]
