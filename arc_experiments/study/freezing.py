"""From planned runs to frozen folders: compose all, report every mistake, then write."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.config.check import ConfigError
from arc_experiments.runs.folder import RunFolder
from arc_experiments.study.definition import references
from arc_experiments.study.plan import PlannedRun

Compositions = Mapping[str, tuple[list[str], DictConfig]]
"""By the folder's name, the overrides and what they compose to."""


def compose_runs(runs: Sequence[PlannedRun], metric: str, home: Path) -> Compositions:
    """Compose and check runs that start from finished ones.

    Raises:
        ConfigError: the mistakes of all, each with the arm that has it.
    """
    found: dict[str, tuple[list[str], DictConfig]] = {}
    mistakes: dict[str, None] = {}
    chosen: dict[str, tuple[str, ...]] = {}
    for run in runs:
        if run.choices and run.part not in chosen:
            from arc_experiments.study.tuning import best  # imports pandas

            chosen[run.part] = best(run.choices, metric, home).overrides
        overrides = [*run.resolved(home), *chosen.get(run.part, ())]
        try:
            found[run.name] = overrides, compose_config(overrides)
        except ConfigError as error:
            mistakes |= dict.fromkeys(f"{run.part}: {line}" for line in error.mistakes)
    if mistakes:
        raise ConfigError(list(mistakes))
    return found


def check_later(later: Sequence[Sequence[PlannedRun]]) -> None:
    """Check what can be checked of runs before those that they start from: all but their references.

    Raises:
        ConfigError: as `compose_runs`.
    """
    firsts: dict[str, PlannedRun] = {}
    for run in (run for stage in later for run in stage):
        kept = tuple(override for override in run.overrides if not references([override]))
        firsts.setdefault(run.part, replace(run, overrides=kept, choices=()))
    compose_runs(list(firsts.values()), "", Path())


def freeze_runs(compositions: Compositions, home: Path) -> list[RunFolder]:
    """Write or find the folder of each run.

    Raises:
        FolderError: a folder holds another composition.
    """
    folders = []
    for name, (overrides, config) in compositions.items():
        if config.tracking.group is None:
            config.tracking.group = home.name
        folders.append(freeze(config, home / name, overrides))
    return folders
