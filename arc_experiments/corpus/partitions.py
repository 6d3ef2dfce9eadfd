"""Split tasks into training and held-out tasks: by task id, never overlapping, the same for the same seed.

One function per way of splitting, each (pool, training ids, ...) -> Partition; `narrowed` then takes a part
of it. The pool contains the tasks that can be held out: the source's evaluation tasks, or all if it has no
such split.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arc_experiments.config.plurals import plural
from arc_experiments.tasks import Pair, Task, TaskSet


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The ids of two disjoint sets of tasks, in order."""

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


def seeded(pool: TaskSet, train_ids: Sequence[str], seed: int, num_validation: float) -> Partition:
    """Hold out tasks drawn at random.

    The draw is the same as arc24's for ARC-AGI-1: numpy's legacy `RandomState(seed).choice` over the sorted
    ids, so that seed 7 with 100 tasks yields the published list in the published order.

    Args:
        num_validation: a number of tasks, or a share of the pool if below 1.
    """
    ids = _candidates(pool)
    drawn = np.random.RandomState(seed).choice(ids, _count(num_validation, len(ids)), replace=False)
    return _rest_trains(train_ids, tuple(map(str, drawn)))


def stratified(pool: TaskSet, train_ids: Sequence[str], seed: int, num_validation: float) -> Partition:
    """Hold out tasks of all sizes: one drawn from each of `num_validation` strata of similar size.

    The size of a task is the number of cells of its largest grid that a solver sees.
    """
    if any(not task.test for task in pool):
        raise ValueError(
            "data.partition=stratified needs the sizes of grids, and ready rows have none: use seeded"
        )
    ids = sorted(_candidates(pool), key=lambda task_id: (_cells(pool[task_id]), task_id))
    rng = np.random.RandomState(seed)
    strata = np.array_split(np.array(ids), _count(num_validation, len(ids)))
    return _rest_trains(train_ids, tuple(str(rng.choice(stratum)) for stratum in strata))


def k_fold(pool: TaskSet, train_ids: Sequence[str], seed: int, fold: int, num_folds: int) -> Partition:
    """Hold out fold number `fold` of `num_folds` disjoint folds that together cover the pool."""
    ids = _candidates(pool)
    if num_folds > len(ids):
        raise ValueError(
            f"data.num_folds={num_folds} is more than the {plural(len(ids), 'task')} to draw from"
        )
    shuffled = np.random.RandomState(seed).permutation(ids)
    return _rest_trains(train_ids, tuple(map(str, np.array_split(shuffled, num_folds)[fold])))


def official(pool: TaskSet, train_ids: Sequence[str]) -> Partition:
    """Train on the training tasks and validate on all evaluation tasks, as the source splits them.

    Without evaluation tasks, validate on the split `test`, whose answers Kaggle hides, or on all of a
    validation source that has no splits of these names.
    """
    for split in ("evaluation", "test"):
        validation = tuple(task.id for task in pool if task.split == split)
        if validation:
            return _rest_trains(train_ids, validation)
    if not set(pool.ids) & set(train_ids) and all(task.split != "training" for task in pool):
        return _rest_trains(train_ids, pool.ids)
    raise ValueError(
        "data.partition=official needs a source with an `evaluation` or a `test` split; use seeded"
    )


def from_file(pool: TaskSet, train_ids: Sequence[str], path: str) -> Partition:
    """Read the ids from a JSON file {"train": [...], "validation": [...]}, such as a run's `partition.json`.

    Without `train`, every other task trains.

    Raises:
        ValueError: the file does not have that form, or names unknown tasks.
    """
    where = f"data.partition_file={path}"
    try:
        sides = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    if not isinstance(sides, dict) or not sides.get("validation"):
        raise ValueError(f'{where} does not have the form {{"validation": [ids], "train": [ids]}}')
    known = {"validation": set(pool.ids), "train": set(train_ids)}
    for side, there in known.items():
        ids = sides.get(side, [])
        if not isinstance(ids, list) or not all(isinstance(task_id, str) for task_id in ids):
            raise ValueError(f"{where}: {side} is not a list of task ids")
        unknown = [task_id for task_id in ids if task_id not in there]
        if side == "train":  # a run's file also names tasks made of demonstrations, see `leave_out`
            unknown = [task_id for task_id in unknown if not is_left_out(task_id)]
        if unknown:
            raise ValueError(f"{where}: {side} names unknown tasks: {', '.join(unknown[:10])}")
    validation = tuple(sides["validation"])
    if "train" not in sides:
        return _rest_trains(train_ids, validation)
    # Each task made of demonstrations becomes its origin; `data.validation_tasks` makes those of held-out
    # tasks again.
    wholes = (task_id if task_id in known["train"] else origin(task_id) for task_id in sides["train"])
    made = {origin(task_id) for task_id in sides["train"] if task_id not in known["train"]}
    train = dict.fromkeys(
        task_id
        for task_id in wholes
        if task_id in known["train"] and not (task_id in made and task_id in validation)
    )
    return Partition(train=tuple(train), validation=validation)


def all_held_out(pool: TaskSet) -> Partition:
    """Hold out the whole pool and train on nothing, for tasks to evaluate on."""
    return Partition(train=(), validation=pool.ids)


def not_split(train_ids: Sequence[str]) -> Partition:
    """Train on all tasks, for a source of a mixture whose other sources validate."""
    return Partition(train=tuple(train_ids), validation=())


def narrowed(
    partition: Partition,
    *,
    seed: int,
    tasks: Collection[str] | None = None,
    fraction: float = 1.0,
    limit: int | None = None,
) -> Partition:
    """Return a part of a partition, with sides and order unchanged.

    Args:
        tasks: ids of the tasks to keep.
        fraction: share of the training tasks to keep; a smaller share is a subset of a larger one of the same
            seed.
        limit: then keeps the first tasks of each side.

    Raises:
        ValueError: `tasks` names a task on neither side.
    """
    train, validation = partition.train, partition.validation
    if tasks is not None:
        unknown = set(tasks) - {*train, *validation}
        if unknown:
            raise ValueError(
                "data.tasks names tasks that neither train nor validate here: "
                f"{', '.join(sorted(unknown)[:10])}"
            )
        train = tuple(task_id for task_id in train if task_id in tasks)
        validation = tuple(task_id for task_id in validation if task_id in tasks)
    if fraction < 1:
        ranked = sorted(train, key=lambda task_id: hashlib.sha256(f"{seed} {task_id}".encode()).digest())
        kept = set(ranked[: max(1, round(fraction * len(ranked)))])
        train = tuple(task_id for task_id in train if task_id in kept)
    return Partition(train=train[:limit], validation=validation[:limit])


def spread(source_of: Mapping[str, str], limit: int) -> tuple[str, ...]:
    """Choose `limit` of the tasks, in their order: the first of each source, then each source's share.

    A smaller number chooses a part of what a larger one does, and of a single source its first tasks.

    Args:
        source_of: the source of each task.
    """
    sizes, seen = Counter(source_of.values()), Counter[str]()
    done: dict[str, float] = {}  # the part of its source that comes before each task
    for task_id, source in source_of.items():
        done[task_id] = seen[source] / sizes[source]
        seen[source] += 1
    chosen = set(sorted(done, key=done.__getitem__)[:limit])
    return tuple(task_id for task_id in source_of if task_id in chosen)


# Tasks made of the demonstrations of others

LEFT_OUT = "_leave_"


def leave_out(tasks: Iterable[Task], count: int) -> TaskSet:
    """Make tasks of the tasks' demonstrations: the first `count` become tests, the rest stay demonstrations.

    `<id>_leave_<count>` contains neither a test pair of task <id> nor its program, so it may train while <id>
    validates ("n-1 sets", arc24). Tasks with too few demonstrations are skipped.
    """
    return TaskSet(
        Task(
            id=f"{task.id}{LEFT_OUT}{count}",
            train=task.train[count:],
            test=task.train[:count],
            split=task.split,
        )
        for task in tasks
        if len(task.train) > count
    )


def is_left_out(task_id: str) -> bool:
    """Return whether this is the id of a task made by `leave_out`."""
    return task_id.rpartition(LEFT_OUT)[2].isdigit() and LEFT_OUT in task_id


def origin(task_id: str) -> str:
    """Return the id of the task that `leave_out` made this one of, or its own id."""
    return task_id.rpartition(LEFT_OUT)[0] if is_left_out(task_id) else task_id


def _candidates(pool: TaskSet) -> list[str]:
    return sorted(task.id for task in pool if task.split == "evaluation") or sorted(pool.ids)


def _count(num_validation: float, size: int) -> int:
    count = int(num_validation) if num_validation >= 1 else max(1, round(num_validation * size))
    if count > size:
        raise ValueError(f"data.num_validation={count} is more than the {plural(size, 'task')} to draw from")
    return count


def _cells(task: Task) -> int:
    pairs: tuple[Pair, ...] = task.without_solutions().train + task.without_solutions().test
    return max(grid.size for pair in pairs for grid in (pair.input, pair.output) if grid is not None)


def _rest_trains(train_ids: Sequence[str], validation: tuple[str, ...]) -> Partition:
    held_out = set(validation)
    train = tuple(task_id for task_id in train_ids if task_id not in held_out)
    return Partition(train=train, validation=validation)
