r"""Encode grids as token ids by look-up: each shape has a block of ids with holes for the cells' ids.

With row numbers, for a tokenizer with one token per digit, `_` being a hole:

    [[1, 0], [0, 2]]   ->   "2" "x" "2" "\n" "1" " " _ _ "\n" "2" " " _ _   and   "1" "0" "0" "2"

A text is cut before spaces and separators, as byte-level tokenizers do (" Blue" is one token). The tokenizer
itself is the truth: compare the two before using a table (`Prompt.verify`, on `probe_tasks`). The table is
exact for tokenizers that never merge characters across these cuts, such as Qwen2's; not for those that merge
digits (Llama 3's), and in a frame not for those that merge its padding (Qwen2's does).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, Grid

Ids = NDArray[np.int32]

HOLE = -1  # in a block: to be filled by a cell
PROBE_PAIRS = 3  # of a task
NOTHING = -2  # pads the ids of a cell that is shorter than others


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """What all grids of one shape share.

    Attributes:
        ids: int32, shape (tokens,), with holes.
        rows: indices into `TokenTable._cells`, without the colour; uint8, shape (height * width,).
        num_fixed: number of ids that are not holes.
    """

    ids: Ids
    rows: NDArray[np.uint8]
    num_fixed: int


class TokenTable:
    """Token ids of grids (`GridText.write_core`), for one grid text and one tokenizer.

    Args:
        tokenize: text -> ids, without added special tokens.
    """

    def __init__(self, grid_text: GridText, tokenize: Callable[[str], Ids]) -> None:
        self._grid_text, self._tokenize = grid_text, tokenize
        self._blocks: dict[tuple[int, ...], _Block] = {}
        self._newline = tokenize("\n")
        self._numbers = [tokenize(str(number)) for number in range(1, MAX_SIDE + 1)]
        before = " " if grid_text.row_numbers else ""
        if grid_text.frames:  # otherwise the tokenizer need not know the padding
            self._first_fill = tokenize(before + grid_text.fill)
            self._later_fill = tokenize(grid_text.separator + grid_text.fill)
        later, later_cells = _split([tokenize(grid_text.separator + cell) for cell in grid_text.cells])
        first, first_cells = _split([tokenize(before + cell) for cell in grid_text.cells])
        num_holes = max(later_cells.shape[1], first_cells.shape[1])
        self._later, self._first = (
            np.append(ids, np.full(num_holes - np.sum(ids == HOLE), HOLE, np.int32)) for ids in (later, first)
        )
        # The cells' ids: rows 0 to 9 are the colours, 10 to 19 the colours at the start of a row.
        self._cells = np.full((2 * NUM_COLOURS, num_holes), NOTHING, np.int32)
        self._cells[:NUM_COLOURS, : later_cells.shape[1]] = later_cells
        self._cells[NUM_COLOURS:, : first_cells.shape[1]] = first_cells
        self._lengths = np.sum(self._cells != NOTHING, axis=1)
        self._is_ragged = bool((self._lengths != num_holes).any())

    def write(self, fixed: Sequence[Ids], grids: Sequence[Grid]) -> Ids:
        """Return the ids of `fixed[0]`, `grids[0]`, `fixed[1]`, ...; `fixed` is one longer than `grids`."""
        blocks = [self._block(grid.shape) for grid in grids]
        parts: list[Ids] = [fixed[0]] * (len(fixed) + len(grids))
        parts[::2], parts[1::2] = fixed, [block.ids for block in blocks]
        ids = np.concatenate(parts)
        rows = np.concatenate([block.rows for block in blocks])
        rows += np.concatenate([grid.ravel() for grid in grids])
        np.place(ids, ids == HOLE, self._cells.take(rows, axis=0))
        return ids[ids != NOTHING] if self._is_ragged else ids

    def num_tokens(self, grid: Grid) -> int:
        """Return how many ids `write` makes for the grid."""
        block = self._block(grid.shape)
        if not self._is_ragged:
            return len(block.ids)
        return block.num_fixed + int(self._lengths[block.rows + grid.ravel()].sum())

    def max_tokens(self, height: int, width: int) -> int:
        """Return the most ids that a grid of this shape takes."""
        block = self._block((height, width))
        longest = np.repeat(self._lengths.reshape(2, NUM_COLOURS).max(axis=1), NUM_COLOURS)
        return block.num_fixed + int(longest[block.rows].sum())

    def _block(self, shape: tuple[int, ...]) -> _Block:
        block = self._blocks.get(shape)
        if block is None:
            block = self._blocks[shape] = self._make_block(*shape)
        return block

    def _make_block(self, height: int, width: int) -> _Block:
        frame = self._grid_text.frame(height, width)
        row = np.concatenate([self._first, np.tile(self._later, width - 1)])
        lines = [row] * height
        if frame:
            filled = np.concatenate([row, np.tile(self._later_fill, frame - width)])
            below = np.concatenate([self._first_fill, np.tile(self._later_fill, frame - 1)])
            lines = [filled] * height + [below] * (frame - height)
        parts = [self._tokenize(self._grid_text.write_sizes(height, width))]
        for number, line in zip(self._numbers, lines, strict=False):
            parts += [number, line, self._newline] if self._grid_text.row_numbers else [line, self._newline]
        ids = np.concatenate(parts[:-1])  # the last newline belongs to the text after the grid
        rows = np.zeros((height, width), np.uint8)
        rows[:, 0] = NUM_COLOURS
        return _Block(ids=ids, rows=rows.ravel(), num_fixed=int(np.sum(ids != HOLE)))


def _split(cells: list[Ids]) -> tuple[Ids, Ids]:
    """Split ids into what all colours share, with holes, and what fills the holes, shape (colours, holes)."""
    longest = max(map(len, cells))
    table = np.full((len(cells), longest), NOTHING, np.int32)
    for colour, ids in enumerate(cells):
        table[colour, : len(ids)] = ids
    is_fixed = (table == table[0]).all(axis=0)
    return np.where(is_fixed, table[0], HOLE).astype(np.int32), table[:, ~is_fixed]


def probe_tasks() -> list[Task]:
    """Make tasks that contain every height, every width, and every three adjacent colours in a row."""
    grids = _probe_grids()
    pairs = [Pair(input=input, output=output) for input, output in zip(grids[::2], grids[1::2], strict=True)]
    starts = range(0, len(pairs), PROBE_PAIRS)
    return [
        Task(id=f"probe{start}", train=tuple(pairs[start + 1 : start + PROBE_PAIRS]), test=(pairs[start],))
        for start in starts
    ]


def _probe_grids() -> list[Grid]:
    """Make grids of 1x30, 2x29, ..., 30x1; a row begins with the last two cells of the previous one."""
    triples = np.indices((NUM_COLOURS,) * 3, np.uint8).reshape(3, -1).T.ravel()
    grids, place = [], 0
    for height in range(1, MAX_SIDE + 1):
        width = MAX_SIDE + 1 - height
        starts = place + max(1, width - 2) * np.arange(height)
        grids.append(triples.take(starts[:, None] + np.arange(width), mode="wrap"))
        place = int(starts[-1]) + max(1, width - 2)
    return grids
