"""When two pairs are one: up to the eight symmetries of the square and the names of the colours.

A pair's key is eight bytes of its cells, its colours numbered by their first appearance. So the keys of a pair in
its eight orientations, and the one key of another pair as it stands, meet if and only if the two pairs are one.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import NUM_COLOURS, TURNS, Grid

KEY_BYTES = 8  # two different pairs have one key once in 2**64
NAMES = bytes(range(NUM_COLOURS))
UNTURNED = next(iter(TURNS))

# How a pair stands elsewhere, from the closest on. EQUAL: in one of the four, it is not known in which.
IDENTICAL, SYMMETRY, COLOURS, BOTH, EQUAL, BY_ID = (
    "identical", "symmetry", "colours", "symmetry and colours", "equal", "id",
)  # fmt: skip
HOWS = (IDENTICAL, SYMMETRY, COLOURS, BOTH, EQUAL, BY_ID)


def key(pair: Pair) -> bytes:
    """The pair's key as it stands; that of its input alone, where its output is not known."""
    return _key(pair.input, pair.output)


def turned_keys(pair: Pair) -> Iterator[tuple[str, bytes]]:
    """The key of each orientation, with its name."""
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
    """How closely two pairs are one.

    Args:
        turns: orientations of the sought pair in which the keys of the two meet.
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
    """How much a pair's cells say: what it takes to write each grid's cells down, knowing how often each colour is in it.

    0 for grids of one colour each, about 13 for 3 x 3 cells that become one, hundreds for most pairs of ARC.
    """
    grids = [pair.input] if pair.output is None else [pair.input, pair.output]
    return sum(_num_bits(np.bincount(grid.ravel())) for grid in grids)


def _num_bits(counts: NDArray[np.int64]) -> float:
    present = counts[counts > 0]
    return float((present * np.log2(present.sum() / present)).sum())
