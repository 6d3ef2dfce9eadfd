"""Compose: config files and a command line become one complete, checked composition."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.composing.from_run import take_from_run
from arc_experiments.composing.mistakes import explain, inside_null, model_of_path
from arc_experiments.composing.mounted import find_base, find_mounted
from arc_experiments.composing.naming import folder_name, job_name, key_of
from arc_experiments.config.check import ConfigError, check, fill_open_sets
from arc_experiments.config.data_rules import ignored_lora
from arc_experiments.config.rules import ignored_steps
from arc_experiments.config.schema import Data, Model, conf_dir, store_schema, typed
from arc_experiments.config.user_code.folders import option_file, options_of, own_conf, take_config_dir
from arc_experiments.runs.folder import FolderError, RunFolder


def compose_config(overrides: list[str]) -> DictConfig:
    """Compose outside of the command, for notebooks and tests; complete and checked.

    Raises:
        ConfigError: with the same lines that the command prints.
    """
    register()
    overrides = quote_labels(overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            search = [f"hydra.searchpath={[f'file://{conf}' for conf in own_conf()]}"] if own_conf() else []
            config = complete(compose("config", overrides=[*overrides, *search]), overrides)
        check_typed(config, overrides)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(explain(error, overrides).splitlines()) from error
    return config


def compose_data(name: str) -> Data:
    """Compose the data option of that name, or a folder or file as `data=files` reads it.

    Raises:
        ConfigError: as `compose_config`.
    """
    if name in options_of("data"):
        overrides = [f"data={name}"]
    else:
        overrides = ["data=files", f"data.path={quoted(name)}"]
    return check(compose_config([*overrides, "job=audit"])).data  # a job that need not train on it


def quote_labels(overrides: Sequence[str]) -> list[str]:
    """Quote what `name=` and `note=` say: free text, in which commas and brackets mean nothing to Hydra."""
    return [_quote_label(override) for override in overrides]


def _quote_label(override: str) -> str:
    key, sign, text = override.partition("=")
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if key not in ("name", "note") or not sign or text in ("", "null") or is_quoted:
        return override
    return f"{key}={quoted(text)}"


def quoted(text: str) -> str:
    """The text as Hydra's grammar quotes it, in which a backslash means something before a quote alone."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text)
    return f"'{escaped}'"


def complete(node: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return our part of a composition with what `from_run` and open sets bring in, all values resolved.

    Raises:
        ConfigError: values are missing, open sets have mistakes, or `from_run` does not fit what was typed.
        FolderError: `from_run` is no run folder.
    """
    ours = _without_hydra(node)
    # Of the sources of `from_run` only what changes is typed.
    taken = "data.sources." if ours.from_run is not None else ()
    missing = sorted(key for key in OmegaConf.missing_keys(ours) if not key.startswith(taken))
    if missing:
        raise ConfigError([f"{key} is needed and has no value: {key}=..." for key in missing])
    try:
        config = typed(ours)  # the schema again, since a + on the command line lets unknown keys in
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error).splitlines()) from error
    OmegaConf.set_struct(config, True)
    section = dropped_section(node, overrides)
    if section is not None:
        config.launch[section] = None
    is_mounted = find_mounted(config)
    if config.from_run is not None:
        take_from_run(config, overrides)
    if is_mounted:
        find_base(config)
    fill_open_sets(config)
    OmegaConf.resolve(config)
    return config


def dropped_section(node: DictConfig, overrides: Sequence[str]) -> str | None:
    """The experiment's section of `launch` for a cluster that the typed `launch=local` leaves out."""
    keys = [key_of(override) for override in overrides]
    sections = [str(key) for key, value in node.launch.items() if OmegaConf.is_dict(value) and key != "chain"]
    left_out = [name for name in sections if not any(key.startswith(f"launch.{name}") for key in keys)]
    return left_out[0] if left_out and "launch=local" in overrides else None


def check_typed(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check a complete composition, that nothing typed is ignored, and that its model fits its name.

    Raises:
        ConfigError: all mistakes together.
    """
    keys = [str(each.key_or_group) for each in OverridesParser.create().parse_overrides(list(overrides))]
    checked = check(config)
    model = checked.model
    mistakes = [
        *inside_null(overrides), *ignored_lora(model, keys), *ignored_steps(checked.optim, keys),
    ]  # fmt: skip
    if config.from_run is None:  # whose model may lie elsewhere now
        mistakes += _other_model(model)
    if mistakes:
        raise ConfigError(mistakes)


def _other_model(model: Model) -> Iterator[str]:
    """Yield a line if a path replaces that of an option of `model` whose name, prompt and LoRA stay."""
    file = option_file("model", model.name)
    options = OmegaConf.create() if file is None else OmegaConf.load(file)
    named = OmegaConf.select(options, "path")  # None: missing, as in model=custom
    if named is None or _is_copy(named, model.path):
        return
    if _name_in_run(Path(model.path).expanduser()) == model.name:  # what a run has made of it
        return
    yield (
        f"model.path={model.path} is another model than model={model.name} ({named}), whose name, "
        f"prompt and LoRA settings it would have: {model_of_path(model.path)}, or to keep these "
        f"settings: model.path={model.path} model.name=<a name for it>"
    )


def _is_copy(named: str, path: str) -> bool:
    """Whether a path is that of the named model, or a part of it has its name, as in the hub's cache."""
    name = named.rpartition("/")[2].lower()
    return any(part.rpartition("--")[2] == name for part in path.lower().split("/"))


def _name_in_run(weights: Path) -> str | None:
    """`model.name` of the run whose `model/` this is; None if it is none."""
    if not (weights.parent / "run.yaml").exists():
        return None
    return str(RunFolder(weights.parent).read_config().model.name)


def register(arguments: Sequence[str] = ()) -> None:
    """Make the schema and the names of folders known to Hydra. Idempotent.

    Args:
        arguments: the command line; a sweep's jobs are named by what is not typed for all of them.

    Raises:
        ValueError: the folder of option files that it names cannot be used.
    """
    store_schema()
    take_config_dir(arguments)
    # By their keys, since Hydra hands a job the same values in other words: 1e-4 as 0.0001, true as True.
    keys = [(key_of(text), _is_swept(text)) for text in arguments if "=" in text]
    for_all = {key for key, _ in keys} - {key for key, swept in keys if swept}
    names: dict[str, Any] = {}

    def sweep_name(_root_: DictConfig) -> str:
        # Hydra asks for the unswept composition first and for each job's afterwards: the first answer counts.
        if not names:
            names["sweep"] = _name(_root_)
        return str(names["sweep"])

    def sweep_job_name(_root_: DictConfig) -> str:
        return job_name([entry for entry in _root_.hydra.overrides.task if key_of(entry) not in for_all])

    resolvers = {
        "run_name": lambda _root_: _name(_root_),
        "sweep_name": sweep_name,
        "job_name": sweep_job_name,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _name(root: DictConfig) -> str:
    """The folder's name by the complete composition; by what there is if it cannot be completed.

    Its mistakes are reported when the job is frozen; a sweep may be complete only with its swept values.
    """
    try:
        return folder_name(complete(root, root.hydra.overrides.task))
    except (ConfigError, FolderError):
        return folder_name(_without_hydra(root))


def _without_hydra(node: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(node, [str(key) for key in node if key != "hydra"])


def _is_swept(text: str) -> bool:
    """Whether an override has several values for --multirun; Hydra reports one that cannot be read."""
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except OverrideParseException:
        return False
    return bool(override.is_sweep_override())
