"""What a processor makes of a cell, looked up instead of computed.

Qwen's image processors cut a picture into patches and make numbers of each by itself. Where what one vision
token sees is a cell, there are eleven different ones: ten colours and paper.

    cells (height, width)  ->  pixel_values (height x width x patches of a cell, numbers of a patch)

The processor is the truth: the table is used only if it gives the same for a picture with all of this.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.pictures.drawing import Picture, Style
from arc_experiments.tasks.grids import NUM_COLOURS

Process = Callable[[Sequence[Picture]], dict[str, Any]]


class CellTable:
    """Makes what the processor would make of pictures of one style.

    Args:
        rows: of each colour and of paper, shape (11, patches of a cell, numbers of a patch).
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows
        self._buffers: list[NDArray[Any]] = []  # what was handed out; new memory takes six times as long

    def __getstate__(self) -> dict[str, Any]:
        return {"_rows": self._rows, "_buffers": []}

    def _room(self, size: int) -> NDArray[Any]:
        """Return room for so many cells: memory that nobody holds any more, or else new."""
        for _ in range(len(self._buffers)):
            buffer = self._buffers.pop(0) if self._buffers else self._rows[:0]  # no other thread has it now
            is_free = sys.getrefcount(buffer) == 2  # this name, and the argument
            if is_free and len(buffer) >= size:
                return buffer
            if not is_free and len(buffer):
                self._buffers.append(buffer)
        return np.empty((1 << (size - 1).bit_length(), *self._rows.shape[1:]), self._rows.dtype)

    @classmethod
    def of(cls, process: Process, style: Style, unit: int) -> "CellTable | None":
        """Make the table of a style; None if it gives something else than the processor.

        Args:
            process: calls the processor.
            unit: side of what one vision token sees, in pixels.
        """
        if style.canvas_pixels is not None or style.cell_pixels != unit or style.margin_pixels % unit:
            return None
        colours = np.arange(NUM_COLOURS, dtype=np.uint8)
        strip = Picture(((colours[None], colours[None, :1]),), style)  # with paper between the two
        rows = np.asarray(process([strip])["pixel_values"])
        of_each = rows.reshape(strip.cells.size, -1, rows.shape[-1])
        table = cls(np.stack([of_each[strip.cells.ravel() == value][0] for value in range(NUM_COLOURS + 1)]))
        probe = [Picture(((colours.reshape(2, 5), colours[:3, None]), (colours[None],)), style), strip]
        truth, made = process(probe), table.process(probe)
        same = truth.keys() == made.keys() and all(np.array_equal(truth[name], made[name]) for name in made)
        return table if same else None

    def process(self, pictures: Sequence[Any]) -> dict[str, Any]:
        """Return pixel_values and image_grid_thw of pictures of the table's style, as the processor would."""
        all_cells = [picture.cells for picture in pictures]
        ends = np.cumsum([cells.size for cells in all_cells])
        buffer = self._room(int(ends[-1]))
        pixels = buffer[: ends[-1]]
        self._buffers.append(buffer)
        for cells, end in zip(all_cells, ends, strict=True):
            # "clip" writes into the array itself; the default makes a copy first.
            np.take(self._rows, cells.ravel(), 0, out=pixels[end - cells.size : end], mode="clip")
        merged = math.isqrt(self._rows.shape[1])
        grid = [(1, merged * height, merged * width) for height, width in (each.shape for each in all_cells)]
        return {
            "pixel_values": pixels.reshape(-1, self._rows.shape[-1]),
            "image_grid_thw": np.array(grid, np.int64),
        }
