"""Read the tasks that a data section describes and split them into training and held-out tasks.

data (one source, or several with weights) ──> shares that train, validation tasks, one partition over all
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from arc_experiments.config.check import build
from arc_experiments.config.plurals import plural
from arc_experiments.config.schema import Data, PromptOptions, Source
from arc_experiments.corpus.leaks import Finder
from arc_experiments.corpus.matches import LeakReport
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
    spread,
    stratified,
)
from arc_experiments.tasks import (
    BadTasks,
    FixedTasks,
    Joined,
    ProcessorReader,
    Reader,
    Row,
    Task,
    TaskSet,
    TrainingSource,
)
from arc_experiments.tasks.rngs import rng_for

MAX_HASHED = 20_000  # most stored pairs of a source that enter its hash
MAX_MADE = 8  # most tasks of a source that are generated for its hash, which takes milliseconds each


@dataclass(frozen=True, kw_only=True)
class Share:
    """One source's share of the training.

    Attributes:
        augmentation: names of the composition's transforms that apply to it; None for all.
        prompt: its prompt in training; None for the run's.
    """

    name: str
    source: TrainingSource
    task_ids: tuple[str, ...]
    weight: float
    augmentation: tuple[str, ...] | None
    prompt: PromptOptions | None

    @cached_property
    def languages(self) -> Counter[str | None]:
        """Count its training tasks by the language of their programs; None: they have none."""
        return Counter(self.source.language(number) for number in self.numbers)

    @cached_property
    def numbers(self) -> list[int]:
        """Return the positions of its training tasks in the source."""
        position = {task_id: number for number, task_id in enumerate(self.source.ids)}
        return [position[task_id] for task_id in self.task_ids]

    def with_programs(self, limit: int) -> list[Task]:
        """Draw up to `limit` training tasks that have a program, from all over their list."""
        numbers = [number for number in self.numbers if self.source.language(number) is not None]
        chosen = numbers[:: len(numbers) // limit + 1]
        return [self.source.draw(number, rng_for("programs", 0, number)) for number in chosen]


class Corpus:
    """The tasks of a composition, read on demand.

    Args:
        partition_seed: determines which tasks a partition holds out.
        processor: loads the model's processor or tokenizer, for a source that needs it.
        find_wrong: returns what is wrong with programs of a share's tasks, which then do not train, by task.
    """

    def __init__(
        self,
        data: Data,
        *,
        partition_seed: int,
        processor: Callable[[], Any] = lambda: None,
        find_wrong: Callable[[Share], Mapping[str, str]] = lambda share: {},
    ) -> None:
        self._find_wrong = find_wrong
        self._sources = {
            name: _Source(entry, partition_seed, entry.limit or data.limit, processor)
            for name, entry in (data.sources or {data.name: data}).items()
        }
        self._weights = data.weights or dict.fromkeys(self._sources, 1.0)
        self._drops_leaks = data.leaks == "drop"

    @cached_property
    def partition(self) -> Partition:
        """Return which tasks train and which are held out; a task held out by one source trains in none."""
        train = dict.fromkeys(task_id for ids in self._train_ids.values() for task_id in ids)
        return Partition(train=tuple(train), validation=tuple(self.source_of))

    @cached_property
    def shares(self) -> list[Share]:
        """Return the sources with their training tasks."""
        return self._shares(self._train_ids)

    @cached_property
    def leaks(self) -> LeakReport:
        """Find the held-out tasks among the training tasks, under any id, before any of these is dropped.

        Tasks deliberately made of a held-out task's demonstrations do not count.
        """
        return Finder(self.validation_tasks).compare(self._shares(self._candidates))

    @cached_property
    def dropped(self) -> dict[str, list[str]]:
        """Return the tasks that `data.leaks=drop` drops, each with the held-out tasks that it contains."""
        holds: dict[str, list[str]] = {}
        for leak in self.leaks.leaks if self._drops_leaks else ():
            for task_id in leak.found_in:
                holds.setdefault(task_id, []).append(leak.task.id)
        return holds

    @cached_property
    def wrong_programs(self) -> dict[str, Mapping[str, str]]:
        """Return, by source, what is wrong with the programs of tasks that therefore do not train."""
        return {share.name: self._find_wrong(share) for share in self._shares(self._candidates)}

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
        """Raise ValueError if a source has no task left to train on."""
        for name, ids in self._train_ids.items():
            if not ids and self._sources[name].trains:
                place = f"data.sources.{name}" if len(self._train_ids) > 1 else "data"
                raise ValueError(
                    f"{place}: no task is left to train on, as all are held out, left out or missing"
                )

    @cached_property
    def _train_ids(self) -> dict[str, tuple[str, ...]]:
        """Return the training tasks by source."""
        return {
            name: tuple(
                task_id
                for task_id in ids
                if task_id not in self.dropped and task_id not in self.wrong_programs.get(name, {})
            )
            for name, ids in self._candidates.items()
        }

    @cached_property
    def _candidates(self) -> dict[str, tuple[str, ...]]:
        """Return, by source, the tasks that train unless they are dropped.

        A task held out by one source trains in none, and its demonstrations only if that source asks for it.
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
        """Return the held-out tasks with their solutions, in the partition's order."""
        wrong = self._wrong_in_validation
        return TaskSet(replace(task, program=None) if task.id in wrong else task for task in self._held_out)

    @cached_property
    def _held_out(self) -> TaskSet:
        return TaskSet(self._sources[name].pool[task_id] for task_id, name in self.source_of.items())

    @cached_property
    def _wrong_in_validation(self) -> Mapping[str, str]:
        """Return what is wrong with programs of held-out tasks, which are not measured on them."""
        tasks = self._held_out
        share = Share(
            name="validation", source=FixedTasks(tasks), task_ids=tasks.ids, weight=0.0, augmentation=None,
            prompt=None,
        )  # fmt: skip
        return self._find_wrong(share)

    @property
    def arc_tasks(self) -> list[Task]:
        """Return the held-out tasks that a model can answer: all but ready rows."""
        return [task for task in self.validation_tasks if not isinstance(task, Row)]

    def asked(self, limit: int | None) -> TaskSet:
        """Return up to `limit` tasks that a model can answer, spread over the sources; None: all."""
        tasks = self.arc_tasks
        if limit is None:
            return TaskSet(tasks)
        chosen = spread({task.id: self.source_of[task.id] for task in tasks}, limit)
        return self.validation_tasks.select(chosen)

    def examples(self, limit: int) -> list[Task]:
        """Return up to `limit` held-out ARC tasks with a known first answer, else made of demonstrations."""
        known = [task for task in self.arc_tasks if task.test[0].output is not None]
        return known[:limit] or list(leave_out(self.arc_tasks[:limit], 1))

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Return the languages of the programs of training and held-out tasks, sorted."""
        training = {language for share in self.shares for language in share.languages}
        held_out = {task.program.language for task in self.validation_tasks if task.program is not None}
        return tuple(sorted(filter(None, training | held_out)))

    def programs(self, limit: int) -> list[Task]:
        """Return training tasks with a program, up to `limit` of each source, from all over its list."""
        return [task for share in self.shares for task in share.with_programs(limit)]

    @cached_property
    def source_of(self) -> dict[str, str]:
        """Return the source that holds out each validation task (the first, if several do).

        Raises:
            ValueError: there is none.
        """
        found: dict[str, str] = {}
        for name, source in self._sources.items():
            for task_id in source.split.validation:
                found.setdefault(task_id, name)
        if not found:
            raise ValueError(
                "data: no source holds out a task, so nothing can be validated: data.partition=seeded (or "
                "add a held-out task to data.tasks)"
            )
        self._note_namesakes(found)
        return found

    def _note_namesakes(self, held_out: Mapping[str, str]) -> None:
        """Note tasks that do not train because another source holds out a different task with the same id."""
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
                    f"{plural(len(others), 'task')} of {name} left out, as another source holds out other "
                    f"tasks with the same ids: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
                )

    @cached_property
    def rows(self) -> dict[str, Row]:
        """Return the training and held-out ready rows by id."""
        tasks = (task for share in self.shares for task in _fixed(share.source, share.task_ids))
        everything = [*tasks, *self.validation_tasks]
        return {task.id: task for task in everything if isinstance(task, Row)}

    @property
    def copies(self) -> list[tuple[str, ...]]:
        """Return the ids of fixed training tasks, ready rows apart, that differ in nothing but their ids."""
        alike: dict[str, dict[str, None]] = {}
        for share in self.shares:
            for task in _fixed(share.source, share.task_ids):
                if not isinstance(task, Row):
                    alike.setdefault(_digest(replace(task, id="")), {})[task.id] = None
        return [tuple(ids) for ids in alike.values() if len(ids) > 1]

    @property
    def hash(self) -> str:
        """Return a digest of the training and validation tasks.

        It covers the first pairs and one visit of each task that draws its pairs, and one visit of a few
        generators.
        """
        sets = [_fixed(share.source, share.task_ids) for share in self.shares]
        sets += [_sampled(share.source, share.task_ids) for share in self.shares]
        return "-".join([*(tasks.hash() for tasks in sets if len(tasks)), self.validation_tasks.hash()])

    @property
    def skipped(self) -> dict[str, list[str]]:
        """Return a message for each task that was skipped or has a wrong program, by source."""
        return {
            name: [
                *source.bad_tasks.skipped,
                *(f"task {task_id}: its program is wrong, {what}" for task_id, what in wrong.items()),
            ]
            for name, source in self._sources.items()
            for wrong in [self._wrong_of(name)]
        }

    def _wrong_of(self, name: str) -> dict[str, str]:
        held_out = self._wrong_in_validation.items()
        found = {task_id: what for task_id, what in held_out if self.source_of[task_id] == name}
        return {**self.wrong_programs.get(name, {}), **found}

    @property
    def notes(self) -> dict[str, list[str]]:
        """Return other remarks of the readers, by source."""
        return {name: source.bad_tasks.notes for name, source in self._sources.items()}


class _Source:
    """One source: its tasks, the pool of its validation tasks, and its own split."""

    def __init__(
        self, data: Source, partition_seed: int, limit: int | None, processor: Callable[[], Any]
    ) -> None:
        self._data, self._seed, self._limit, self._processor = data, partition_seed, limit, processor
        self.augmentation = None if data.augmentation is None else tuple(data.augmentation)
        self.prompt = data.prompt
        self.trains = data.trains
        self.bad_tasks = BadTasks(skip=data.on_bad_task == "skip")

    @cached_property
    def tasks(self) -> TrainingSource:
        return self._read(self._data.source)

    @cached_property
    def pool(self) -> TaskSet:
        """Return the tasks that can be held out."""
        source = self._data.validation_source
        pool = (self.tasks if source is None else self._read(source)).fixed
        if not len(pool):
            raise ValueError(
                f"data={self._data.name}: all its tasks change from visit to visit, so none can be held out: "
                "choose others with data.validation_source"
            )
        return pool

    def _read(self, options: dict[str, Any]) -> TrainingSource:
        reader: Reader | ProcessorReader = build(options)
        if isinstance(reader, ProcessorReader):
            return reader.read_with(self._processor, self.bad_tasks)
        return reader.read(self.bad_tasks)

    @cached_property
    def split(self) -> Partition:
        """Split its own tasks, before any are made of their demonstrations."""
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
        """Return its tasks, followed by those made of demonstrations."""
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
        """Return the ids of the tasks made, on request, of its held-out tasks' demonstrations."""
        return frozenset(self._left_out_of_validation.ids)


def _fixed(source: TrainingSource, ids: Iterable[str]) -> TaskSet:
    """Return those of a source's tasks that are the same on every visit."""
    fixed = source.fixed
    return fixed.select(task_id for task_id in ids if task_id in fixed)


def _sampled(source: TrainingSource, ids: Sequence[str]) -> TaskSet:
    """Return the first stored pairs and one visit of each of a source's tasks that draw their pairs."""
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
            f"data: {plural(len(unsolved), 'task')} cannot train, for some test outputs are missing: "
            f"{', '.join(unsolved[:10])}. data.train_tasks=leave_out trains on their demonstrations alone"
        )
