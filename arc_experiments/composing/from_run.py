"""`from_run=<folder>`: evaluate or adapt what an earlier run has trained, on its data, with its prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from arc_experiments.composing.recorded_code import find_code
from arc_experiments.config.check import ConfigError
from arc_experiments.config.user_code.folders import option_file
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.runs.folder import RunFolder

BROUGHT = ("data", "model", "prompt", "inference")


def take_from_run(config: DictConfig, overrides: Sequence[str]) -> None:
    """Put the run's data, model, prompt, inference and partition into a composition, in place.

    What was typed beside `from_run` wins, then an experiment, then the run; the model is always the run's.

    Raises:
        ConfigError: the run has no trained weights, or a model or a source was typed that it does not use.
        FolderError: there is no run in that folder.
    """
    folder = RunFolder(Path(config.from_run).expanduser())
    run = folder.read_config()
    typed = OverridesParser.create().parse_overrides(list(overrides))
    groups = {str(override.key_or_group) for override in typed}
    if "model" in groups:
        raise ConfigError(
            ["from_run takes that run's model: leave model=... out, or name model.adapter=... without it"]
        )
    chosen, values = _experiments(typed)
    groups |= chosen - {"model"}
    find_code(folder.path, lambda key: (group := key.split(".")[0]) in BROUGHT and group not in groups)
    nested = {key: OmegaConf.select(config, key.replace("/", ".")) for key in groups if "/" in key}
    with open_dict(config):
        for name in BROUGHT:
            if name not in groups:  # a group that was chosen anew is taken whole
                # The run's is not merged with ours: what one source needs another refuses.
                config[name] = OmegaConf.merge(run[name], values[name]) if name in values else run[name]
        _take_weights(config, folder)
        config.seeds.partition = run.seeds.partition
        if "seed" not in groups:  # the same views
            config.seeds.inference = run.seeds.inference
        for key, value in nested.items():  # prompt/grid=... is inside a group that was taken
            OmegaConf.update(config, key.replace("/", "."), value, merge=False)
        if "model.path" in groups and config.model.adapter is None:
            raise ConfigError(
                [f"from_run={folder} trained all weights, which are in its model/: leave model.path=... out"]
            )
        for override in typed:
            key = str(override.key_or_group)
            if key.split(".")[0] in (*BROUGHT, "seeds") and "." in key:
                OmegaConf.update(config, key, override.value())
    if "data" not in groups and (unknown := config.data.sources.keys() - run.data.sources.keys()):
        raise ConfigError(
            [
                f"data.sources.{name} is not a source of from_run={folder}: {', '.join(run.data.sources)}"
                for name in sorted(unknown)
            ]
        )


def _experiments(typed: Sequence[Override]) -> tuple[set[str], DictConfig]:
    """The groups that the experiments named on the command line choose, and the values that they set."""
    groups: set[str] = set()
    values = OmegaConf.create()
    for override in typed:
        if override.key_or_group == "experiment" and isinstance(override.value(), str):
            _add_experiment(str(override.value()), groups, values)
    return groups, values


def _add_experiment(name: str, groups: set[str], values: DictConfig) -> None:
    file = option_file("experiment", name)
    if file is None:  # in a folder of hydra.searchpath
        raise ConfigError([f"experiment={name} with from_run: name its folder by --config-dir <folder>"])
    said: Any = OmegaConf.load(file)
    for entry in said.pop("defaults", []):
        if isinstance(entry, DictConfig):
            groups |= {str(key).split("/")[-1] for key in entry}
        elif entry != "_self_":  # another experiment, which this one changes
            _add_experiment(entry, groups, values)
    values.merge_with(said)


def _take_weights(config: DictConfig, folder: RunFolder) -> None:
    """Take the adapter that the run has trained, or its whole model."""
    if (folder / "adapter").exists():
        config.model.adapter = str((folder / "adapter").absolute())
        ancestry = read_ancestry(folder / "adapter")
        if ancestry is not None and config.model.dtype == "auto":  # another machine might choose another
            config.model.dtype = ancestry.dtype
    elif (folder / "model").exists():
        config.model.path, config.model.weights = str((folder / "model").absolute()), "pretrained"
    elif (folder / "metrics.json").exists():
        source = folder.read_config().from_run
        raise ConfigError(
            [f"from_run={folder} is an evaluation: name the run that it evaluated: from_run={source}"]
        )
    else:
        state = folder.state.name
        raise ConfigError([f"from_run={folder} has no trained weights yet ({state}): finish that run first"])
