"""The checks of a composition: what Hydra composed from `conf/` becomes a `Config`, every value checked.

Nothing here imports torch, so a mistake is answered at once.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config import Config, Prompt, Template, conf_dir


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
    yield from ("data.source", "prompt.grid")
    if node.data.validation_source is not None:
        yield "data.validation_source"
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
        taken_from = str(written[inner]).strip("${}")
        return f"{taken_from} is needed and has no value: {taken_from}=..."
    return f"{key}{'.' if inner else ''}{inner}: {str(error).splitlines()[0]}"


def _check_limits(value: Any, prefix: str) -> Iterator[str]:
    for entry in dataclasses.fields(value):
        key, item, rule = f"{prefix}{entry.name}", getattr(value, entry.name), entry.metadata
        if dataclasses.is_dataclass(item):
            yield from _check_limits(item, f"{key}.")
        elif item is None:
            continue
        elif "choices" in rule and item not in rule["choices"]:
            yield f"{key}={item} is not one of: {', '.join(rule['choices'])}"
        elif rule.get("low") is not None and item < rule["low"]:
            yield f"{key}={item} is too small: at least {rule['low']}"
        elif rule.get("above") is not None and item <= rule["above"]:
            yield f"{key}={item} is too small: above {rule['above']}"
        elif rule.get("high") is not None and item > rule["high"]:
            yield f"{key}={item} is too large: at most {rule['high']}"


def _check_combination(config: Config) -> Iterator[str]:
    optim, hardware, model = config.optim, config.hardware, config.model
    at_once = hardware.per_device_batch_size * hardware.num_processes
    if optim.batch_size % at_once:
        yield (
            f"optim.batch_size={optim.batch_size} does not divide into hardware.num_processes="
            f"{hardware.num_processes} x hardware.per_device_batch_size={hardware.per_device_batch_size}: "
            f"choose a multiple of {at_once}, or a smaller hardware.per_device_batch_size"
        )
    if optim.save_steps % optim.log_steps:
        yield (
            f"optim.save_steps={optim.save_steps} is not a multiple of optim.log_steps={optim.log_steps}: "
            "a resumed run could not repeat the losses it logs"
        )
    if model.quantisation != "none" and model.lora is None:
        yield f"model.quantisation={model.quantisation} needs model.lora: quantised weights cannot be trained"
    if optim.stop_after is not None and optim.stop_after > optim.max_steps:
        yield f"optim.stop_after={optim.stop_after} is beyond optim.max_steps={optim.max_steps}"
    jobs = sorted(file.stem for file in (conf_dir() / "job").glob("*.yaml"))
    if config.job.name not in jobs:
        yield f"job.name={config.job.name} is not one of: {', '.join(jobs)}"
    if hardware.gpu_ids is not None and len(hardware.gpu_ids) != 1:
        yield f"hardware.gpu_ids={hardware.gpu_ids}: one process uses one GPU, name one"
    if config.data.path is not None and config.data.source.get("path") != config.data.path:
        yield f"data.path={config.data.path} is not read by data={config.data.name}: use data=files"
    if hardware.gpu_ids is not None and hardware.device == "cpu":
        yield "hardware.gpu_ids is set, but hardware.device=cpu"
    yield from _check_templates(config.prompt)
    yield from _check_paths(config)


def _check_templates(prompt: Prompt) -> Iterator[str]:
    places = {"demonstration": ["input", "output"], "question": ["input"], "answer": ["output"]}
    yield from _check_places(prompt, "prompt", {"introduction": [], **places})
    for kind, side in (("input_from_inputs", "input"), ("output_from_outputs", "output")):
        template, weight = getattr(prompt, kind), getattr(prompt.kinds, kind)
        if template is not None:
            places = {"introduction": [], "demonstration": [side], "question": [], "answer": [side]}
            yield from _check_places(template, f"prompt.{kind}", places)
        elif weight > 0:
            yield (
                f"prompt.kinds.{kind}={weight} needs a template: prompt={prompt.name} has no prompt.{kind}; "
                "write one, or take a prompt that has it (prompt=arc24)"
            )


def _check_places(template: Prompt | Template, prefix: str, places: dict[str, list[str]]) -> Iterator[str]:
    """Each text holds the grids that it needs once, and no others."""
    for name, sides in places.items():
        text = getattr(template, name)
        for side in ("input", "output"):
            if text.count(f"{{{side}}}") != (side in sides):
                needed = " and ".join(f"{{{side}}}" for side in sides)
                rule = f"must hold {needed} once" if side in sides else f"must not hold {{{side}}}"
                yield f"{prefix}.{name} {rule}: {text!r}"
                break


def _check_paths(config: Config) -> Iterator[str]:
    for key, path in (("data.path", config.data.path), ("model.adapter", config.model.adapter)):
        if path is not None and not Path(path).expanduser().exists():
            yield f"{key}={path} does not exist (looked in {Path.cwd()})"
    path = config.model.path
    if not path:
        yield "model.path is empty: a folder, or a hub id of the form owner/name"
    if path.startswith(("/", "./", "../", "~")) and not Path(path).expanduser().is_dir():
        yield f"model.path={path} is not a folder (looked in {Path.cwd()}); a hub id has the form owner/name"
    if config.data.num_validation >= 1 and config.data.num_validation % 1:
        yield f"data.num_validation={config.data.num_validation} must be a whole number, or a share below 1"
