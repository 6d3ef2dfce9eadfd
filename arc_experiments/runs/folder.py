"""One run, one folder: its files, its state, and who is working on it."""

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config.schema import typed

HEARTBEAT_SECONDS = 10.0
LOCK = ".lock"
FREEZING_SECONDS = 1.0  # in which another command that looks whether it is the same run has let a folder go


class FolderError(ValueError):
    """A folder that cannot be used as asked; the message names it and the remedy."""


class FolderTaken(FolderError):
    """Another process works on the folder."""


class RunFolder:
    """Paths inside a run folder, and its status.

    Args:
        read_only: nothing is written: for all but the first of several processes.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path, self.read_only = path, read_only

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        with contextlib.suppress(ValueError):
            return str(self.path.absolute().relative_to(Path.cwd()))
        return str(self.path)

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        if self.read_only:
            return
        write_whole(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def read_config(self) -> DictConfig:
        """Raises FolderError where there is no run."""
        if not (self.path / "run.yaml").exists():
            raise FolderError(f"{self} is not a run folder: it has no run.yaml")
        values = OmegaConf.load(self.path / "run.yaml")
        assert isinstance(values, DictConfig)
        try:
            return typed(values)
        except OmegaConfBaseException as error:
            raise FolderError(
                f"{self}/run.yaml was written by another version of arc_experiments: {str(error).splitlines()[0]}"
            ) from error

    @property
    def status(self) -> dict[str, Any]:
        """What status.json says; empty before the first start.

        Raises:
            FolderError: it is not one of ours.
        """
        if not (self.path / "status.json").exists():
            return {}
        try:
            return dict(self.read_json("status.json"))
        except (ValueError, TypeError) as error:
            raise FolderError(
                f"{self}/status.json cannot be read ({error}): without it the run goes on"
            ) from error

    @property
    def is_done(self) -> bool:
        return self.status.get("state") == "done"

    def update_status(self, **changes: Any) -> None:
        self.write_json("status.json", {**self.status, **changes, "heartbeat": _now()})

    @contextlib.contextmanager
    def worked_on(self) -> Iterator[None]:
        """Hold the folder: its lock (freed by the system when the process dies) and its heartbeat.

        If the folder is removed meanwhile, the process ends: it would write into the next run of that name.

        Raises:
            FolderError: another process works on it.
        """
        if self.read_only:
            yield
            return
        with contextlib.ExitStack() as held:
            deadline = time.monotonic() + FREEZING_SECONDS
            while not held.enter_context(self.locked()):
                if time.monotonic() < deadline:
                    time.sleep(FREEZING_SECONDS / 10)
                    continue
                status = self.status
                raise FolderTaken(
                    f"{self} is being worked on by process {status.get('pid')} on {status.get('host')}: "
                    "wait for it, or stop it; resume=false starts a folder beside it"
                )
            with self._heartbeat():
                yield

    def locked(self) -> contextlib.AbstractContextManager[bool]:
        """Take the folder's lock; says whether it could be had."""
        return locked(self.path / LOCK)

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        before = self.status
        changes = {"host": platform.node(), "pid": os.getpid(), "attempt": before.get("attempt", 0) + 1}
        self.update_status(
            **{"started": _now(), **before, **changes, "state": "running", "ended": None, "error": None}
        )
        finished, ours = threading.Event(), (self.path / LOCK).stat().st_ino

        def beat() -> None:
            while not finished.wait(HEARTBEAT_SECONDS):
                if not _is(self.path / LOCK, ours):  # what stands there now is another run's, or will be
                    os.write(2, f"{self} has been removed: this process ends\n".encode())
                    os._exit(1)
                os.utime(self.path / "status.json")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()

    def end(self, state: str, error: str | None = None) -> None:
        """Write how this attempt ended: done, paused or failed."""
        self.update_status(state=state, ended=_now(), error=error)


def write_whole(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a file whole or not at all.

    Args:
        errors: what is done with characters that no file can hold, as `str.encode` names it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # several processes may fail at once
    try:
        temporary.write_text(text, encoding="utf-8", errors=errors)
        temporary.replace(path)
    except OSError:  # a full disk
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Take the lock of a file, which is made; the system frees it when the process dies. Says whether it could be had."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _is(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
