"""Matches between sets of tasks: a match is a pair, a leak a task, a comparison two sets.

Two pairs are the same if they differ only by one of the eight symmetries of the square and a permutation of
the colours. A pair's key is eight bytes of its cells, with its colours numbered by first appearance. One of a
pair's keys in its eight orientations therefore equals another pair's key if and only if the two are the same.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import NUM_COLOURS, TURNS, Grid

KEY_BYTES = 8  # two different pairs share a key with probability 2**-64
NAMES = bytes(range(NUM_COLOURS))
UNTURNED = next(iter(TURNS))

# How a pair matches, closest first. EQUAL: in one of the first four ways, but unknown in which.
IDENTICAL, SYMMETRY, COLOURS, BOTH, EQUAL, BY_ID = (
    "identical", "symmetry", "colours", "symmetry and colours", "equal", "id",
)  # fmt: skip
HOWS = (IDENTICAL, SYMMETRY, COLOURS, BOTH, EQUAL, BY_ID)
NUM_NAMED = 10  # most tasks that the JSON form names as containing a task


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """A pair of a sought task that was found elsewhere.

    Attributes:
        number: of the pair in its task, demonstrations first.
        is_answer: whether it is a test pair.
        how: one of `HOWS`.
        found_in: id of the task that contains it; "" if unknown.
        found: the matching pair, if known.
    """

    number: int
    is_answer: bool
    how: str
    found_in: str = ""
    found: Pair | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Leak:
    """A sought task of which some or all pairs were found elsewhere."""

    task: Task
    matches: tuple[Match, ...]

    @cached_property
    def closest(self) -> dict[int, Match]:
        """Return the closest match of each pair that was found, by its number."""
        best: dict[int, Match] = {}
        for match in sorted(self.matches, key=lambda match: (match.number, HOWS.index(match.how))):
            best.setdefault(match.number, match)
        return best

    @property
    def extent(self) -> str:
        """Return `whole` (every pair was found), `part`, or `id` (no pair, only the task's id)."""
        found = sum(match.how != BY_ID for match in self.closest.values())
        return BY_ID if not found else "whole" if found == self.num_pairs else "part"

    @property
    def how(self) -> str:
        """Return the loosest match of the pairs found: `identical` if all of them are."""
        return max((match.how for match in self.closest.values()), key=HOWS.index)

    @property
    def num_pairs(self) -> int:
        return len(self.task.train) + len(self.task.test)

    @property
    def num_answers(self) -> int:
        """Return the number of test pairs that were found."""
        return sum(match.is_answer for match in self.closest.values() if match.how != BY_ID)

    @property
    def found_in(self) -> tuple[str, ...]:
        """Return the ids of the tasks that contain it, those with most of its pairs first."""
        counts = Counter(match.found_in for match in self.matches if match.found_in)
        return tuple(sorted(counts, key=lambda task_id: (-counts[task_id], task_id)))

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task.id,
            "extent": self.extent,
            "how": self.how,
            "pairs": [sum(match.how != BY_ID for match in self.closest.values()), self.num_pairs],
            "answers": [self.num_answers, len(self.task.test)],
            "found_in": list(self.found_in[:NUM_NAMED]),
            "num_found_in": len(self.found_in),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class LeakReport:
    """The tasks of one set that were found in another.

    Attributes:
        sought, searched: names of the two sets.
        num_cut_short: searched tasks of which only the first pairs were compared.
        num_by_id: searched tasks that generate or draw their pairs and are matched by their ids.
        num_coincidences: pairs of tasks that share too little to be meaningful.
    """

    sought: str
    searched: str
    num_tasks: int
    num_searched_tasks: int = 0
    num_searched_pairs: int = 0
    num_cut_short: int = 0
    num_by_id: int = 0
    num_coincidences: int = 0
    leaks: tuple[Leak, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Count sought tasks by extent; `answers`: with a test pair; `held_by`: searched tasks with one."""
        extents = Counter(leak.extent for leak in self.leaks)
        by_content = [leak for leak in self.leaks if leak.extent != BY_ID]
        return {
            "tasks": self.num_tasks,
            "leaks": len(self.leaks),
            "whole": extents["whole"],
            "part": extents["part"],
            "by_id": extents[BY_ID],
            "answers": sum(leak.num_answers > 0 for leak in by_content),
            "demonstrations_only": sum(leak.num_answers == 0 for leak in by_content),
            "identical": sum(leak.how == HOWS[0] for leak in by_content),
            "held_by": len(self.found_in),
        }

    @property
    def found_in(self) -> set[str]:
        """Return the ids of all searched tasks that contain a pair of a sought one."""
        return {task_id for leak in self.leaks for task_id in leak.found_in}

    def to_json(self) -> dict[str, Any]:
        names = ("sought", "searched", "num_searched_tasks", "num_searched_pairs", "num_cut_short",
                 "num_by_id", "num_coincidences")  # fmt: skip
        return {
            **{name: getattr(self, name) for name in names},
            "counts": self.counts,
            "tasks": [leak.to_json() for leak in self.leaks],
        }


def pairs_of(task: Task) -> Sequence[Pair]:
    """Return all pairs, demonstrations first; the numbers of matches are positions in this sequence."""
    return (*task.train, *task.test)


# Keys of pairs


def key(pair: Pair) -> bytes:
    """Return the pair's key; that of its input alone if its output is not known."""
    return _key(pair.input, pair.output)


def turned_keys(pair: Pair) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the key of each orientation."""
    for name, turn in TURNS.items():
        yield name, _key(turn(pair.input), None if pair.output is None else turn(pair.output))


def _key(before: Grid, after: Grid | None) -> bytes:
    cells, sides = before.tobytes(), bytes(before.shape)
    if after is not None:
        cells, sides = cells + after.tobytes(), sides + bytes(after.shape)
    places = sorted((place, colour) for colour in NAMES if (place := cells.find(colour)) >= 0)
    colours = bytes([colour for _, colour in places])
    renamed = cells.translate(bytes.maketrans(colours, NAMES[: len(colours)]))
    return blake2b(sides + renamed, digest_size=KEY_BYTES).digest()


def how_found(sought: Pair, found: Pair, turns: Sequence[str]) -> str:
    """Return how closely two pairs match.

    Args:
        turns: orientations of the sought pair in which the two have the same key.
    """
    turned = [turn for turn in turns if turn != UNTURNED]
    if len(turned) < len(turns) and _same_cells(sought, found, UNTURNED):
        return IDENTICAL
    if any(_same_cells(sought, found, turn) for turn in turned):
        return SYMMETRY
    return COLOURS if len(turned) < len(turns) else BOTH


def _same_cells(sought: Pair, found: Pair, turn: str) -> bool:
    turned = TURNS[turn]
    same = np.array_equal(turned(sought.input), found.input)
    if not same or sought.output is None or found.output is None:
        return same
    return np.array_equal(turned(sought.output), found.output)


def num_bits(pair: Pair) -> float:
    """Return the information in a pair's cells: the bits to encode each grid by its colour frequencies.

    0 for grids of one colour each, about 13 for 3 x 3 cells that become one, hundreds for most pairs of ARC.
    """
    grids = [pair.input] if pair.output is None else [pair.input, pair.output]
    return sum(_num_bits(np.bincount(grid.ravel())) for grid in grids)


def _num_bits(counts: NDArray[np.int64]) -> float:
    present = counts[counts > 0]
    return float((present * np.log2(present.sum() / present)).sum())
