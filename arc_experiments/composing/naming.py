"""Names of run folders: which part of a composition makes a run, and the hash of that part."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from arc_experiments.config.job_kinds import JOBS
from arc_experiments.config.schema import Job

# Where and how a run is computed, or what somebody calls it, does not make it another run; some jobs hash
# some of these (JobKind.hashed).
NOT_PART_OF_THE_RUN = (
    "name", "note", "hardware", "launch", "tracking", "resume", "optim.stop_after", "benchmark",
    "inspect", "audit", "adapt", "halving", "programs.num_processes",
)  # fmt: skip
SLUG_LENGTH = 60


def key_of(override: str) -> str:
    """`+a.b=1` -> `a.b`."""
    return override.lstrip("+~").partition("=")[0]


def composition(config: DictConfig) -> dict[str, Any]:
    """Return the resolved values that make this run what it is, as nested dicts."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    values["augmentation_order"] = list(values["augmentation"])  # a dict does not compare by order
    hashed = JOBS[values["job"]["name"]].hashed if values["job"]["name"] in JOBS else ()
    for key in NOT_PART_OF_THE_RUN:
        if key in hashed:
            continue
        *parents, last = key.split(".")
        place: Any = values
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    return values  # type: ignore[return-value]


def composition_hash(config: DictConfig) -> str:
    """Return eight hex digits of the SHA-256 of `composition`."""
    text = json.dumps(composition(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def folder_name(config: DictConfig) -> str:
    """Name a run `<data>-<model>-<hash of the composition>`, with characters that an override can hold."""
    job = "" if config.job.name == Job.name else f"{config.job.name}-"
    what = config.model.name if config.submission is None else Path(config.submission).stem
    return f"{job}{slug(config.data.name)}-{slug(what)}-{composition_hash(config)}"


def job_name(overrides: list[str]) -> str:
    """Name a job `rank_16-seed_1` for ["seed=1", "model.lora.rank=16"]; keys are shortened if distinct."""
    pairs = sorted(override.lstrip("+~").partition("=")[::2] for override in overrides)
    short = [key.rpartition(".")[2] for key, _ in pairs]
    keys = [key if short.count(last) > 1 else last for (key, _), last in zip(pairs, short, strict=True)]
    return (
        "-".join(f"{slug(key)}_{slug(value)}" for key, (_, value) in zip(keys, pairs, strict=True)) or "job"
    )


def slug(text: object) -> str:
    """Replace characters that a shell or an override could misread; a long text is cut and gets a hash."""
    plain = re.sub(r"[^A-Za-z0-9.+]+", "_", str(text)).strip("_")
    if len(plain) <= SLUG_LENGTH:
        return plain
    return f"{plain[: SLUG_LENGTH - 7]}_{hashlib.sha256(plain.encode()).hexdigest()[:6]}"


def differences(old: DictConfig, new: DictConfig) -> list[str]:
    """List `key: old -> new` for each value in which two compositions differ."""
    flat_old, flat_new = flatten(composition(old)), flatten(composition(new))
    keys = sorted(flat_old.keys() | flat_new.keys())
    missing = "(absent)"
    return [
        f"{key}: {flat_old.get(key, missing)} -> {flat_new.get(key, missing)}"
        for key in keys
        if flat_old.get(key, missing) != flat_new.get(key, missing)
    ]


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn {"a": {"b": 1}} into {"a.b": 1}; empty dictionaries stay."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
