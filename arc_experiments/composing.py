"""Composition: the schema and resolvers that Hydra needs, what `from_run` brings, and errors in plain words."""

import dataclasses
import difflib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.config import Config, ConfigError, check, conf_dir, store_schema, typed
from arc_experiments.run_folder import RunFolder, folder_name, job_name


def register() -> None:
    """Make the schema and the folder names known to Hydra. Idempotent."""
    store_schema()
    names: dict[str, Any] = {}

    def run_name(_root_: DictConfig) -> str:
        return folder_name(_without_hydra(_root_))

    def sweep_name(_root_: DictConfig) -> str:
        # Hydra asks for the unswept composition first and for each job's after: the first answer stands.
        if not names:
            names["sweep"] = folder_name(_without_hydra(_root_))
            names["overrides"] = list(_root_.hydra.overrides.task)
        return str(names["sweep"])

    def sweep_job_name(_root_: DictConfig) -> str:
        swept = [entry for entry in _root_.hydra.overrides.task if entry not in names.get("overrides", [])]
        return job_name(swept)

    for name, resolver in {"run_name": run_name, "sweep_name": sweep_name, "job_name": sweep_job_name}.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _without_hydra(root: DictConfig) -> DictConfig:
    return typed({str(key): root._get_node(key) for key in root if key != "hydra"})


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
        raise ConfigError(explain(error).splitlines()) from error


def complete(node: DictConfig, overrides: list[str]) -> DictConfig:
    """Bring in what `from_run` names, check everything, resolve all values.

    Raises:
        ConfigError: all mistakes together.
    """
    missing = [key for key in sorted(OmegaConf.missing_keys(node)) if not key.startswith("hydra.")]
    if missing:
        raise ConfigError([f"{key} is needed and has no value: {key}=..." for key in missing])
    try:
        config = _without_hydra(node)
    except OmegaConfBaseException as error:  # a key added with + that the schema does not have
        raise ConfigError(explain(error).splitlines()) from error
    OmegaConf.set_struct(config, True)
    if config.from_run is not None:
        config = _take_from_run(config, overrides)
    check(config)
    OmegaConf.resolve(config)
    return config


def _take_from_run(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The run's data, model, prompt and partition, under what was typed beside it."""
    folder = RunFolder(Path(config.from_run).expanduser())
    run = folder.read_config()
    typed = OverridesParser.create().parse_overrides(overrides)
    groups = {str(override.key_or_group) for override in typed}
    with open_dict(config):
        for name in ("data", "model", "prompt"):
            if name not in groups:  # a group that was chosen anew is taken whole
                config[name] = OmegaConf.merge(config[name], run[name])
        if run.model.adapter is None or (folder / "adapter").exists():
            config.model.adapter = str(folder / "adapter")
        config.seeds.partition = run.seeds.partition
        for override in typed:
            key = str(override.key_or_group)
            if key.split(".")[0] in ("data", "model", "prompt", "seeds") and "." in key:
                OmegaConf.update(config, key, override.value())
    return config


def explain(error: BaseException) -> str:
    """What a user reads: what was wrong, where, and what to do; no traceback."""
    if isinstance(error, ConfigError):
        return "\n".join(error.mistakes)
    for cause in reversed(_causes(error)):
        key = getattr(cause, "full_key", None)
        if isinstance(cause, OmegaConfBaseException) and key:
            return f"{key}: {str(cause).splitlines()[0]}{_suggestion(str(key))}"
    return str(error).partition("Config search path")[0].strip()


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes


def _suggestion(key: str) -> str:
    """Keys that are spelt like an unknown one."""
    if key in _schema_keys():
        return ""
    close = difflib.get_close_matches(key, _schema_keys(), n=3, cutoff=0.6)
    return f". Did you mean: {', '.join(close)}?" if close else ""


@functools.cache
def _schema_keys() -> tuple[str, ...]:
    def walk(kind: type, prefix: str) -> Iterator[str]:
        for name, hint in get_type_hints(kind).items():
            yield f"{prefix}{name}"
            for inner in (hint, *get_args(hint)):
                if dataclasses.is_dataclass(inner):
                    yield from walk(inner, f"{prefix}{name}.")  # type: ignore[arg-type]

    return tuple(walk(Config, ""))
