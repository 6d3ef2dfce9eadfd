"""Which tasks train and which are held out: by task id, never overlapping, the same for the same seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_experiments.tasks import TaskSet


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Ids in order. `train` and `validation` share none."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        shared = set(self.train) & set(self.validation)
        if shared:
            raise ValueError(f"these tasks would train and validate: {', '.join(sorted(shared)[:10])}")

    @property
    def hash(self) -> str:
        text = "\n".join([*self.train, "|", *self.validation])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def limited(self, limit: int | None) -> "Partition":
        """At most the first `limit` tasks of each side."""
        return Partition(train=self.train[:limit], validation=self.validation[:limit])


def seeded(pool: TaskSet, train_ids: Sequence[str], seed: int, num_validation: float) -> Partition:
    """Hold out tasks drawn from the pool's evaluation tasks (from all of them where it has no such split).

    The draw is the one in use for ARC-AGI-1 since arc24: numpy's legacy `RandomState(seed).choice` over the
    sorted ids, so that seed 7 with 100 tasks gives the published list in the published order.

    Args:
        num_validation: a number of tasks, or a share of the pool if below 1.
    """
    ids = sorted(task.id for task in pool if task.split == "evaluation") or sorted(pool.ids)
    count = int(num_validation) if num_validation >= 1 else max(1, round(num_validation * len(ids)))
    if count > len(ids):
        raise ValueError(f"data.num_validation={count} is more than the {len(ids)} tasks to draw from")
    drawn = np.random.RandomState(seed).choice(ids, count, replace=False)
    return _rest_trains(train_ids, tuple(map(str, drawn)))


def official(pool: TaskSet, train_ids: Sequence[str]) -> Partition:
    """Train on the training tasks, validate on all evaluation tasks, as the source splits them."""
    validation = tuple(task.id for task in pool if task.split == "evaluation")
    if not validation:
        raise ValueError("data.partition=official needs a source with an `evaluation` split; use seeded")
    return _rest_trains(train_ids, validation)


def not_split(train_ids: Sequence[str]) -> Partition:
    """All tasks train: for a source of a mixture in which others validate."""
    return Partition(train=tuple(train_ids), validation=())


def _rest_trains(train_ids: Sequence[str], validation: tuple[str, ...]) -> Partition:
    held_out = set(validation)
    train = tuple(task_id for task_id in train_ids if task_id not in held_out)
    if not train:
        raise ValueError("every task is held out and none is left to train on: lower data.num_validation")
    return Partition(train=train, validation=validation)
