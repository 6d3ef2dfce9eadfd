"""From pieces to token ids: static text is tokenised once, cells go through a look-up table.

The tokenizer itself is the truth; whoever uses this compares the two on real samples first
(`Prompt.verify`). It is exact for tokenizers that never merge over a digit's edge, such as Qwen2's; not for
those that join digits (Llama 3's).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from arc_experiments.grids import MAX_SIDE, Grid
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.prompts.layout import Field, Piece
from arc_experiments.tasks import Pair

Ids = NDArray[np.int32]


class TokenTable:
    """Token ids of static texts, numbers and cells, for one grid text and one tokenizer.

    Args:
        tokenize: text -> ids, without added special tokens.
    """

    def __init__(self, grid_text: GridText, tokenize: Callable[[str], Ids]) -> None:
        self._tokenize = tokenize
        self._static: dict[str, Ids] = {}
        self._sizes = [tokenize(str(size)) for size in range(MAX_SIDE + 1)]
        self._newline = tokenize("\n")
        cells = [tokenize(cell + grid_text.separator) for cell in grid_text.cells]
        self.usable = len({len(ids) for ids in cells}) == 1
        if self.usable:
            self._cells = np.stack(cells)
            self._separator_length = len(tokenize(grid_text.separator)) if grid_text.separator else 0
            self._row_blocks = self._make_row_blocks() if grid_text.row_numbers else None

    def _make_row_blocks(self) -> list[tuple[int, Ids]]:
        """Row numbers as rectangular blocks (first row, ids), one for each length in tokens."""
        prefixes = [self._tokenize(f"{number} ") for number in range(1, MAX_SIDE + 1)]
        starts = [row for row in range(MAX_SIDE) if row == 0 or len(prefixes[row]) != len(prefixes[row - 1])]
        ends = [*starts[1:], MAX_SIDE]
        return [(start, np.stack(prefixes[start:end])) for start, end in zip(starts, ends, strict=True)]

    def piece(self, piece: Piece, pairs: list[Pair]) -> Ids:
        """Ids of one piece, int32, shape (tokens,)."""
        if isinstance(piece, Field):
            grid = piece.grid(pairs)
            if piece.kind == "rows":
                return self._rows(grid)
            return self._sizes[grid.shape[0 if piece.kind == "height" else 1]]
        if piece not in self._static:
            self._static[piece] = self._tokenize(piece)
        return self._static[piece]

    def _rows(self, grid: Grid) -> Ids:
        height = len(grid)
        body = self._cells[grid].reshape(height, -1)
        if self._separator_length:
            body = body[:, : -self._separator_length]
        newline = np.broadcast_to(self._newline, (height, len(self._newline)))
        if self._row_blocks is None:
            return np.concatenate([body, newline], axis=1).ravel()
        blocks = []
        for start, prefixes in self._row_blocks:
            rows = slice(start, min(start + len(prefixes), height))
            if start < height:
                parts = [prefixes[: rows.stop - start], body[rows], newline[rows]]
                blocks.append(np.concatenate(parts, axis=1).ravel())
        return np.concatenate(blocks)
