"""Check a composition: what Hydra composed from `conf/` becomes a `Config`, or a list of all mistakes.

Nothing here imports torch, so a mistake is answered at once. OmegaConf checks types, the schema's metadata
ranges and choices, the dataclasses of open sets their options, `exclusions.py` and the rules the rest.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config.exclusions import excluded
from arc_experiments.config.rules import check_sections
from arc_experiments.config.schema import Config
from arc_experiments.config.user_code.by_path import error_by, is_installed
from arc_experiments.config.user_code.classes import load_class
from arc_experiments.config.user_code.functions import check_function, is_own

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs the errors of classes that it raises


class ConfigError(ValueError):
    """The mistakes in a composition, each a line that names the key, the value and the remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


def check(node: DictConfig) -> Config:
    """Check a composed node (see `typed`) and return its values.

    Raises:
        ConfigError: all mistakes of our own checks together.
    """
    fill_open_sets(node)
    try:
        config: Config = OmegaConf.to_object(node)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError([f"{getattr(error, 'full_key', '')}: {str(error).splitlines()[0]}"]) from error
    mistakes = [*_check_limits(config, ""), *excluded(config), *check_sections(config)]
    if mistakes:
        raise ConfigError(mistakes)
    return config


def build(options: dict[str, Any]) -> Any:
    """Build the object that the options of an open set describe (`_target_` and the fields of that class)."""
    return instantiate(options, _convert_="all")


def open_sets(node: DictConfig) -> Iterator[str]:
    """Yield the dotted key of every node that names a dataclass by `_target_`."""
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


def fill_open_sets(node: DictConfig) -> None:
    """Check the options of open sets, and add their classes' defaults, in place.

    Raises:
        ConfigError: unknown classes or keys, wrong types, and what the classes refuse, all together.
    """
    mistakes = []
    for key in open_sets(node):
        options = OmegaConf.select(node, key)
        if not isinstance(options, DictConfig) or "_target_" not in options:
            mistakes.append(f"{key} must name its class by _target_, got {options!r}")
            continue
        try:
            OmegaConf.update(node, key, _filled(key, options), merge=False)
        except OmegaConfBaseException as error:
            mistakes.append(_open_set_mistake(key, options, error))
        except Exception as error:
            theirs = error_by(functools.partial(_key_of, key), error)
            if theirs is None and not isinstance(error, ValueError | ImportError | AttributeError):
                raise
            mistakes.append(theirs or f"{key}: {error}")
    if mistakes:
        raise ConfigError(mistakes)


def _key_of(key: str, file: str) -> str | None:
    """The key of a class for the user's files, any of which may have been imported with it."""
    return None if is_installed(Path(file)) else key


def _filled(key: str, options: DictConfig) -> dict[Any, Any]:
    """The options with their class's defaults; the class's own checks have run."""
    plain = OmegaConf.to_container(options, resolve=True)
    assert isinstance(plain, dict)
    target = plain.pop("_target_")
    filled = OmegaConf.merge(_structure(load_class(key, target)), plain)
    OmegaConf.to_object(filled)  # runs the dataclass's own checks
    values = OmegaConf.to_container(filled)
    assert isinstance(values, dict)
    return {"_target_": target, **values}


def _open_set_mistake(key: str, options: DictConfig, error: OmegaConfBaseException) -> str:
    """What is wrong with the options; the key to set is another's if they take their value from it."""
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
        if not rule["or_own"]:
            yield f"{key}={item} is not one of: {', '.join(rule['choices'])}"
        elif is_own(item):
            yield from check_function(key, item)
        else:
            yield (
                f"{key}={item} is not one of: {', '.join(rule['choices'])}; nor a function of yours, "
                "<module>.<function>"
            )
    elif rule.get("low") is not None and item < rule["low"]:
        yield f"{key}={item} is too small: at least {rule['low']}"
    elif rule.get("above") is not None and item <= rule["above"]:
        yield f"{key}={item} is too small: above {rule['above']}"
    elif rule.get("high") is not None and item > rule["high"]:
        yield f"{key}={item} is too large: at most {rule['high']}"
