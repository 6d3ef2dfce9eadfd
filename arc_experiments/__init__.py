"""arc_experiments: fine-tune language models on ARC, one composition of small config files at a time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arc_experiments.notebook import answers, compare_runs
    from arc_experiments.run import Run, compose, load_run
    from arc_experiments.tasks import Task, TaskSet

__all__ = ["Run", "Task", "TaskSet", "answers", "compare_runs", "compose", "load_run"]
MODULES = {"Task": "tasks", "TaskSet": "tasks", "answers": "notebook", "compare_runs": "notebook"}


def __getattr__(name: str) -> Any:
    """`from arc_experiments import compose`, without making the command import what only notebooks need."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{MODULES.get(name, 'run')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
