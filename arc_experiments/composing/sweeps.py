"""A sweep's jobs composed fast: Hydra reads `conf/` anew for each of them, which takes half a second.

Jobs that choose the same options and differ in values alone share one composition: each gets a copy of it with its own
values. What Hydra makes of a job is the same, key by key.
"""

import pickle
from collections.abc import Callable
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

Compose = Callable[[ConfigLoaderImpl, DictConfig, list[str]], DictConfig]
hydras_own: Compose = ConfigLoaderImpl.load_sweep_config


def share_compositions() -> None:
    """Let the jobs of this process's sweep share compositions. Idempotent."""
    shared: dict[tuple[str, ...], bytes] = {}  # pickled: read back four times as fast as copied

    def load(loader: ConfigLoaderImpl, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(sweep_overrides)
        values = [override for override in parsed if _is_value(override, loader)]
        choices = tuple(str(override.input_line) for override in parsed if override not in values)
        if choices not in shared:
            shared[choices] = pickle.dumps(hydras_own(loader, master_config, list(choices)))
        config: DictConfig = pickle.loads(shared[choices])
        OmegaConf.set_readonly(config.hydra, False)
        loader._apply_overrides_to_config(values, config)
        _note(config, [override for override in parsed if not override.is_hydra_override()])
        return config

    patched: Any = load
    ConfigLoaderImpl.load_sweep_config = patched  # type: ignore[method-assign]


def _is_value(override: Override, loader: ConfigLoaderImpl) -> bool:
    """Whether it changes a value, not what is composed."""
    return (
        override.type == OverrideType.CHANGE
        and not override.is_hydra_override()
        and override.package is None
        and not loader.repository.group_exists(override.key_or_group)
    )


def _note(config: DictConfig, overrides: list[Override]) -> None:
    """What Hydra notes of a job's overrides."""
    config.hydra.overrides.task = [override.input_line for override in overrides]
    rules = config.hydra.job.config.override_dirname
    config.hydra.job.override_dirname = get_overrides_dirname(
        overrides=overrides,
        kv_sep=rules.kv_sep,
        item_sep=rules.item_sep,
        exclude_keys=rules.exclude_keys,
    )
