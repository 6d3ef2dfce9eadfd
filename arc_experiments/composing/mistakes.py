"""Hydra's and OmegaConf's errors in plain words: what was wrong, where, and what to type instead."""

import contextlib
import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.composing.words import COMMANDS, GROUPS
from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import Config, conf_dir
from arc_experiments.config.user_code.folders import option_file, options_of
from arc_experiments.runs.folder import FolderError

# OmegaConf's words for a value of another kind, and ours.
WRONG_KIND = re.compile(
    r"Value '(.*)' (?:of type '\w+' could not be converted to (Integer|Float)|is not a valid (bool) )"
)
FLAGS_OF_HYDRA = {
    "help", "hydra_help", "version", "cfg", "resolve", "package", "run", "multirun", "shell_completion",
    "config_path", "config_name", "config_dir", "experimental_rerun", "info",
}  # fmt: skip
KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """Say what was wrong, where, and what to do, without a traceback.

    Args:
        overrides: what was typed; some of Hydra's messages do not say which of it is wrong.
    """
    if isinstance(error, ConfigError):
        return "\n".join(error.mistakes)
    if isinstance(error, FolderError):  # it says more than its cause
        return str(error)
    for cause in reversed(_causes(error)):
        key = getattr(cause, "full_key", None)
        if isinstance(cause, OmegaConfBaseException) and key:
            return _about_key(str(key), cause)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    message = str(error).partition("Config search path")[0].strip()
    message = message or f"{type(error).__name__} while composing: {' '.join(overrides)}"
    if match := re.match(r"Multiple values for ([\w/]+)\.", message):
        return f"{match[1]} has an option already, which {match[1]}=... replaces: leave the + out"
    if message == "Unexpected type for root: NoneType":  # Hydra sets a key in a section that is null
        return "\n".join(inside_null(overrides)) or message
    if message.startswith("Config group override must be"):
        return "\n".join(_not_options(overrides)) or message
    if isinstance(error, MissingConfigException):
        return _no_option(error, overrides) or message
    return message


def typed_as_flags(arguments: Sequence[str]) -> Iterator[str]:
    """Yield a line for each `--key value` or `--key=value` of ours, which has to be `key=value`."""
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, sign, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or not name or name in FLAGS_OF_HYDRA:
            continue
        if not sign:
            value = following if following and not following.startswith("-") else "..."
        keys = [key for key in (*GROUPS, *_schema_keys()) if name in (key, key.rpartition(".")[2])]
        if name in keys:
            keys = [name]
        if keys:
            yield f"{word} is no flag: write {' or '.join(f'{key}={value}' for key in dict.fromkeys(keys))}"


def _about_key(key: str, error: OmegaConfBaseException) -> str:
    """Say that there is no such key, or what kind of value it takes: in that form if the value has one."""
    first, meant = str(error).splitlines()[0], ""
    if not (found := WRONG_KIND.match(first)):
        return f"{key}: {first}{_suggestion(key, error.parent_node)}"
    value, kind = found[1], KINDS[found[2] or found[3]]
    with contextlib.suppress(ValueError, OverflowError):
        if kind == KINDS["Integer"] and float(value) == int(float(value)):
            meant = f": {key}={int(float(value))}"
    return f"{key}={value} must be {kind}{meant}"


def _unreadable(error: OverrideParseException) -> str:
    """Say why a word is no override, or how to quote its value."""
    key, is_override, value = error.override.partition("=")
    if not is_override:
        return _no_override(key)
    if value.startswith(("[", "{")) or "'" in value or '"' in value:
        message = str(error)
        return message if error.override in message else f"{error.override}: {message}"
    return (
        f"{error.override}: this value cannot be read. Characters such as ~ = ( need quotes of their own "
        f"inside the shell's: '{key}=\"{value}\"'"
    )


def _no_override(word: str) -> str:
    """Say what a word without = could have been: a key, an option of a group, or another command."""
    text = f"{word} is neither <key>=<value>, <group>=<option> nor one of the commands {', '.join(COMMANDS)}"
    found = [f"{group}={word}" for group in GROUPS if word in options_of(group)]
    found += difflib.get_close_matches(word, COMMANDS)
    found += [f"{key}=..." for key in difflib.get_close_matches(word, [*GROUPS, *_schema_keys()], n=1)]
    return f"{text}. Did you mean: {' or '.join(found)}?" if found else text


def _no_option(error: MissingConfigException, overrides: Sequence[str]) -> str:
    """Say which option of which group is not there, and which is meant; "" if it is in no group of ours."""
    words, depth = (error.missing_cfg_file or "").split("/"), 0
    while (
        depth < len(words) - 1
        and words[depth].isidentifier()
        and conf_dir().joinpath(*words[: depth + 1]).is_dir()
    ):
        depth += 1
    if depth == 0:
        return ""
    group, option = "/".join(words[:depth]), "/".join(words[depth:])
    options = list(error.options or options_of(group))
    origin = re.match(r"In '([^']*)'", str(error))
    is_typed = any(option in text for text in overrides) or origin is None
    text = "" if is_typed or origin is None else f"{origin[1]}.yaml: "
    text += f"{group}={option} is not an option of {group}"
    close = difflib.get_close_matches(option.lower(), options)
    if group == "model" and ("/" in option.strip("/") or ":" in option or (option and not close)):
        meant = model_of_path(option)
        is_custom = meant.startswith("model=custom ")
        text += f". For a hub id or a folder write {meant}." if is_custom else f": this model is {meant}."
    elif close:
        text += f". Did you mean: {' or '.join(f'{group}={name}' for name in close)}?"
    else:
        text += "."
    return f"{text} Available options: {', '.join(options)}"


def model_of_path(path: str) -> str:
    """What to type for the model at a path or of a hub id: the option that names it, or custom."""
    for option in options_of("model"):
        file = option_file("model", option)
        if file is not None and OmegaConf.select(OmegaConf.load(file), "path") == path:
            return f"model={option}"
    return f"model=custom model.path={path}"


def inside_null(overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each key that is typed after null for a section around it; before it, null wins."""
    sections: list[tuple[str, Override]] = []
    for override in _parsed(overrides):
        key = str(override.key_or_group)
        for section, null in sections:
            if key.startswith(section):
                yield f"{override.input_line} is in what {null.input_line} leaves out: leave one out"
        if override.value() is None:
            sections.append((f"{key}.", override))


def _parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse the overrides among the words of a command line."""
    typed = [text for text in overrides if "=" in text and not text.startswith("-")]
    return OverridesParser.create().parse_overrides(typed)


def _not_options(overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each override of a group whose value cannot name an option, such as a number."""
    for override in _parsed(overrides):
        group = str(override.key_or_group)
        options = ", ".join(options_of(group)) if group else ""
        if options and not isinstance(override.value(), str | list):
            yield f"{override.input_line} is not an option of {group}. Available options: {options}"


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes


def _suggestion(key: str, parent: Any) -> str:
    """For an unknown key: similar ones beside it, those of the same name elsewhere, or all beside it."""
    if key in _schema_keys():
        return ""
    place, _, last = key.rpartition(".")
    beside = [str(name) for name in parent or () if name != "hydra"] if isinstance(parent, DictConfig) else []
    close = [f"{place}.{name}".lstrip(".") for name in difflib.get_close_matches(last, beside)]
    close += [known for known in _schema_keys() if known.rpartition(".")[2] == last]
    if close:
        return f". Did you mean: {', '.join(close)}?"
    return f". {place or 'A composition'} has: {', '.join(beside)}" if beside else ""


@functools.cache
def _schema_keys() -> tuple[str, ...]:
    def walk(kind: type, prefix: str) -> Iterator[str]:
        for name, hint in get_type_hints(kind).items():
            yield f"{prefix}{name}"
            if prefix == "data." and name in ("prompt", "sources"):  # of single sources, seldom meant
                continue
            for inner in (hint, *get_args(hint)):
                if dataclasses.is_dataclass(inner):
                    yield from walk(inner, f"{prefix}{name}.")  # type: ignore[arg-type]

    return tuple(walk(Config, ""))
