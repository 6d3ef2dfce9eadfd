"""Freeze: a checked composition becomes the `run.yaml` of a folder, or is found there already."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from arc_experiments.composing.naming import differences, flatten
from arc_experiments.composing.recorded_code import recorded_code
from arc_experiments.config.job_kinds import job_kind
from arc_experiments.config.paths import with_absolute_paths
from arc_experiments.config.schema import typed
from arc_experiments.config.user_code.files import code_files, code_hashes
from arc_experiments.config.user_code.folders import own_conf
from arc_experiments.runs.folder import FolderError, RunFolder, read_object

# Schedules whose rate at a step is the same however long the run is.
OPEN_ENDED_SCHEDULES = ("constant", "inverse_sqrt")
LABELS = ("name", "note")  # what somebody calls the run, which a composition need not repeat
PATIENCE_SECONDS = 120.0  # with the first of several processes, which composes the same


def freeze(config: DictConfig, path: Path, overrides: list[str]) -> RunFolder:
    """Write run.yaml into the folder, or find the same composition there already.

    With `resume=false` a folder that holds a run is left alone, and `<path>-2` (-3, ...) is taken. A larger
    `optim.max_steps` than the folder's is no other run if the schedule up to there is the same. A folder that
    a worker holds stays as it is: the worker started next will report that. Its name and note stay unless the
    composition brings others ("" removes one).

    Args:
        overrides: recorded in environment.json as the command that makes this run, with the directory.

    Raises:
        FolderError: the folder holds another composition, or the same of code that has changed since.
    """
    if config.from_run is not None and not config.inference.force:
        check_code_of_weights(RunFolder(Path(config.from_run).expanduser()), config)
    if not config.resume:
        path = _free_path(path)
    folder = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    with folder.locked() as is_ours:
        if (path / "run.yaml").exists():
            before, now = _with_absolute_paths(folder.read_config()), _with_absolute_paths(config)
            changed = differences(before, now)
            if changed and not _is_extension(before, now):
                raise FolderError(_refusal(folder, before, now, changed))
            check_code(folder, config)
            if not is_ours:
                return folder
            if folder.is_done and (changed or before.optim.stop_after != config.optim.stop_after):
                folder.end("paused")  # it stopped at optim.stop_after, which is another now
            for key in LABELS:
                config[key] = before[key] if config[key] is None else config[key]
        _write(folder, config, overrides)
    return folder


def frozen_by_the_first(config: DictConfig, path: Path) -> RunFolder:
    """Wait until the first of several processes has frozen the composition that this one has made, too.

    What stands there until then may be an earlier start, such as one with another `optim.stop_after`.

    Raises:
        FolderError: it has not done so in PATIENCE_SECONDS, or holds another composition.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        mine = _without_labels(config)  # anew, as paths that the first process makes become absolute
        there = _without_labels(RunFolder(path).read_config()) if (path / "run.yaml").exists() else {}
        if there == mine:
            return RunFolder(path)
        if time.monotonic() > deadline:
            others = sorted(key for key in there.keys() | mine.keys() if there.get(key) != mine.get(key))
            raise FolderError(
                f"{path}/run.yaml: the first process has not written what this one composed in "
                f"{PATIENCE_SECONDS:.0f} s"
                + (f" ({', '.join(others)}); are all started by the same command?" if there else "")
            )
        time.sleep(0.1)


def check_code(folder: RunFolder, config: DictConfig) -> None:
    """Compare the user's code that a composition names with what it was when the folder was frozen.

    Raises:
        FolderError: some has changed; the message names the files.
    """
    changed = list(_changed_code(folder, config))
    if changed:
        raise FolderError(
            f"{folder} was begun with other code of the same name. Since then these files have changed:\n  "
            + "\n  ".join(changed)
            + "\nStart a new run beside it with resume=false; with the files as they were, the run resumes"
        )


def check_code_of_weights(folder: RunFolder, config: DictConfig) -> None:
    """Compare the code of tasks and prompts with what it was when the run in a folder was frozen.

    Raises:
        FolderError: some has changed; the message names the files.
    """
    changed = [line for line in _changed_code(folder, config) if line.startswith(("data.", "prompt."))]
    if changed:
        raise FolderError(
            f"{folder} was trained with other code of the same name. Since then these files have changed:\n  "
            + "\n  ".join(changed)
            + "\nPut them back as they were, or use them as they are: inference.force=true"
        )


def _changed_code(folder: RunFolder, config: DictConfig) -> Iterator[str]:
    """Yield key and file of the user's code that was another when the run in a folder was frozen."""
    before, files = _environment(folder).get("code", {}), code_files(config)
    for key, hashes in code_hashes(files).items():
        for name, now in hashes.items():
            if now != before.get(key, {}).get(name, now):
                yield f"{key}: {files[key][name]}"


def stop_of(path: Path, otherwise: int) -> int | None:
    """Return `optim.stop_after` of the run in a folder, or `otherwise` if there is no run yet."""
    if not (path / "run.yaml").exists():
        return otherwise
    stop: int | None = RunFolder(path).read_config().optim.stop_after
    return stop


def stop_at(folder: RunFolder, steps: int | None) -> None:
    """Set the step after which a frozen run stops (None: its last); if it stopped earlier, it can be resumed.

    A folder that a worker holds stays as it is.
    """
    with folder.locked() as is_ours:
        config = folder.read_config()
        if not is_ours or config.optim.stop_after == steps:
            return
        if folder.is_done:
            folder.end("paused")
        config.optim.stop_after = steps
        folder.write("run.yaml", OmegaConf.to_yaml(config, resolve=True))


def _write(folder: RunFolder, config: DictConfig, overrides: list[str]) -> None:
    # A finished run keeps what its worker recorded: no worker will record it again.
    recorded = _environment(folder)
    named = [f"--config-dir={conf}" for conf in own_conf()]
    recorded["command"] = ["python", "-m", "arc_experiments", *named, *overrides]
    recorded["directory"] = str(Path.cwd())  # from which relative paths in run.yaml are
    recorded |= recorded_code(config)
    folder.write_json("environment.json", recorded)
    folder.write("run.yaml", OmegaConf.to_yaml(config, resolve=True))


def _with_absolute_paths(config: DictConfig) -> DictConfig:
    """The same composition, whatever directory it was typed in."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return typed(with_absolute_paths(values, Path.cwd()))


def _without_labels(config: DictConfig) -> dict[str, Any]:
    """The values by dotted key, with absolute paths."""
    values: Any = OmegaConf.to_container(_with_absolute_paths(config))
    return {key: value for key, value in flatten(values).items() if key not in LABELS}


def _environment(folder: RunFolder) -> dict[str, Any]:
    return read_object(folder / "environment.json")


def _is_extension(before: DictConfig, config: DictConfig) -> bool:
    """Whether the run only becomes longer, and its steps so far are those of the longer run."""
    only_longer = OmegaConf.merge(before, {"optim": {"max_steps": config.optim.max_steps}})
    assert isinstance(only_longer, DictConfig)
    return (
        not job_kind(config.job.name).shares_folder  # its tasks are finished one by one
        and config.optim.max_steps > before.optim.max_steps
        and not differences(only_longer, config)
        and config.optim.schedule in OPEN_ENDED_SCHEDULES
        and not 0 < config.optim.warmup < 1  # a share of max_steps
    )


def _refusal(folder: RunFolder, before: DictConfig, config: DictConfig, changed: list[str]) -> str:
    """Say why the folder cannot be used for this composition, and what to do."""
    text = f"{folder} holds another run. It differs in:\n  " + "\n  ".join(changed) + "\n"
    if before.optim.max_steps != config.optim.max_steps:
        weights = (
            f"model.path={folder}/model" if before.model.lora is None else f"model.adapter={folder}/adapter"
        )
        text += (
            "A run can be made longer (not shorter: optim.stop_after) if nothing else changes and its "
            "learning rates do not depend on optim.max_steps: "
            f"optim.schedule={' or '.join(OPEN_ENDED_SCHEDULES)} with optim.warmup in steps. "
            f"This one has optim.schedule={before.optim.schedule} "
            f"optim.warmup={before.optim.warmup:g}. "
            f"A second stage can start from its weights: {weights} optim.load_state={folder}\n"
        )
    return text + "Name another folder (hydra.run.dir=...), or start one beside it with resume=false"


def _free_path(path: Path) -> Path:
    number, free = 1, path
    while (free / "run.yaml").exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
