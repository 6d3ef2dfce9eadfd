"""Which jobs were submitted for a run by `launch.command`, and what has become of them.

The scheduler's own list says whether a job waits or runs. Without one (`launch.command.queue=null`, or on a
machine that cannot ask), the run's status says how many of its jobs have begun, and silence that lasts for
`launch.command.lost_hours` that the others are lost.
"""

import dataclasses
import functools
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from arc_experiments.config.schema import Command
from arc_experiments.launching.schedulers.scheduler import Queued
from arc_experiments.runs.folder import FolderError, RunFolder, read_object
from arc_experiments.runs.run_state import DONE, FAILED, RUNNING, duration

JOBS_FILE = "jobs.json"  # in the run folder
LISTED_SECONDS = 60.0  # within which a scheduler lists a job that it has accepted
SUBMITTED = "submitted"  # and nothing more is known

Listed = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What was last submitted for a run.

    Attributes:
        jobs: ids, in the order in which they run.
        others: ids of all jobs of the same submission; it may list only some of those that wait.
        time: of the first, in seconds since 1970.
        attempts: how often the run had been started before.
        queue, cancel, lost_hours: of `launch.command`.
    """

    jobs: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    time: float = 0.0
    attempts: int = 0
    queue: str | None = None
    cancel: str | None = None
    lost_hours: float | None = None

    @classmethod
    def read(cls, folder: RunFolder) -> Self:
        """Read jobs.json; without it, nothing was submitted.

        Raises:
            FolderError: it is not one of ours.
        """
        try:
            return cls(**read_object(folder / JOBS_FILE))
        except TypeError as error:
            raise FolderError(f"{folder}/{JOBS_FILE} does not say which jobs there are: remove it") from error

    @classmethod
    def first(cls, folder: RunFolder, command: Command) -> Self:
        """A record without jobs, of what is submitted from now on."""
        return cls(
            time=time.time(),
            attempts=folder.state.attempt,
            queue=command.queue,
            cancel=command.cancel,
            lost_hours=command.lost_hours,
        )

    def write(self, folder: RunFolder) -> None:
        folder.write_json(JOBS_FILE, dataclasses.asdict(self))


def queued(folders: Sequence[RunFolder], seconds: float) -> list[Queued]:
    """What has become of each run's jobs; each `queue` command is asked once, and may take `seconds`."""
    ask = functools.cache(lambda command: _ask(command, seconds))

    def answer(folder: RunFolder) -> Queued:
        try:
            record = Submitted.read(folder)
        except (OSError, FolderError) as error:
            return Queued(problem=str(error))
        listed = ask(record.queue) if record.jobs and record.queue is not None else None
        return Queued(problem=listed) if isinstance(listed, str) else _what_became(folder, record, listed)

    return [answer(folder) for folder in folders]


def _ask(command: str, seconds: float) -> Listed | str | None:
    """The jobs that a `queue` command lists, with their states; a text: why not; None: it is not here."""
    try:
        words = shlex.split(command)
        if not words or shutil.which(words[0]) is None:
            return None
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"launch.command.queue: `{command}`: {error}"
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        return f"launch.command.queue: `{command}` cannot tell what is in the queue: {said}"
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    return {words[0]: words[1] if len(words) == 2 else "queued" for words in lines}


def _what_became(folder: RunFolder, record: Submitted, listed: Listed | None) -> Queued:
    state = folder.state
    begun = max(0, state.attempt - record.attempts)
    left = record.jobs[begun:]
    cancel = (record.cancel or "").partition(" ")[0]
    if listed is None:
        running = {job: state.name for job in record.jobs[:begun][-1:] if state.name == RUNNING}
        silence = time.time() - max(record.time, _last_sign(folder))
        is_lost = record.lost_hours is not None and silence > record.lost_hours * 3600
        waiting = left if running or not is_lost else []
        jobs, why = running | dict.fromkeys(waiting, SUBMITTED), f"nothing was heard for {duration(silence)}"
    else:
        jobs, why = {job: listed[job] for job in record.jobs if job in listed}, "the queue does not have it"
        is_fresh = time.time() - record.time < LISTED_SECONDS
        if not jobs and (is_fresh or listed.keys() & set(record.others)):
            jobs = dict.fromkeys(left, SUBMITTED)
    if jobs or not left or state.name in (DONE, FAILED, RUNNING):
        return Queued(jobs={} if state.name == DONE and listed is None else jobs, cancel=cancel)
    return Queued(lost=f"job {left[0]} is lost ({why}): the same command submits what is left")


def _last_sign(folder: RunFolder) -> float:
    """When the run's worker last gave a sign of life, in seconds since 1970; 0 if it has not begun."""
    try:
        return (folder / "status.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0
