"""Tasks and where they come from: one reader a source, each a small dataclass that a data YAML names."""

from arc_experiments.tasks.arc_1d import Arc1D
from arc_experiments.tasks.arckit_versions import Arckit
from arc_experiments.tasks.barc import Barc
from arc_experiments.tasks.files import Files
from arc_experiments.tasks.hub import Hub
from arc_experiments.tasks.re_arc import ReArc
from arc_experiments.tasks.rows import Row
from arc_experiments.tasks.source import BadTasks, FixedTasks, Joined, Reader, TokenizerReader, TrainingSource
from arc_experiments.tasks.task import Pair, Task, TaskSet
from arc_experiments.tasks.user_file import UserFile

__all__ = [
    "Arc1D",
    "Arckit",
    "BadTasks",
    "Barc",
    "Files",
    "FixedTasks",
    "Hub",
    "Joined",
    "Pair",
    "ReArc",
    "Reader",
    "Row",
    "Task",
    "TaskSet",
    "TokenizerReader",
    "TrainingSource",
    "UserFile",
]
