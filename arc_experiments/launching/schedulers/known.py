"""From frozen folders to a scheduler: those that are neither done nor in its queue are submitted."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_experiments.config.plurals import plural
from arc_experiments.config.schema import Launch
from arc_experiments.launching.schedulers.command import submitting as command
from arc_experiments.launching.schedulers.scheduler import ClusterError, Queued, Scheduler
from arc_experiments.launching.schedulers.slurm import submitting as slurm
from arc_experiments.runs.folder import RunFolder

# By the section of `launch` that says what is asked of it.
SCHEDULERS: dict[str, Scheduler] = {"slurm": slurm, "command": command}
QUEUE_SECONDS = 60.0


def section_of(launch: Launch) -> str | None:
    """The section of `launch` that is set; None if the jobs run here."""
    return next((name for name in SCHEDULERS if getattr(launch, name) is not None), None)


def submit(folders: Sequence[RunFolder], home: Path, launch: Launch, console: Console) -> int:
    """Submit the runs that are neither finished nor in the queue; returns the exit code.

    Args:
        home: the run folder, or the sweep's folder.

    Raises:
        ClusterError: the scheduler has refused, or there is none.
    """
    section = section_of(launch)
    assert section is not None
    unfinished = [folder for folder in folders if not folder.is_done]
    left = _not_in_queue(unfinished, console)
    finished = len(folders) - len(unfinished)
    console.print(f"{plural(len(folders), 'run')}, {finished} finished already, {len(left)} to submit")
    if not left:
        return 0
    workers = getattr(launch, section).workers
    if len(left) > 1 and workers > 1:
        raise ClusterError(
            f"launch.{section}.workers={workers} share out the tasks of one run, and this is a sweep: "
            "leave it at 1"
        )
    SCHEDULERS[section].submit(left, home, launch, console)
    if not launch.dry_run:
        console.print(f"progress: python -m arc_experiments.status {RunFolder(home)}", markup=False)
    return 0


def _not_in_queue(folders: Sequence[RunFolder], console: Console) -> list[RunFolder]:
    left = []
    for folder, queue in zip(folders, queued(folders, QUEUE_SECONDS), strict=True):
        if queue.problem:
            raise ClusterError(queue.problem)
        if queue.jobs:
            jobs = ", ".join(sorted(queue.jobs))
            ends = f" ({queue.cancel} ends them)" if queue.cancel else ""
            console.print(f"{folder}: its jobs {jobs} are in the queue already{ends}", markup=False)
        else:
            left.append(folder)
    return left


def queued(folders: Sequence[RunFolder], seconds: float) -> list[Queued]:
    """What is in the queue of each run, whichever scheduler it was submitted to.

    Args:
        seconds: for which each scheduler may think about it.
    """
    answers = [scheduler.queued(folders, seconds) for scheduler in SCHEDULERS.values()]
    return [_joined(queues) for queues in zip(*answers, strict=True)]


def _joined(queues: Sequence[Queued]) -> Queued:
    return Queued(
        jobs={name: state for queue in queues for name, state in queue.jobs.items()},
        lost=" ".join(queue.lost for queue in queues if queue.lost),
        problem=" ".join(queue.problem for queue in queues if queue.problem),
        cancel=next((queue.cancel for queue in queues if queue.jobs), ""),
    )
