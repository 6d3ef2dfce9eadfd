"""What well-known public weights were trained on, from the package's list (assets/known_weights.yaml)."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from arc_experiments.config.paths import PREFIX, local_path
from arc_experiments.corpus.matches import key, pairs_of
from arc_experiments.models.ancestry import Ancestry
from arc_experiments.sources.arckit_versions import Arckit
from arc_experiments.tasks import BadTasks, Task

LIST = f"{PREFIX}known_weights.yaml"


def known_ancestry(path: str) -> Ancestry | None:
    """Return what the weights at a hub id or in a local copy were trained on; None for all others.

    A part of the path must be the name of their repository, in any case: `sorokin/qwen3_4b_grids15_sft139`,
    `/kaggle/input/models/sorokin/qwen3_4b_grids15_sft139/transformers/bfloat16/1`. Neither their prompt nor
    their dtype is known.
    """
    known = _known()
    name = next((part for part in map(str.lower, Path(path).parts) if part in known), None)
    return None if name is None else _ancestry(path, known[name])


def _ancestry(path: str, known: Mapping[str, Any]) -> Ancestry:
    whole = list(_tasks(known.get("tasks", {})))
    generated = sorted({task.id for task in _tasks(known.get("generated", {}))})
    return Ancestry(
        base=path,
        dtype="unknown",
        prompt={},
        trained_on=tuple(sorted({*(task.id for task in whole), *generated})),
        pairs=frozenset(key(pair) for task in whole for pair in pairs_of(task)),
        by_id=tuple(generated),
    )


def _tasks(splits_of: Mapping[str, Sequence[str]]) -> Iterator[Task]:
    for version, splits in splits_of.items():
        tasks = Arckit(version=version).read(BadTasks()).fixed
        yield from (task for task in tasks if task.split in splits)


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    found: Any = OmegaConf.to_container(OmegaConf.load(local_path(LIST)))
    return {name.lower(): each for name, each in found.items()}
