"""What has become of a run: the only reader of status.json besides the run's own worker."""

import json
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arc_experiments.runs.cores_and_gpus import is_alive
from arc_experiments.runs.locks import is_locked

LOCK = ".lock"  # in the run folder; its worker holds it, and the system frees it when the worker dies
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 6 * HEARTBEAT_SECONDS

WAITING, RUNNING, PAUSED, DONE, FAILED, DIED = "waiting", "running", "paused", "done", "failed", "died"


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One of the six states above; `died`: status.json says `running`, but the worker is gone or silent."""

    name: str = WAITING
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    seconds_left: float | None = None  # until everything is done, the answers included
    attempt: int = 0  # how often it was started
    started: datetime | None = None  # for the first time
    error: str = ""

    @property
    def text(self) -> str:
        """The state, with what the error says first: `failed (the loss is not a number)`."""
        return f"{self.name} ({self.headline})" if self.error else self.name

    @property
    def headline(self) -> str:
        """The error's first line, with the second if that announces a list; "" without an error."""
        first, *others = self.error.splitlines() or [""]
        return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def read_state(folder: Path) -> RunState:
    """Read status.json, and check that a run that claims to run is alive; an unreadable file is a failure."""
    file = folder / "status.json"
    try:
        status, touched = dict[str, Any](json.loads(file.read_text(encoding="utf-8"))), file.stat().st_mtime
    except FileNotFoundError:
        return RunState()
    except (OSError, ValueError, TypeError) as problem:
        return RunState(name=FAILED, error=f"{file} cannot be read: {problem}")
    name, error = str(status.get("state", WAITING)), str(status.get("error") or "")
    if name not in (WAITING, RUNNING, PAUSED, DONE, FAILED):
        name, error = FAILED, f"{file} was written by another version: state {name}"
    if name == RUNNING:
        error = _why_dead(folder, status, time.time() - touched) or ""
        name = DIED if error else RUNNING
    expected = _moment(status.get("expected_end"))
    left = None
    if name == RUNNING and expected is not None:
        left = max(0.0, (expected - datetime.now(UTC)).total_seconds())
    return RunState(
        name=name,
        step=_number(status.get("step")),
        max_steps=_number(status.get("max_steps")),
        loss=_number(status.get("loss")),
        seconds_left=left,
        attempt=_number(status.get("attempt")) or 0,
        started=_moment(status.get("started")),
        error=error,
    )


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) else None


def _moment(text: Any) -> datetime | None:
    """The moment that an ISO text with a time zone names; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return None if moment.tzinfo is None else moment


def _why_dead(folder: Path, status: dict[str, Any], silent_seconds: float) -> str | None:
    process, host = status.get("pid"), status.get("host")
    if host == platform.node() and not (isinstance(process, int) and is_alive(process)):
        return f"process {process} is gone"
    # A suspended process is silent, but holds its lock.
    if silent_seconds > STALE_SECONDS and not is_locked(folder / LOCK):
        return f"no sign of life of process {process} on {host} for {silent_seconds:.0f} s"
    return None


def time_in(seconds: float) -> str:
    """The time in so many seconds, ISO 8601, for `expected_end` of status.json."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """`42 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
