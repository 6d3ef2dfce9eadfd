"""The checks of `data`: one source, or several with weights."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Data, Source

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


UNTYPED = (Source.num_validation, 0.1)  # what the options in conf/data say by themselves


def check_data(data: Data, transforms: list[str]) -> Iterator[str]:
    """A line for each mistake; `transforms` are the names of this run's augmentations."""
    if data.sources:
        yield from _check_mixture(data)
        for name, source in data.sources.items():
            yield from _check_source(f"data.sources.{name}", source, transforms)
        return
    yield from _check_source("data", data, transforms)
    if data.partition == "none":
        yield "data.partition=none is for a source of a mixture: nothing would be held out"
    if data.prompt is not None:
        yield "data.prompt is for a source of a mixture: choose the run's own by prompt=..."
    if data.weights:
        yield "data.weights is set, but there is one source only: use data=mix"


def check_path(key: str, path: str | None) -> Iterator[str]:
    """A line where the value of `key` is no file or folder."""
    if path is not None and not Path(local_path(path)).exists():
        yield f"{key}={path} does not exist (looked in {Path.cwd()})"


def _check_source(place: str, source: Source, transforms: list[str]) -> Iterator[str]:
    if source.num_validation >= 1 and source.num_validation % 1:
        yield f"{place}.num_validation={source.num_validation} must be a whole number, or a share below 1"
    yield from _check_partition(place, source)
    if not _may_be_on_the_hub(source):
        yield from check_path(f"{place}.path", source.path)
    yield from check_path(f"{place}.partition_file", source.partition_file)
    if source.path is not None and source.source.get("path") != source.path:
        yield f"{place}.path={source.path} is not read by data={source.name}: use data=files"
    yield from _check_file(place, source)
    for name in source.augmentation or []:
        if name not in transforms:
            known = ", ".join(transforms) or "none"
            yield f"{place}.augmentation names {name}, which is not one of this run's: {known}"


def _may_be_on_the_hub(source: Source) -> bool:
    """Whether `path` may be the id of a dataset of the hub."""
    is_hub: bool = source.source["_target_"] == "arc_experiments.sources.Hub"
    return is_hub and HUB_ID.fullmatch(source.path or "") is not None


def _check_file(place: str, source: Source) -> Iterator[str]:
    if source.file is None:
        return
    from arc_experiments.config.user_code import check_file  # with numpy, which --help is not to wait for

    if source.source.get("file") != source.file:
        yield f"{place}.file={source.file} is not read by data={source.name}: use data=custom"
    yield from (f"{place}.file{mistake}" for mistake in check_file(source.file))
    if source.partition == "none" and source.source.get("validation_split") is not None:
        yield (
            f"{place}.partition=none holds nothing out, and what the function gives for validation would train, too: "
            f"{place}.source.validation_split=null, or {place}.partition=official"
        )


def _check_partition(place: str, source: Source) -> Iterator[str]:
    """Every key that says how to split is read by some partitions only; what another does not read is refused."""
    partition = source.partition
    if source.num_validation not in UNTYPED and partition not in ("seeded", "stratified"):
        yield (
            f"{place}.num_validation={source.num_validation:g} is not read by {place}.partition={partition}, "
            "which says itself what is held out: use partition=seeded, or data.limit for fewer tasks"
        )
    if partition == "k_fold":
        if source.fold >= source.num_folds:
            yield f"{place}.fold={source.fold} is too large: 0 to {source.num_folds - 1} ({place}.num_folds)"
    elif (source.fold, source.num_folds) != (Source.fold, Source.num_folds):
        yield f"{place}.fold and {place}.num_folds are read by {place}.partition=k_fold alone"
    if (partition == "file") != (source.partition_file is not None):
        yield f"{place}.partition=file and {place}.partition_file=<json with validation and train> go together"
    if source.train_tasks == "none" and source.fraction < 1:
        yield f"{place}.fraction={source.fraction} is a share of the training tasks, and {place}.train_tasks=none takes none"
    used = {source.train_tasks, source.validation_tasks}
    if used == {"none"}:
        yield f"{place}.train_tasks=none and {place}.validation_tasks=none leave nothing to train on"
    if source.leave_out != Source.leave_out and "leave_out" not in used:
        yield (
            f"{place}.leave_out={source.leave_out} is read beside {place}.train_tasks=leave_out or "
            f"{place}.validation_tasks=leave_out alone"
        )
    if partition == "none" and source.validation_tasks != "none":
        yield f"{place}.partition=none holds nothing out: {place}.validation_tasks has nothing to make tasks of"


def _check_mixture(data: Data) -> Iterator[str]:
    for entry in dataclasses.fields(Source):
        key, value = entry.name, getattr(data, entry.name)
        if key not in ("name", "limit") and value != entry.default:
            yield f"data.{key}={value} is not read by a mixture: data.sources.<name>.{key}=..."
    training = {name for name, source in data.sources.items() if source.trains}
    for name in sorted(data.weights.keys() ^ training):
        if name in data.sources and name not in training:
            yield f"data.weights.{name}: data.sources.{name}.partition=all trains on nothing, leave out its weight"
        else:
            yield f"data.weights.{name} and data.sources.{name} must both be there"
    for name, weight in data.weights.items():
        if weight <= 0:
            yield f"data.weights.{name}={weight} is too small: above 0"
