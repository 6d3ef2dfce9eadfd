"""One run, one folder: its files, its name, its state, and who is working on it."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config import typed

# Where and how a run is computed does not make it another run.
NOT_PART_OF_THE_RUN = ("hardware", "launch", "tracking", "resume", "optim.stop_after", "benchmark")
PART_OF_A_BENCHMARK = ("hardware", "benchmark")  # there they are what is measured
# Schedules whose rate at a step is the same however long the run is.
OPEN_ENDED_SCHEDULES = ("constant", "inverse_sqrt")
HEARTBEAT_SECONDS = 10.0
SLUG_LENGTH = 60


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
        temporary = self.path / f".{name}.{os.getpid()}.tmp"  # several processes may fail at once
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)

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
        """What status.json says; empty before the first start."""
        return self.read_json("status.json") if (self.path / "status.json").exists() else {}

    @property
    def is_done(self) -> bool:
        return self.status.get("state") == "done"

    def update_status(self, **changes: Any) -> None:
        self.write_json("status.json", {**self.status, **changes, "heartbeat": _now()})

    @contextlib.contextmanager
    def worked_on(self) -> Iterator[None]:
        """Hold the folder: its lock (freed by the system when the process dies) and its heartbeat.

        Raises:
            FolderError: another process works on it.
        """
        if self.read_only:
            yield
            return
        with self.locked() as is_ours:
            if not is_ours:
                status = self.status
                raise FolderTaken(
                    f"{self} is being worked on by process {status.get('pid')} on {status.get('host')}: "
                    "wait for it, or stop it; resume=false starts a folder beside it"
                )
            with self._heartbeat():
                yield

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Take the folder's lock; says whether it could be had."""
        with (self.path / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        before = self.status
        changes = {"host": platform.node(), "pid": os.getpid(), "attempt": before.get("attempt", 0) + 1}
        self.update_status(
            **{"started": _now(), **before, **changes, "state": "running", "ended": None, "error": None}
        )
        finished = threading.Event()

        def beat() -> None:
            while not finished.wait(HEARTBEAT_SECONDS):
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def composition(config: DictConfig) -> dict[str, Any]:
    """The resolved values that make this run what it is."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    values["augmentation_order"] = list(values["augmentation"])  # a dict does not compare by order
    for key in NOT_PART_OF_THE_RUN:
        if values["job"]["name"] == "benchmark" and key in PART_OF_A_BENCHMARK:
            continue
        *parents, last = key.split(".")
        place: Any = values
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    return values  # type: ignore[return-value]


def composition_hash(config: DictConfig) -> str:
    """Eight hex digits that stand for `composition`."""
    text = json.dumps(composition(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def folder_name(config: DictConfig) -> str:
    """`<data>-<model>-<hash of the composition>`, without characters that an override could not hold."""
    job = "" if config.job.name == "finetune" else f"{config.job.name}-"
    return f"{job}{slug(config.data.name)}-{slug(config.model.name)}-{composition_hash(config)}"


def job_name(overrides: list[str]) -> str:
    """`seed_1-rank_16` for ["seed=1", "model.lora.rank=16"]; keys are cut short where they stay distinct."""
    pairs = sorted(override.lstrip("+~").partition("=")[::2] for override in overrides)
    short = [key.rpartition(".")[2] for key, _ in pairs]
    keys = [key if short.count(last) > 1 else last for (key, _), last in zip(pairs, short, strict=True)]
    return (
        "-".join(f"{slug(key)}_{slug(value)}" for key, (_, value) in zip(keys, pairs, strict=True)) or "job"
    )


def slug(text: object) -> str:
    """The text with everything replaced that a shell or an override could stumble over; a long one cut short.

    What is cut off is told apart by six hex digits of the whole.
    """
    plain = re.sub(r"[^A-Za-z0-9.+]+", "_", str(text)).strip("_")
    if len(plain) <= SLUG_LENGTH:
        return plain
    return f"{plain[: SLUG_LENGTH - 7]}_{hashlib.sha256(plain.encode()).hexdigest()[:6]}"


def differences(old: DictConfig, new: DictConfig) -> list[str]:
    """`key: old -> new` for each value in which two compositions differ."""
    flat_old, flat_new = _flatten(composition(old)), _flatten(composition(new))
    keys = sorted(flat_old.keys() | flat_new.keys())
    missing = "(absent)"
    return [
        f"{key}: {flat_old.get(key, missing)} -> {flat_new.get(key, missing)}"
        for key in keys
        if flat_old.get(key, missing) != flat_new.get(key, missing)
    ]


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def freeze(config: DictConfig, path: Path, overrides: list[str]) -> RunFolder:
    """Write run.yaml into the folder, or find the same composition there already.

    `overrides` are noted in environment.json as the command that makes this run.

    With `resume=false` a folder that holds a run is left alone, and `<path>-2` (-3, ...) is taken.

    A larger `optim.max_steps` than the folder's is no other run, if the schedule is the same up to there.

    A folder that is being worked on stays as it is: its worker is told so in a moment.

    Raises:
        FolderError: the folder holds another composition.
    """
    if not config.resume:
        path = _free_path(path)
    folder = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    with folder.locked() as is_ours:
        if (path / "run.yaml").exists():
            before = folder.read_config()
            changed = differences(before, config)
            if changed and not _is_extension(before, config):
                raise FolderError(_refusal(folder, before, config, changed))
            if not is_ours:
                return folder
            if folder.is_done and (changed or before.optim.stop_after != config.optim.stop_after):
                folder.end("paused")  # it stopped where it was told to; now it is told to go on
        _write(folder, config, overrides)
    return folder


def _write(folder: RunFolder, config: DictConfig, overrides: list[str]) -> None:
    # A finished run keeps what its worker noted: nothing will note it again.
    noted = folder.read_json("environment.json") if (folder / "environment.json").exists() else {}
    noted["command"] = ["python", "-m", "arc_experiments", *overrides]
    folder.write_json("environment.json", noted)
    folder.write("run.yaml", OmegaConf.to_yaml(config, resolve=True))


def _is_extension(before: DictConfig, config: DictConfig) -> bool:
    """Whether all that changes is that the run becomes longer, with the steps so far as they would have been."""
    only_longer = OmegaConf.merge(before, {"optim": {"max_steps": config.optim.max_steps}})
    assert isinstance(only_longer, DictConfig)
    return (
        config.optim.max_steps > before.optim.max_steps
        and not differences(only_longer, config)
        and config.optim.schedule in OPEN_ENDED_SCHEDULES
        and not 0 < config.optim.warmup < 1  # a share of max_steps
    )


def _refusal(folder: RunFolder, before: DictConfig, config: DictConfig, changed: list[str]) -> str:
    """Why the folder cannot be used for this composition, and what to do."""
    text = f"{folder} holds another run. It differs in:\n  " + "\n  ".join(changed) + "\n"
    if before.optim.max_steps != config.optim.max_steps:
        text += (
            "A run can be made longer (not shorter: optim.stop_after) if nothing else changes and its rates do not "
            f"depend on optim.max_steps: optim.schedule={' or '.join(OPEN_ENDED_SCHEDULES)} with optim.warmup in "
            f"steps. This one has optim.schedule={before.optim.schedule} optim.warmup={before.optim.warmup:g}. "
            f"A second stage goes on from its weights: model.adapter={folder}/adapter optim.load_state={folder}\n"
        )
    return text + "Name another folder (hydra.run.dir=...), or start one beside it with resume=false"


def _free_path(path: Path) -> Path:
    number, free = 1, path
    while (free / "run.yaml").exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
