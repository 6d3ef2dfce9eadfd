"""The checks of a composition: what Hydra composed from `conf/` becomes a `Config`, every value checked.

Nothing here imports torch, so a mistake is answered at once. The sections' own checks are in files of their names.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config.rules.adapt import check_adapt
from arc_experiments.config.rules.audit import check_audit
from arc_experiments.config.rules.benchmark import check_benchmark
from arc_experiments.config.rules.data import check_data, check_path
from arc_experiments.config.rules.halving import check_halving
from arc_experiments.config.rules.hardware import check_hardware, check_sharding, split_batch
from arc_experiments.config.rules.inference import check_inference
from arc_experiments.config.rules.launch import check_launch
from arc_experiments.config.rules.model import check_model
from arc_experiments.config.rules.optim import check_optim
from arc_experiments.config.rules.prompt import check_templates
from arc_experiments.config.schema import Config, Prompt, conf_dir

__all__ = ["ConfigError", "build", "check", "split_batch"]


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
        if OmegaConf.select(node, place).prompt is not None:
            yield f"{place}.prompt.grid"
    for name in node.augmentation:
        yield f"augmentation.{name}"


@functools.cache
def _structure(kind: type) -> DictConfig:
    structure: DictConfig = OmegaConf.structured(kind)
    OmegaConf.set_readonly(structure, False)  # frozen dataclasses come read-only
    return structure


def _check_open_sets(node: DictConfig) -> list[str]:
    mistakes = []
    for key in _open_sets(node):
        options = OmegaConf.select(node, key)
        if not isinstance(options, DictConfig) or "_target_" not in options:
            mistakes.append(f"{key} must name its class by _target_, got {options!r}")
            continue
        try:
            structure = _structure(get_class(options._target_))
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
        origin = f" ({options.origin})" if options.get("origin") else ""
        return f"{taken_from} is needed and has no value: {taken_from}=...{origin}"
    return f"{key}{'.' if inner else ''}{inner}: {str(error).splitlines()[0]}"


def _check_limits(value: Any, prefix: str) -> Iterator[str]:
    names = [entry.name for entry in dataclasses.fields(value)]
    for name in vars(value):
        if name not in names:  # added with `+`, which Hydra lets through
            yield f"{prefix}{name}: there is no such key. {prefix.rstrip('.')} has: {', '.join(names)}"
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
    trains_apart = config.job.name == "adapt"  # each of its processes has tasks of its own
    yield from check_hardware(hardware, optim.batch_size, shares_batch=not trains_apart)
    yield from check_sharding(config)
    yield from check_data(config.data, list(config.augmentation))
    if config.job.name == "finetune" and not any(
        source.trains for source in (config.data.sources.values() or [config.data])
    ):
        yield "data.partition=all holds every task out and leaves nothing to train on: job=evaluate takes it"
    for place, prompt in _prompts(config):
        yield from check_templates(prompt, place)
        if optim.pack_length is not None and optim.pack_length < prompt.max_length:
            yield (
                f"optim.pack_length={optim.pack_length} is less than {place}.max_length={prompt.max_length}: "
                "a row must hold the longest sample, raise the one or lower the other"
            )
    yield from check_model(model)
    jobs = sorted(file.stem for file in (conf_dir() / "job").glob("*.yaml"))
    if config.job.name not in jobs:
        yield f"job.name={config.job.name} is not one of: {', '.join(jobs)}"
    yield from check_inference(config)
    yield from check_optim(optim, can_score=config.inference.limit != 0)
    yield from check_halving(config, can_score=config.inference.limit != 0)
    yield from _check_paths(config)
    yield from check_benchmark(config)
    yield from check_audit(config)
    yield from check_adapt(config)
    yield from check_launch(config)


def _prompts(config: Config) -> Iterator[tuple[str, Prompt]]:
    """The run's prompt, and those of single sources, by their keys."""
    yield "prompt", config.prompt
    for name, source in config.data.sources.items():
        if source.prompt is not None:
            yield f"data.sources.{name}.prompt", source.prompt


def _check_paths(config: Config) -> Iterator[str]:
    yield from check_path("model.adapter", config.model.adapter)
    yield from check_path("submission", config.submission)
    if config.submission is not None and config.job.name != "evaluate":
        yield f"submission={config.submission} is scored by job=evaluate, not by job={config.job.name}"
    adapter = Path(config.model.adapter or "").expanduser()
    if config.model.adapter is not None and (adapter / "adapter" / "adapter_config.json").exists():
        yield f"model.adapter={config.model.adapter} is a run, which holds its adapter: model.adapter={adapter}/adapter"
    path = config.model.path
    if not path:
        yield "model.path is empty: a folder, or a hub id of the form owner/name"
    if path.startswith(("/", "./", "../", "~")) and not Path(path).expanduser().is_dir():
        yield f"model.path={path} is not a folder (looked in {Path.cwd()}); a hub id has the form owner/name"
