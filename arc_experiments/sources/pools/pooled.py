"""Tasks with many stored pairs, of which every visit draws a few; the last is the test pair."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.config.plurals import have, of_all, plural
from arc_experiments.sources.pools.pair_store import PairStore
from arc_experiments.tasks.grids import MAX_SIDE
from arc_experiments.tasks.source import BadTasks
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet

NUM_NAMED = 10


def no_program(task_id: str) -> Program | None:
    """Return None, for tasks whose programs are not known."""
    return None


@dataclass(frozen=True, kw_only=True)
class PooledTasks:
    """The tasks of a store that have enough pairs and are not left out.

    Attributes:
        split: of the tasks drawn.
        num_demonstrations: minimum and maximum of demonstrations in a visit; one test pair is added. A task
            with fewer pairs than the maximum shows all of them.
        max_side: pairs with a larger grid are not drawn.
        leave_out: ids of tasks that are not drawn.
        generated: whether generators made the pairs, so that they cannot occur in another set.
        program_of: the program of a task, by its id.
    """

    store: PairStore
    split: str
    num_demonstrations: tuple[int, int]
    max_side: int = MAX_SIDE
    leave_out: tuple[str, ...] = ()
    generated: bool = False
    program_of: Callable[[str], Program | None] = no_program

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: a worker process computes the rest again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _drawn(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the pairs that may be drawn, where each task's begin among them, and the tasks to draw."""
        numbers = np.flatnonzero(self.store.sides.max(axis=1) <= self.max_side)
        bounds = np.searchsorted(numbers, self.store.starts)
        left_out = set(self.leave_out)
        stays = np.array([task_id not in left_out for task_id in self.store.ids])
        return numbers, bounds, np.flatnonzero(stays & (np.diff(bounds) > self.num_demonstrations[0]))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        *_, tasks = self._drawn
        return tuple(self.store.ids[task] for task in tasks)

    @property
    def too_few(self) -> tuple[str, ...]:
        """Return the ids of the store's tasks with too few pairs."""
        known = {*self.ids, *self.leave_out}
        return tuple(task_id for task_id in self.store.ids if task_id not in known)

    def _of(self, number: int) -> NDArray[np.int64]:
        """Return the numbers of the pairs that task `number` may draw."""
        numbers, bounds, tasks = self._drawn
        task = tasks[number]
        return numbers[bounds[task] : bounds[task + 1]]

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        numbers = self._of(number)
        low, high = self.num_demonstrations
        wanted = min(int(rng.integers(low, high + 1)) + 1, len(numbers))
        chosen = rng.choice(numbers, wanted, replace=False)
        *train, test = (self.store.pair(int(pair)) for pair in chosen)
        task_id = self.ids[number]
        return Task(
            id=task_id,
            train=tuple(train),
            test=(test,),
            split=self.split,
            program=self.program_of(task_id),
        )

    def pairs(self, number: int) -> Iterable[Pair]:
        return () if self.generated else (self.store.pair(int(pair)) for pair in self._of(number))

    def language(self, number: int) -> str | None:
        program = self.program_of(self.ids[number])
        return None if program is None else program.language


def pooled(
    store: PairStore,
    bad_tasks: BadTasks,
    *,
    split: str,
    num_demonstrations: Sequence[int],
    max_side: int | None,
    leave_out: Sequence[str],
    generated: bool = False,
    program_of: Callable[[str], Program | None] = no_program,
) -> PooledTasks:
    """Make a source of a store's tasks; note those with too few pairs.

    Raises:
        ValueError: `leave_out` names an unknown task, or no task is left.
    """
    low, high = num_demonstrations
    without(store.ids, leave_out)
    tasks = PooledTasks(
        store=store,
        split=split,
        num_demonstrations=(low, high),
        max_side=max_side or MAX_SIDE,
        leave_out=tuple(leave_out),
        generated=generated,
        program_of=program_of,
    )
    small = "" if max_side is None else f" of at most {max_side} cells a side"
    if not tasks.ids:
        raise ValueError(
            f"none of {plural(len(store.ids), 'task')} has {low + 1} pairs{small} (num_demonstrations={low})"
        )
    too_few = tasks.too_few
    if too_few:
        named = ", ".join(too_few[:NUM_NAMED]) + (", ..." if len(too_few) > NUM_NAMED else "")
        bad_tasks.notes.append(
            f"{of_all(len(too_few), len(store.ids), 'task')} {have(len(too_few))} fewer than {low + 1} "
            f"pairs{small} and {'is' if len(too_few) == 1 else 'are'} never drawn: {named}"
        )
    if store.notes.get("repeated"):
        bad_tasks.notes.append(f"{store.notes['repeated']} repeated pairs of a task are dropped")
    return tasks


def check_demonstrations(num_demonstrations: Sequence[int]) -> None:
    """Raise ValueError unless it is [minimum, maximum]."""
    if len(num_demonstrations) != 2 or not 1 <= num_demonstrations[0] <= num_demonstrations[1]:
        raise ValueError(f"num_demonstrations={list(num_demonstrations)} is not [minimum, maximum]")


def check_only_generated(options: Any, **defaults: Any) -> None:
    """Raise ValueError if an option of generated pairs is not at its default although `path` is set."""
    for name, default in defaults.items():
        value = getattr(options, name)
        if options.path is not None and value != default:
            raise ValueError(f"{name}={value} is for generated pairs, and path={options.path} names a file")


def check_max_side(max_side: int | None) -> None:
    """Raise ValueError for a side that no grid has."""
    if max_side is not None and not 1 <= max_side <= MAX_SIDE:
        raise ValueError(f"max_side={max_side} is not 1 to {MAX_SIDE} (null: all grids)")


def without(ids: Iterable[str], leave_out: Sequence[str]) -> tuple[str, ...]:
    """Return the ids without those to leave out.

    Raises:
        ValueError: one of these does not exist.
    """
    known = dict.fromkeys(ids)
    for task_id in leave_out:
        if task_id not in known:
            raise ValueError(f"leave_out names {task_id}, which is not among {plural(len(known), 'task')}")
    left_out = set(leave_out)
    return tuple(task_id for task_id in known if task_id not in left_out)
