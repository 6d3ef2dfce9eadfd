"""arc_experiments: fine-tune language models on ARC, one composition of small config files at a time."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arc_experiments.run import Run, compose, load_run

__all__ = ["Run", "compose", "load_run"]


def __getattr__(name: str) -> Any:
    """`from arc_experiments import compose`, without making the command import what only notebooks need."""
    if name in __all__:
        from arc_experiments import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
