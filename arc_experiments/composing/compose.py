"""Composition: the schema and resolvers Hydra needs, what `from_run` brings, errors in plain words."""

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.composing.naming import folder_name, job_name
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.rules.model import ignored_lora
from arc_experiments.config.schema import Config, Data, conf_dir, store_schema, typed
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.runs.folder import FolderError, RunFolder


def register(typed: Sequence[str] = ()) -> None:
    """Make the schema and the folder names known to Hydra. Idempotent.

    Args:
        typed: the command line; a sweep's jobs are named by what is not typed for all of them.
    """
    store_schema()
    # By their keys, since Hydra hands a job the same values in other words: 1e-4 as 0.0001, true as True.
    keys = [(_key(text), _is_swept(text)) for text in typed if "=" in text]
    for_all = {key for key, _ in keys} - {key for key, swept in keys if swept}
    names: dict[str, Any] = {}

    def run_name(_root_: DictConfig) -> str:
        return folder_name(_best_effort(_root_))

    def sweep_name(_root_: DictConfig) -> str:
        # Hydra asks for the unswept composition first and for each job's after: the first answer stands.
        if not names:
            names["sweep"] = folder_name(_best_effort(_root_))
        return str(names["sweep"])

    def sweep_job_name(_root_: DictConfig) -> str:
        return job_name([entry for entry in _root_.hydra.overrides.task if _key(entry) not in for_all])

    for name, resolver in {
        "run_name": run_name,
        "sweep_name": sweep_name,
        "job_name": sweep_job_name,
    }.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _is_swept(text: str) -> bool:
    """Whether an override has several values for --multirun; one that cannot be read is told of by Hydra."""
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except OverrideParseException:
        return False
    return bool(override.is_sweep_override())


def _without_hydra(root: DictConfig, overrides: Sequence[str] = ()) -> DictConfig:
    """Our part of a composition, on the schema."""
    if "hydra" not in root and not any(text.startswith("+") for text in overrides):
        return root  # the schema was composed first: nothing unknown has come in
    return typed({str(key): root._get_node(key) for key in root if key != "hydra"})


def _best_effort(root: DictConfig) -> DictConfig:
    """The complete composition, so that the name is the one a notebook gives; with mistakes, what there is.

    The mistakes are told when the job is frozen; a sweep may well be complete only with its swept values.
    """
    plain = _without_hydra(root)
    try:
        return complete(plain, list(root.hydra.overrides.task))
    except (ConfigError, FolderError):
        return plain


def compose_config(overrides: list[str]) -> DictConfig:
    """Compose outside of the command, for notebooks and tests; checked and resolved.

    Raises:
        ConfigError: with the same lines that the command prints.
    """
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            node = hydra_compose("config", overrides=overrides)
        return complete(node, overrides)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(explain(error, overrides).splitlines()) from error


def compose_data(name: str) -> Data:
    """The data that an option of that group describes, or that of a folder or file as `data=files` reads it.

    Raises:
        ConfigError: as `compose_config`.
    """
    if name in _options("data").split(", "):
        overrides = [f"data={name}"]
    else:
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        overrides = ["data=files", f"data.path='{quoted}'"]
    return check(compose_config([*overrides, "job=audit"])).data  # a job that need not train on it


def complete(node: DictConfig, overrides: list[str]) -> DictConfig:
    """Bring in what `from_run` names, check everything, resolve all values.

    Raises:
        ConfigError: all mistakes together.
    """
    missing = [key for key in sorted(OmegaConf.missing_keys(node)) if not key.startswith("hydra.")]
    if missing:
        raise ConfigError([f"{key} is needed and has no value: {key}=..." for key in missing])
    try:
        config = _without_hydra(node, overrides)
    except OmegaConfBaseException as error:  # a key added with + that the schema does not have
        raise ConfigError(explain(error).splitlines()) from error
    OmegaConf.set_struct(config, True)
    if config.from_run is not None:
        config = _take_from_run(config, overrides)
    ignored = list(ignored_lora(check(config).model, _typed_keys(overrides)))
    if ignored:
        raise ConfigError(ignored)
    OmegaConf.resolve(config)
    return config


def _typed_keys(overrides: list[str]) -> set[str]:
    return {str(each.key_or_group) for each in OverridesParser.create().parse_overrides(overrides)}


def _take_from_run(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The run's data, model, prompt and partition, under what was typed beside it."""
    folder = RunFolder(Path(config.from_run).expanduser())
    run = folder.read_config()
    typed = OverridesParser.create().parse_overrides(overrides)
    groups = {str(override.key_or_group) for override in typed}
    if "model" in groups:
        raise ConfigError(
            [
                "from_run takes that run's model: leave model=... out, or name model.adapter=... without from_run"
            ]
        )
    experiment = _experiment(typed)
    groups |= {name for name in experiment.pop("groups") if name != "model"}  # that is the run's
    nested = {key: OmegaConf.select(config, key.replace("/", ".")) for key in groups if "/" in key}
    with open_dict(config):
        for name in ("data", "model", "prompt", "inference"):
            if name not in groups:  # a group that was chosen anew is taken whole
                config[name] = run[name]  # not merged: what one source needs another refuses
                if name in experiment:
                    config[name] = OmegaConf.merge(run[name], experiment[name])
        _take_weights(config, folder)
        config.seeds.partition = run.seeds.partition
        if "seed" not in groups:  # the same views
            config.seeds.inference = run.seeds.inference
        for key, chosen in nested.items():  # prompt/grid=... lies inside of a group that was taken
            OmegaConf.update(config, key.replace("/", "."), chosen, merge=False)
        if "model.path" in groups and config.model.adapter is None:
            raise ConfigError(
                [
                    f"from_run={folder} has trained all weights, which are in its model/: leave model.path=... out"
                ]
            )
        for override in typed:
            key = str(override.key_or_group)
            if key.split(".")[0] in ("data", "model", "prompt", "inference", "seeds") and "." in key:
                OmegaConf.update(config, key, override.value())
    return config


def _experiment(typed: Sequence[Override]) -> dict[str, Any]:
    """What an experiment's file says, which stands above what a run brings; `groups`: those that it chooses."""
    said: dict[str, Any] = {"groups": []}
    for override in typed:
        if override.key_or_group == "experiment" and isinstance(override.value(), str):
            said = _merged(said, _experiment_file(str(override.value())))
    return said


def _experiment_file(name: str) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"experiment/{name}.yaml"))
    assert isinstance(values, dict)
    said: dict[str, Any] = {"groups": []}
    for entry in values.pop("defaults", []):
        if isinstance(entry, dict):
            said["groups"] += [key.split("/")[-1] for key in entry]
        elif entry != "_self_":  # another experiment, which this one changes
            said = _merged(said, _experiment_file(entry))
    return _merged(said, {"groups": [], **{str(key): value for key, value in values.items()}})


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    groups = [*first["groups"], *second["groups"]]
    merged = OmegaConf.to_container(OmegaConf.merge(first, second))
    assert isinstance(merged, dict)
    return {**{str(key): value for key, value in merged.items()}, "groups": groups}


def _take_weights(config: DictConfig, folder: RunFolder) -> None:
    """The weights that the run has trained: its adapter, or its whole model."""
    if (folder / "adapter").exists():
        config.model.adapter = str((folder / "adapter").absolute())
        ancestry = read_ancestry(folder / "adapter")
        if ancestry is not None and config.model.dtype == "auto":  # another machine might choose another
            config.model.dtype = ancestry.dtype
    elif (folder / "model").exists():
        config.model.path, config.model.weights = str((folder / "model").absolute()), "pretrained"
    else:
        if (folder / "metrics.json").exists():
            source = folder.read_config().from_run
            raise ConfigError(
                [f"from_run={folder} is an evaluation: name the run that it evaluated: from_run={source}"]
            )
        state = folder.state.name
        raise ConfigError([f"from_run={folder} has no trained weights yet ({state}): finish that run first"])


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """What a user reads: what was wrong, where, and what to do; no traceback.

    Args:
        overrides: what was typed; some of Hydra's messages do not say which of it is wrong.
    """
    if isinstance(error, ConfigError):
        return "\n".join(error.mistakes)
    if isinstance(error, FolderError):  # it tells more than its cause
        return str(error)
    for cause in reversed(_causes(error)):
        key = getattr(cause, "full_key", None)
        if isinstance(cause, OmegaConfBaseException) and key:
            return f"{key}: {str(cause).splitlines()[0]}{_suggestion(str(key), cause.parent_node)}"
    message = str(error).partition("Config search path")[0].strip()
    message = message or f"{type(error).__name__} while composing: {' '.join(overrides)}"
    if isinstance(error, OverrideParseException) and error.override not in message:
        return f"{error.override}: {message}"
    if message.startswith("Config group override must be"):
        return "\n".join(_no_options(overrides)) or message
    missing = re.search(r"Could not load '([a-z_]+)/", message)
    return f"{message} Available options: {_options(missing[1])}" if missing else message


def _no_options(overrides: Sequence[str]) -> Iterator[str]:
    """What was typed for a group but is not the name of an option, such as a number."""
    typed = [text for text in overrides if "=" in text and not text.startswith("-")]
    for override in OverridesParser.create().parse_overrides(typed):
        group = str(override.key_or_group)
        if group and _options(group) and not isinstance(override.value(), str | list):
            yield f"{override.input_line} is not an option of {group}. Available options: {_options(group)}"


def _options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes


def _suggestion(key: str, parent: Any) -> str:
    """For an unknown key: those spelt like it beside it, those called so elsewhere, or all beside it."""
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
