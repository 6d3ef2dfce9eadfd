"""What the command wants of a scheduler: to submit frozen folders, and to say what its queue has of them.

Each kind of scheduler is a module with these two functions; `known.SCHEDULERS` lists them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import Console

from arc_experiments.config.schema import Launch
from arc_experiments.runs.folder import RunFolder


class ClusterError(ValueError):
    """The cluster has refused, or there is none; the message quotes it."""


@dataclass(frozen=True, kw_only=True)
class Queued:
    """What a scheduler's queue has of a run.

    Attributes:
        jobs: those that wait or run, in its own words: `{"123": "PENDING", "124_1": "RUNNING"}`.
        lost: why a job that was submitted will not run, and the remedy; "" if none is missing.
        problem: why nobody knows, if nobody does.
        cancel: the command that ends them.
    """

    jobs: dict[str, str] = field(default_factory=dict)
    lost: str = ""
    problem: str = ""
    cancel: str = ""

    def __str__(self) -> str:
        jobs = ", ".join(f"{name} {state}" for name, state in self.jobs.items())
        return "; ".join(filter(None, [jobs, self.lost, self.problem]))


class Scheduler(Protocol):
    """A module that knows one kind of scheduler."""

    def submit(self, folders: Sequence[RunFolder], home: Path, launch: Launch, console: Console) -> None:
        """Submit these runs.

        Args:
            home: the run folder, or the sweep's folder, for files that several runs share.

        Raises:
            ClusterError: the scheduler has refused, or there is none.
        """

    def queued(self, folders: Sequence[RunFolder], seconds: float) -> list[Queued]:
        """What the queue has of each run; a scheduler that does not answer within `seconds` is a problem."""
