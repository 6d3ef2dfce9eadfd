"""The checks of `data`: one source, or several with weights."""

from collections.abc import Iterator

from arc_experiments.config import Data, Source


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
    if data.weights:
        yield "data.weights is set, but there is one source only: use data=mix"


def _check_source(place: str, source: Source, transforms: list[str]) -> Iterator[str]:
    if source.num_validation >= 1 and source.num_validation % 1:
        yield f"{place}.num_validation={source.num_validation} must be a whole number, or a share below 1"
    if source.partition != "seeded" and source.num_validation != Source.num_validation:
        yield (
            f"{place}.num_validation={source.num_validation:g} is not read by {place}.partition={source.partition}, "
            "which says itself what is held out: use partition=seeded, or data.limit for fewer tasks"
        )
    if source.path is not None and source.source.get("path") != source.path:
        yield f"{place}.path={source.path} is not read by data={source.name}: use data=files"
    for name in source.augmentation or []:
        if name not in transforms:
            known = ", ".join(transforms) or "none"
            yield f"{place}.augmentation names {name}, which is not one of this run's: {known}"


def _check_mixture(data: Data) -> Iterator[str]:
    if data.source is not None or data.partition != "seeded" or data.validation_source is not None:
        yield "data.sources is set: name source and partition there (data.sources.<name>.partition)"
    for key in ("num_validation", "augmentation", "path"):
        if getattr(data, key) != getattr(Source, key):
            yield f"data.{key}={getattr(data, key)} is not read by a mixture: data.sources.<name>.{key}=..."
    for name in sorted(data.weights.keys() ^ data.sources.keys()):
        yield f"data.weights.{name} and data.sources.{name} must both be there"
    for name, weight in data.weights.items():
        if weight <= 0:
            yield f"data.weights.{name}={weight} is too small: above 0"
