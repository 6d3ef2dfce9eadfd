"""Draw grids from their integers, the same bytes everywhere.

[[0, 2], [2, 0]], cell_pixels=28  ->  RGB, (56, 56, 3): a vision token of a Qwen2.5-VL sees one cell

Grid lines lie inside the cells, so that a cell always begins at a multiple of `cell_pixels`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks.grids import NUM_COLOURS, PALETTE, Grid
from arc_experiments.tasks.images import Image

Pixels = NDArray[np.uint8]  # (height, width, 3), RGB

LINE = (85, 85, 85)
PAPER = 255  # around grids: white


@dataclass(frozen=True, kw_only=True)
class Style:
    """How grids are drawn.

    Attributes:
        cell_pixels: side of a cell, its grid line included; with `canvas_pixels`, of the largest cell.
        line_pixels: width of the grid line at the top and left of each cell.
        margin_pixels: paper around a picture.
        canvas_pixels: side of a square that every picture fills, for models that see all pictures in one
            size; cells become as large as fits. None: a picture is as large as its grids need.
        unit_pixels, min_pixels: a picture without a canvas is filled up with paper to sides that are
            multiples of the first and an area of the second, below which a model would resize it.
        palette: the ten colours, "#rrggbb".
    """

    cell_pixels: int
    line_pixels: int = 0
    margin_pixels: int = 0
    canvas_pixels: int | None = None
    unit_pixels: int = 1
    min_pixels: int = 0
    palette: tuple[str, ...] = PALETTE

    def __post_init__(self) -> None:
        assert len(self.palette) == NUM_COLOURS, "a colour for each number"


@dataclass(frozen=True, eq=False)
class Picture:
    """What one picture shows: rows of grids, top to bottom, of which a sheet has several.

    Pickles as its integers; drawn when it is needed.
    """

    rows: tuple[tuple[Grid, ...], ...]
    style: Style = field(repr=False)

    @classmethod
    def of(cls, grid: Grid, style: Style) -> "Picture":
        """Make the picture of one grid."""
        return cls(((grid,),), style)

    def __getstate__(self) -> dict[str, object]:
        return {"rows": self.rows, "style": self.style}

    @cached_property
    def _cells(self) -> tuple[int, int]:
        """Height and width in cells: grids of a row and rows of a sheet are a cell apart."""
        heights = [max(grid.shape[0] for grid in row) for row in self.rows]
        widths = [sum(grid.shape[1] for grid in row) + len(row) - 1 for row in self.rows]
        return sum(heights) + len(heights) - 1, max(widths)

    @cached_property
    def _side(self) -> int:
        style = self.style
        if style.canvas_pixels is None:
            return style.cell_pixels
        return min(style.cell_pixels, (style.canvas_pixels - 2 * style.margin_pixels) // max(self._cells))

    @property
    def has_room(self) -> bool:
        """Whether the canvas has more than a grid line for each cell."""
        return self.style.canvas_pixels is None or self._side > self.style.line_pixels

    @property
    def cell_pixels(self) -> int:
        """Side of a cell in this picture.

        Raises:
            ValueError: the canvas has less than a pixel for each cell.
        """
        if not self.has_room:
            raise ValueError(
                f"prompt.canvas_pixels={self.style.canvas_pixels} is too small for a picture of "
                f"{self._cells[0]} x {self._cells[1]} cells: raise it, or show a picture per grid"
            )
        return self._side

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        style, unit = self.style, self.style.unit_pixels
        if style.canvas_pixels is not None:
            return style.canvas_pixels, style.canvas_pixels
        sides = [cells * self.cell_pixels + 2 * style.margin_pixels for cells in self._cells]
        height, width = (-(-side // unit) * unit for side in sides)
        while height * width < style.min_pixels:  # towards a square
            height, width = (height + unit, width) if height <= width else (height, width + unit)
        return height, width

    def draw(self) -> Pixels:
        """Draw it: uint8, shape (height, width, 3)."""
        pixels = np.full((*self.size, 3), PAPER, np.uint8)
        side, margin = self.cell_pixels, self.style.margin_pixels
        for top, left, grid in self._places():
            drawn = _drawn(grid, side, self.style)
            top, left = margin + top * side, margin + left * side
            pixels[top : top + len(drawn), left : left + drawn.shape[1]] = drawn
        return pixels

    @property
    def cells(self) -> NDArray[np.uint8]:
        """The colour of each cell, paper being colour NUM_COLOURS; for a size and a margin in whole cells."""
        side = self.cell_pixels
        cells = np.full([pixels // side for pixels in self.size], NUM_COLOURS, np.uint8)
        margin = self.style.margin_pixels // side
        for top, left, grid in self._places():
            place = slice(margin + top, margin + top + len(grid))
            cells[place, margin + left : margin + left + grid.shape[1]] = grid
        return cells

    def _places(self) -> Iterator[tuple[int, int, Grid]]:
        """Yield top and left of each grid in cells, without the margin, and the grid."""
        top = 0
        for row in self.rows:
            left = 0
            for grid in row:
                yield top, left, grid
                left += grid.shape[1] + 1
            top += max(grid.shape[0] for grid in row) + 1


AnyPicture = Picture | Image


def _drawn(grid: Grid, side: int, style: Style) -> Pixels:
    """Draw a grid alone: uint8, shape (rows x side, columns x side, 3)."""
    pixels = _colours(style.palette)[grid].repeat(side, axis=1).repeat(side, axis=0)
    for line in range(style.line_pixels):
        pixels[line::side] = LINE
        pixels[:, line::side] = LINE
    return pixels


@lru_cache(maxsize=256)
def _colours(palette: tuple[str, ...]) -> Pixels:
    """Return the palette as uint8, shape (10, 3)."""
    return np.array([list(bytes.fromhex(colour[1:])) for colour in palette], np.uint8)
