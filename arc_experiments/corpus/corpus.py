"""The tasks of a run: what its data section describes, split into those that train and those that are held out.

data (one source, or several with weights) ──> parts that train, validation tasks, one partition over all
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from arc_experiments.config.check import build
from arc_experiments.config.schema import Data, Source
from arc_experiments.config.schema import Prompt as PromptOptions
from arc_experiments.corpus.leaks import Finder
from arc_experiments.corpus.matches import Comparison
from arc_experiments.corpus.partitions import (
    Partition,
    all_held_out,
    from_file,
    k_fold,
    leave_out,
    narrowed,
    not_split,
    official,
    origin,
    seeded,
    stratified,
)
from arc_experiments.tasks import (
    BadTasks,
    FixedTasks,
    Joined,
    Reader,
    Row,
    Task,
    TaskSet,
    TokenizerReader,
    TrainingSource,
)
from arc_experiments.tasks.rngs import rng_for

MAX_HASHED = 20_000  # pairs of a source whose tasks draw theirs
MAX_MADE = 8  # tasks of a source that makes its pairs, which takes milliseconds each


@dataclass(frozen=True, kw_only=True)
class Share:
    """One source's part in the training.

    Attributes:
        augmentation: names of the composition's transforms that it takes; None for all of them.
        prompt: how it is written in training; None for the run's prompt.
    """

    name: str
    source: TrainingSource
    task_ids: tuple[str, ...]
    weight: float
    augmentation: tuple[str, ...] | None
    prompt: PromptOptions | None


class Corpus:
    """The tasks of a composition, read when they are needed.

    Args:
        partition_seed: which tasks a partition holds out.
        tokenizer: loads the model's tokenizer, for a source that asks for it.
    """

    def __init__(
        self, data: Data, *, partition_seed: int, tokenizer: Callable[[], Any] = lambda: None
    ) -> None:
        self._sources = {
            name: _Source(entry, partition_seed, entry.limit or data.limit, tokenizer)
            for name, entry in (data.sources or {data.name: data}).items()
        }
        self._weights = data.weights or dict.fromkeys(self._sources, 1.0)
        self._drops_leaks = data.leaks == "drop"

    @cached_property
    def partition(self) -> Partition:
        """Which tasks train and which are held out; what one source holds out trains in none."""
        train = dict.fromkeys(task_id for ids in self._train_ids.values() for task_id in ids)
        return Partition(train=tuple(train), validation=tuple(self.source_of))

    @cached_property
    def shares(self) -> list[Share]:
        """The sources with those of their tasks that train."""
        return self._shares(self._train_ids)

    @cached_property
    def leaks(self) -> Comparison:
        """The held-out tasks that stand in those that train, under whatever ids, before any of these is dropped.

        What is made of a held-out task's demonstrations by design does not count.
        """
        return Finder(self.validation_tasks).compare(self._shares(self._candidates))

    @cached_property
    def dropped(self) -> dict[str, list[str]]:
        """With `data.leaks=drop`: the tasks left out of training, each with the held-out tasks that stand in it."""
        holds: dict[str, list[str]] = {}
        for leak in self.leaks.leaks if self._drops_leaks else ():
            for task_id in leak.found_in:
                holds.setdefault(task_id, []).append(leak.task.id)
        return holds

    def _shares(self, ids: Mapping[str, tuple[str, ...]]) -> list[Share]:
        return [
            Share(
                name=name,
                source=source.training,
                task_ids=ids[name],
                weight=self._weights.get(name, 0.0),
                augmentation=source.augmentation,
                prompt=source.prompt,
            )
            for name, source in self._sources.items()
            if ids[name]
        ]

    def check_trains(self) -> None:
        """Raises ValueError where no task of a source is left to train on."""
        for name, ids in self._train_ids.items():
            if not ids and self._sources[name].trains:
                place = f"data.sources.{name}" if len(self._train_ids) > 1 else "data"
                raise ValueError(
                    f"{place}: every task is held out, left out or not there, and none is left to train on"
                )

    @cached_property
    def _train_ids(self) -> dict[str, tuple[str, ...]]:
        """By source, the tasks that train."""
        return {
            name: tuple(task_id for task_id in ids if task_id not in self.dropped)
            for name, ids in self._candidates.items()
        }

    @cached_property
    def _candidates(self) -> dict[str, tuple[str, ...]]:
        """By source, the tasks that train unless they are dropped: what one source holds out trains in none, and its
        demonstrations only where that source asks for it.
        """
        return {
            name: tuple(
                task_id
                for task_id in source.train_ids
                if origin(task_id) not in self.source_of
                or (task_id not in self.source_of and task_id in source.of_validation)
            )
            for name, source in self._sources.items()
        }

    @cached_property
    def validation_tasks(self) -> TaskSet:
        """The held-out tasks with their solutions, in the partition's order."""
        return TaskSet(self._sources[name].pool[task_id] for task_id, name in self.source_of.items())

    @property
    def arc_tasks(self) -> list[Task]:
        """The held-out tasks that a model can be asked about: all but ready rows."""
        return [task for task in self.validation_tasks if not isinstance(task, Row)]

    def examples(self, limit: int) -> list[Task]:
        """Up to so many held-out ARC tasks whose first answer is known, if need be made of demonstrations."""
        known = [task for task in self.arc_tasks if task.test[0].output is not None]
        return known[:limit] or list(leave_out(self.arc_tasks[:limit], 1))

    @property
    def can_validate(self) -> bool:
        """Whether a validation loss can be measured: some test output is known, or a ready row is held out."""
        return any(
            isinstance(task, Row) or any(pair.output is not None for pair in task.test)
            for task in self.validation_tasks
        )

    @cached_property
    def source_of(self) -> dict[str, str]:
        """The source that each validation task is held out by (the first, if several do).

        Raises:
            ValueError: there is none.
        """
        found: dict[str, str] = {}
        for name, source in self._sources.items():
            for task_id in source.split.validation:
                found.setdefault(task_id, name)
        if not found:
            raise ValueError(
                "data: no source holds tasks out, so nothing can be validated: data.partition=seeded (or data.tasks names "
                "none that is held out)"
            )
        self._note_namesakes(found)
        return found

    def _note_namesakes(self, held_out: Mapping[str, str]) -> None:
        """Note tasks that do not train for the sake of another task that bears the same id in another source."""
        for name, source in self._sources.items() if len(self._sources) > 1 else ():
            others = [
                task_id
                for task_id, holder in held_out.items()
                if holder != name
                and task_id in source.tasks.fixed
                and _digest(source.tasks.fixed[task_id]) != _digest(self._sources[holder].pool[task_id])
            ]
            if others:
                source.bad_tasks.notes.append(
                    f"{len(others)} tasks of {name} bear ids that another source holds out, and differ from the tasks "
                    f"there: {', '.join(others[:5])}. They neither train nor validate; other ids would let them"
                )

    @cached_property
    def rows(self) -> dict[str, Row]:
        """By id, those of the tasks, training or held out, that are ready rows."""
        tasks = (task for share in self.shares for task in _fixed(share.source, share.task_ids))
        everything = [*tasks, *self.validation_tasks]
        return {task.id: task for task in everything if isinstance(task, Row)}

    @property
    def hash(self) -> str:
        """A digest of the tasks that train and validate. Of tasks that draw their pairs it holds the first ones and a
        visit of each, of generators a visit of a few.
        """
        sets = [_fixed(share.source, share.task_ids) for share in self.shares]
        sets += [_sampled(share.source, share.task_ids) for share in self.shares]
        return "-".join([*(tasks.hash() for tasks in sets if len(tasks)), self.validation_tasks.hash()])

    @property
    def skipped(self) -> dict[str, list[str]]:
        """By source, the tasks that could not be read and were left out, a message each."""
        return {name: source.bad_tasks.skipped for name, source in self._sources.items()}

    @property
    def notes(self) -> dict[str, list[str]]:
        """By source, what else its reading has found."""
        return {name: source.bad_tasks.notes for name, source in self._sources.items()}


class _Source:
    """One source: its tasks, the pool that its validation tasks come from, and its own split."""

    def __init__(
        self, data: Source, partition_seed: int, limit: int | None, tokenizer: Callable[[], Any]
    ) -> None:
        self._data, self._seed, self._limit, self._tokenizer = data, partition_seed, limit, tokenizer
        self.augmentation = None if data.augmentation is None else tuple(data.augmentation)
        self.prompt = data.prompt
        self.trains = data.trains
        self.bad_tasks = BadTasks(skip=data.on_bad_task == "skip")

    @cached_property
    def tasks(self) -> TrainingSource:
        return self._read(self._data.source)

    @cached_property
    def pool(self) -> TaskSet:
        """The tasks that can be held out."""
        source = self._data.validation_source
        pool = (self.tasks if source is None else self._read(source)).fixed
        if not len(pool):
            raise ValueError(
                f"data={self._data.name}: no task of it stays the same from visit to visit, so none can be held out: "
                "name others by data.validation_source"
            )
        return pool

    def _read(self, options: dict[str, Any]) -> TrainingSource:
        reader: Reader | TokenizerReader = build(options)
        if isinstance(reader, TokenizerReader):
            return reader.read_with(self._tokenizer, self.bad_tasks)
        return reader.read(self.bad_tasks)

    @cached_property
    def split(self) -> Partition:
        """Its own tasks on two sides, before any is made of their demonstrations."""
        data = self._data
        split = narrowed(
            self._whole_split(), seed=self._seed, tasks=data.tasks, fraction=data.fraction, limit=self._limit
        )
        if data.train_tasks == "whole":
            _check_solved(_fixed(self.tasks, split.train))
        return split

    def _whole_split(self) -> Partition:
        data, ids = self._data, self.tasks.ids
        if data.partition == "none":
            return not_split(ids)
        if data.partition == "all":
            return all_held_out(self.pool)
        if data.partition == "official":
            return official(self.pool, ids)
        if data.partition == "file":
            assert data.partition_file is not None
            return from_file(self.pool, ids, data.partition_file)
        if data.partition == "k_fold":
            return k_fold(self.pool, ids, self._seed, data.fold, data.num_folds)
        draw = stratified if data.partition == "stratified" else seeded
        return draw(self.pool, ids, self._seed, data.num_validation)

    @cached_property
    def training(self) -> TrainingSource:
        """Its tasks, and after them those made of demonstrations."""
        made = self._made_of_demonstrations
        return Joined((self.tasks, FixedTasks(made))) if len(made) else self.tasks

    @cached_property
    def train_ids(self) -> tuple[str, ...]:
        whole = self.split.train if self._data.train_tasks == "whole" else ()
        return (*whole, *self._made_of_demonstrations.ids)

    @cached_property
    def _made_of_demonstrations(self) -> TaskSet:
        of_train: Iterable[Task] = ()
        if self._data.train_tasks == "leave_out":
            of_train = _fixed(self.tasks, self.split.train)
        return TaskSet([*leave_out(of_train, self._data.leave_out), *self._left_out_of_validation])

    @cached_property
    def _left_out_of_validation(self) -> TaskSet:
        wanted = self._data.validation_tasks == "leave_out"
        return leave_out(self.pool.select(self.split.validation) if wanted else (), self._data.leave_out)

    @cached_property
    def of_validation(self) -> frozenset[str]:
        """Ids of the tasks made, as is asked for, of the demonstrations of those that it holds out."""
        return frozenset(self._left_out_of_validation.ids)


def _fixed(source: TrainingSource, ids: Iterable[str]) -> TaskSet:
    """Those of a source's tasks that are the same at each visit."""
    fixed = source.fixed
    return fixed.select(task_id for task_id in ids if task_id in fixed)


def _sampled(source: TrainingSource, ids: Sequence[str]) -> TaskSet:
    """Of each of a source's tasks that draw their pairs a visit, and before it the first pairs that it keeps."""
    position = {task_id: number for number, task_id in enumerate(source.ids)}
    limit = max(1, MAX_HASHED // max(1, len(ids)))
    tasks, num_made = [], 0
    for task_id in ids:
        if task_id in source.fixed:
            continue
        kept = tuple(islice(source.pairs(position[task_id]), limit))
        num_made += not kept
        if kept or num_made <= MAX_MADE:
            visit = source.draw(position[task_id], rng_for("hash", 0, task_id))
            tasks.append(Task(id=task_id, train=(*kept, *visit.train), test=visit.test))
    return TaskSet(tasks)


def _digest(task: Task) -> str:
    return TaskSet([task]).hash()


def _check_solved(tasks: TaskSet) -> None:
    unsolved = [task.id for task in tasks if any(pair.output is None for pair in task.test)]
    if unsolved:
        raise ValueError(
            f"data: {len(unsolved)} tasks have test inputs without outputs, which cannot be trained on: "
            f"{', '.join(unsolved[:10])}. data.train_tasks=leave_out trains on their demonstrations alone"
        )
