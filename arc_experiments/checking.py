"""The checks of a composition: what Hydra composed from `conf/` becomes a `Config`, every value checked.

Nothing here imports torch, so a mistake is answered at once.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.checking_optim import check_optim
from arc_experiments.config import Config, Data, Hardware, Prompt, Source, conf_dir


class ConfigError(ValueError):
    """One or more mistakes in a composition, each a line that names the key, the value and the remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


def check(node: DictConfig) -> Config:
    """Check a composed node (see `typed`) and return it as values.

    Raises:
        ConfigError: all mistakes of our own checks together.
    """
    mistakes = _check_open_sets(node)
    if mistakes:
        raise ConfigError(mistakes)
    try:
        config: Config = OmegaConf.to_object(node)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError([f"{getattr(error, 'full_key', '')}: {str(error).splitlines()[0]}"]) from error
    mistakes = [*_check_limits(config, ""), *_check_combination(config)]
    if mistakes:
        raise ConfigError(mistakes)
    return config


def build(options: dict[str, Any]) -> Any:
    """Build the object that an open set's options describe (`_target_` and its fields)."""
    return instantiate(options, _convert_="all")


def _open_sets(node: DictConfig) -> Iterator[str]:
    """Dotted keys of every node that names a dataclass by `_target_`."""
    yield "prompt.grid"
    for place in [f"data.sources.{name}" for name in node.data.sources] or ["data"]:
        yield f"{place}.source"
        if OmegaConf.select(node, place).validation_source is not None:
            yield f"{place}.validation_source"
    for name in node.augmentation:
        yield f"augmentation.{name}"


def _check_open_sets(node: DictConfig) -> list[str]:
    mistakes = []
    for key in _open_sets(node):
        options = OmegaConf.select(node, key)
        if not isinstance(options, DictConfig) or "_target_" not in options:
            mistakes.append(f"{key} must name its class by _target_, got {options!r}")
            continue
        try:
            structure = OmegaConf.structured(get_class(options._target_))
            OmegaConf.set_readonly(structure, False)  # frozen dataclasses come read-only
            plain = OmegaConf.to_container(options, resolve=True)
            assert isinstance(plain, dict)
            filled = OmegaConf.merge(structure, {name: plain[name] for name in plain if name != "_target_"})
            OmegaConf.to_object(filled)  # runs the dataclass's own checks
            values = OmegaConf.to_container(filled)
            OmegaConf.update(node, key, {"_target_": options._target_, **values}, merge=False)  # type: ignore[dict-item]
        except OmegaConfBaseException as error:
            mistakes.append(_open_set_mistake(key, options, error))
        except (ValueError, ImportError, AttributeError) as error:
            mistakes.append(f"{key}: {error}")
    return mistakes


def _open_set_mistake(key: str, options: DictConfig, error: OmegaConfBaseException) -> str:
    inner = str(getattr(error, "full_key", None) or "")
    if inner in options and OmegaConf.is_interpolation(options, inner) and options[inner] is None:
        written = OmegaConf.to_container(options, resolve=False)
        assert isinstance(written, dict)
        taken_from = str(written[inner]).strip("${}").replace("..", f"{key.rpartition('.')[0]}.")
        return f"{taken_from} is needed and has no value: {taken_from}=..."
    return f"{key}{'.' if inner else ''}{inner}: {str(error).splitlines()[0]}"


def _check_limits(value: Any, prefix: str) -> Iterator[str]:
    for entry in dataclasses.fields(value):
        key, item = f"{prefix}{entry.name}", getattr(value, entry.name)
        if dataclasses.is_dataclass(item):
            yield from _check_limits(item, f"{key}.")
        elif isinstance(item, dict):
            for name, inner in item.items():
                if dataclasses.is_dataclass(inner):
                    yield from _check_limits(inner, f"{key}.{name}.")
        elif item is not None:
            yield from _check_limit(key, item, entry.metadata)


def _check_limit(key: str, item: Any, rule: Mapping[str, Any]) -> Iterator[str]:
    if "choices" in rule and item not in rule["choices"]:
        yield f"{key}={item} is not one of: {', '.join(rule['choices'])}"
    elif rule.get("low") is not None and item < rule["low"]:
        yield f"{key}={item} is too small: at least {rule['low']}"
    elif rule.get("above") is not None and item <= rule["above"]:
        yield f"{key}={item} is too small: above {rule['above']}"
    elif rule.get("high") is not None and item > rule["high"]:
        yield f"{key}={item} is too large: at most {rule['high']}"


def _check_combination(config: Config) -> Iterator[str]:
    optim, hardware, model = config.optim, config.hardware, config.model
    yield from _check_hardware(hardware, optim.batch_size)
    yield from _check_data(config.data, list(config.augmentation))
    if optim.pack_length is not None and optim.pack_length < config.prompt.max_length:
        yield (
            f"optim.pack_length={optim.pack_length} is less than prompt.max_length={config.prompt.max_length}: "
            "a row must hold the longest sample, raise the one or lower the other"
        )
    if model.quantisation != "none" and model.lora is None:
        yield f"model.quantisation={model.quantisation} needs model.lora: quantised weights cannot be trained"
    jobs = sorted(file.stem for file in (conf_dir() / "job").glob("*.yaml"))
    if config.job.name not in jobs:
        yield f"job.name={config.job.name} is not one of: {', '.join(jobs)}"
    yield from check_optim(optim, can_score=config.inference.limit != 0)
    yield from _check_template(config.prompt)
    yield from _check_paths(config)


def split_batch(batch_size: int, num_processes: int, per_device_batch_size: int) -> int:
    """How many micro-batches of each process make one optimizer step.

    Raises:
        ValueError: they do not divide; with the numbers that would.
    """
    at_once = num_processes * per_device_batch_size
    if batch_size % at_once:
        raise ValueError(
            f"optim.batch_size={batch_size} does not divide into hardware.num_processes={num_processes} x "
            f"hardware.per_device_batch_size={per_device_batch_size}: choose a multiple of {at_once}, or a smaller "
            "hardware.per_device_batch_size"
        )
    return batch_size // at_once


def _check_hardware(hardware: Hardware, batch_size: int) -> Iterator[str]:
    size, processes, gpus = hardware.per_device_batch_size, hardware.num_processes, hardware.gpu_ids
    if size != "auto" and (not isinstance(size, int) or size < 1):
        yield f"hardware.per_device_batch_size={size} is neither a number of rows, from 1, nor auto"
    else:
        try:
            split_batch(batch_size, processes or 1, 1 if size == "auto" else size)
        except ValueError as error:
            yield str(error)
    if hardware.parallelism == "split" and processes != 1:
        yield f"hardware.parallelism=split spreads one process over the GPUs: hardware.num_processes={processes} must be 1"
    if gpus is None:
        return
    if hardware.device == "cpu":
        yield "hardware.gpu_ids is set, but hardware.device=cpu"
    if not gpus or len(set(gpus)) != len(gpus):
        yield f"hardware.gpu_ids={gpus} must name different GPUs"
    elif hardware.parallelism != "split" and processes is not None and len(gpus) != processes:
        yield (
            f"hardware.gpu_ids={gpus} names {len(gpus)} GPUs for hardware.num_processes={processes}: each process "
            "uses one (null: as many processes as GPUs)"
        )


def _check_data(data: Data, transforms: list[str]) -> Iterator[str]:
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
    if source.path is not None and source.source.get("path") != source.path:
        yield f"{place}.path={source.path} is not read by data={source.name}: use data=files"
    for name in source.augmentation or []:
        if name not in transforms:
            known = ", ".join(transforms) or "none"
            yield f"{place}.augmentation names {name}, which is not one of this run's: {known}"


def _check_mixture(data: Data) -> Iterator[str]:
    if data.source is not None or data.partition != "seeded" or data.validation_source is not None:
        yield "data.sources is set: name source and partition there (data.sources.<name>.partition)"
    for name in sorted(data.weights.keys() ^ data.sources.keys()):
        yield f"data.weights.{name} and data.sources.{name} must both be there"
    for name, weight in data.weights.items():
        if weight <= 0:
            yield f"data.weights.{name}={weight} is too small: above 0"


def _check_template(prompt: Prompt) -> Iterator[str]:
    places = {"demonstration": ("{input}", "{output}"), "question": ("{input}",), "answer": ("{output}",)}
    for name, needed in places.items():
        text = getattr(prompt, name)
        if any(text.count(place) != 1 for place in needed):
            yield f"prompt.{name} must hold {' and '.join(needed)} once: {text!r}"


def _check_paths(config: Config) -> Iterator[str]:
    paths = {f"data.sources.{name}.path": source.path for name, source in config.data.sources.items()}
    paths |= {"data.path": config.data.path, "model.adapter": config.model.adapter}
    for key, path in paths.items():
        if path is not None and not Path(path).expanduser().exists():
            yield f"{key}={path} does not exist (looked in {Path.cwd()})"
    path = config.model.path
    if not path:
        yield "model.path is empty: a folder, or a hub id of the form owner/name"
    if path.startswith(("/", "./", "../", "~")) and not Path(path).expanduser().is_dir():
        yield f"model.path={path} is not a folder (looked in {Path.cwd()}); a hub id has the form owner/name"
    if config.data.num_validation >= 1 and config.data.num_validation % 1:
        yield f"data.num_validation={config.data.num_validation} must be a whole number, or a share below 1"
