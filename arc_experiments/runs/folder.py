"""One run, one folder: its files, its lock, and its status."""

import contextlib
import glob
import json
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config.paths import with_absolute_paths
from arc_experiments.config.schema import typed
from arc_experiments.runs.locks import locked
from arc_experiments.runs.run_state import DONE, HEARTBEAT_SECONDS, LOCK, RUNNING, RunState, read_state

EVERYTHING = ("outputs/*", "multirun/*")  # where runs and sweeps are written
# In a run, a sweep, a folder of sweeps; and what was typed in the folder of a sweep's run.
DEPTHS = ("run.yaml", "*/run.yaml", "*/*/run.yaml", "*/outputs/*/run.yaml")
# Within which a command that compares its composition with the folder's releases the lock.
FREEZING_SECONDS = 1.0
LOOK_SECONDS = 0.5  # between two attempts to take a lock
NOTICE_SECONDS = 3.0  # within which ranks end after the process that started them was killed
ORPHAN_SECONDS = 30.0  # for which loaders of a killed worker may hold its lock; torch's end after 5


class FolderError(ValueError):
    """A folder that cannot be used as asked; the message names it and the remedy."""


class FolderTaken(FolderError):
    """Another process is working on the folder."""


class RunFolder:
    """A run folder: paths inside it, reading and writing its files, its lock and its status.

    Args:
        read_only: write nothing and take no lock, as all processes of a run but the first do.
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
        """Write a whole file or nothing."""
        if self.read_only:
            return
        write_whole(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def read_config(self) -> DictConfig:
        """Read run.yaml as a typed config, with the paths typed in another directory than this made absolute.

        Raises:
            FolderError: there is no run.yaml, or it was written by another version; or environment.json,
                which names that directory, is torn.
        """
        if not (self.path / "run.yaml").exists():
            raise FolderError(f"{self} is not a run folder: it has no run.yaml")
        values = OmegaConf.load(self.path / "run.yaml")
        assert isinstance(values, DictConfig)
        directory = Path(read_object(self.path / "environment.json").get("directory") or Path.cwd())
        try:
            if directory == Path.cwd():
                return typed(values)
            plain = OmegaConf.to_container(values)
            assert isinstance(plain, dict)
            return typed(with_absolute_paths(plain, directory))
        except OmegaConfBaseException as error:
            raise FolderError(
                f"{self}/run.yaml was written by another version of arc_experiments: "
                f"{str(error).splitlines()[0]}"
            ) from error

    @property
    def status(self) -> dict[str, Any]:
        """What the worker wrote to status.json; empty before the first start.

        It may be out of date: use `state` unless this process holds the lock.

        Raises:
            FolderError: the file is damaged.
        """
        if not (self.path / "status.json").exists():
            return {}
        try:
            return dict(self.read_json("status.json"))
        except (ValueError, TypeError) as error:
            raise FolderError(
                f"{self}/status.json cannot be read ({error}): remove it and the run resumes"
            ) from error

    @property
    def state(self) -> RunState:
        """What has become of the run; `died` where status.json says `running`, but nobody works on it."""
        return read_state(self.path)

    @property
    def is_done(self) -> bool:
        return self.status.get("state") == DONE

    def update_status(self, **changes: Any) -> None:
        self.write_json("status.json", {**self.status, **changes, "heartbeat": _now()})

    def end(self, state: str, error: str | None = None) -> None:
        """Write how this attempt ended: done, paused or failed."""
        self.update_status(state=state, ended=_now(), error=error)

    def locked(self) -> contextlib.AbstractContextManager[bool]:
        """Lock the folder; yields False if another process holds the lock."""
        return locked(self.path / LOCK)

    @contextlib.contextmanager
    def worked_on(self) -> Iterator[None]:
        """Hold the lock, mark the run as running and keep its heartbeat.

        If the folder is removed meanwhile, the process ends: it would write into the next run of that name.

        Raises:
            FolderTaken: another process is working on it.
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
                    "wait for it, or stop it; resume=false starts a new folder beside it"
                )
            with self._heartbeat():
                yield

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        before = self.status
        changes = {"host": platform.node(), "pid": os.getpid(), "attempt": before.get("attempt", 0) + 1}
        self.update_status(
            **{"started": _now(), **before, **changes, "state": RUNNING, "ended": None, "error": None}
        )
        finished, ours = threading.Event(), (self.path / LOCK).stat().st_ino

        def beat() -> None:
            while not finished.wait(HEARTBEAT_SECONDS):
                if not _is(self.path / LOCK, ours):  # the folder now belongs, or will belong, to another run
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

    @contextlib.contextmanager
    def reclaimed(self) -> Iterator[bool]:
        """Lock the folder after its worker exited, waiting for the worker's orphaned children.

        Yields False if another worker has taken it.
        """
        begin = time.monotonic()
        while True:
            waited = time.monotonic() - begin
            with self.locked() as is_free:
                if is_free or waited > ORPHAN_SECONDS:
                    yield True
                    return
            if waited > NOTICE_SECONDS and self.state.name == RUNNING:
                yield False
                return
            time.sleep(LOOK_SECONDS)


def find_runs(patterns: Iterable[str]) -> list[RunFolder]:
    """Find the runs that paths or globs name (runs, sweeps, or folders of sweeps); each once, in order."""
    found: dict[Path, RunFolder] = {}
    for pattern in patterns:
        named = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))
        for path in map(Path, named or [pattern]):  # a name may hold a glob's brackets
            for depth in DEPTHS:
                for file in sorted(path.glob(depth)):
                    found.setdefault(file.parent.resolve(), RunFolder(file.parent))
    return list(found.values())


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object, such as metrics.json; {} if there is no file.

    Raises:
        FolderError: the file is torn, or holds something else.
    """
    if not path.is_file():
        return {}
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(
            f"{path} is not whole JSON ({error}): run the job again to have it written"
        ) from error
    if not isinstance(contents, dict):
        raise FolderError(f"{path} holds a {type(contents).__name__} where an object is expected")
    return contents


def write_whole(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a whole file or nothing.

    Args:
        errors: how to treat characters that UTF-8 cannot encode, as in `str.encode`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # several processes may fail at once
    try:
        temporary.write_text(text, encoding="utf-8", errors=errors)
        temporary.replace(path)
    except OSError:  # a full disk
        temporary.unlink(missing_ok=True)
        raise


def _is(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
