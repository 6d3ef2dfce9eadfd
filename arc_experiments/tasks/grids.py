"""Check grids from outside and draw them in the official colours.

A grid is a two-dimensional ``numpy.uint8`` array of 1 to 30 rows by 1 to 30 columns with cells 0 to 9.
"""

import json
from collections.abc import Callable
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # rich is for the terminal only
    from rich.text import Text

Grid = NDArray[np.uint8]

MAX_SIDE = 30
NUM_COLOURS = 10

# The palette of the official ARC viewer, colour 0 to 9.
PALETTE = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25",
)  # fmt: skip

# The eight symmetries of the square: an optional transposition, then quarter turns. Each returns a view of
# the grid's memory, 20 times faster than np.rot90.
TURNS: dict[str, Callable[[Grid], Grid]] = {
    "identity": lambda grid: grid,
    "rot90": lambda grid: grid.T[::-1],
    "rot180": lambda grid: grid[::-1, ::-1],
    "rot270": lambda grid: grid[::-1].T,
    "transpose": lambda grid: grid.T,
    "transpose_rot90": lambda grid: grid[::-1],
    "transpose_rot180": lambda grid: grid.T[::-1, ::-1],
    "transpose_rot270": lambda grid: grid[:, ::-1],
}


class GridError(ValueError):
    """Raised for an invalid grid; the message says which rule it breaks."""


class OversizeGrid(GridError):
    """Raised for a grid over 30 a side."""


def check_grid(cells: object) -> Grid:
    """Convert nested lists or an array to a grid.

    Raises:
        GridError: it is not rectangular, empty, over 30 a side, or a cell is not an integer from 0 to 9.
    """
    try:
        array = np.asarray(cells)
    except ValueError as error:
        raise GridError("its rows have different lengths") from error
    if array.dtype == object:
        raise GridError("its rows have different lengths, or its cells are not numbers")
    if array.ndim != 2 or array.size == 0:
        raise GridError(f"it is not a table of rows and columns, but {_shape_in_words(array)}")
    if max(array.shape) > MAX_SIDE:
        raise OversizeGrid(f"it is {array.shape[0]}x{array.shape[1]}, over {MAX_SIDE} a side")
    if array.dtype.kind not in "iu":
        raise GridError(f"{_kind_of_cells(cells, array.dtype)}, not whole numbers")
    # numpy reads True as 1 if other cells are integers.
    if isinstance(cells, list | tuple) and bool in set(map(type, chain.from_iterable(cells))):
        raise GridError("it has a cell that is true or false, not a whole number")
    if array.min() < 0 or array.max() >= NUM_COLOURS:
        raise GridError(f"it has the cell {array.min() if array.min() < 0 else array.max()}, not 0 to 9")
    return array.astype(np.uint8)


def _shape_in_words(array: NDArray[Any]) -> str:
    if array.size == 0:
        return "empty"
    return {0: "a single value", 1: "a single row: write [[...]]"}.get(
        array.ndim, f"lists nested {array.ndim} deep instead of 2"
    )


def _kind_of_cells(cells: object, dtype: np.dtype[Any]) -> str:
    """Say what the cells are, with the first that is no whole number."""
    if dtype.kind == "b":
        return "its cells are true or false"
    kind, words = {"U": (str, "text"), "f": (float | np.floating, "decimals")}.get(dtype.kind, (object, ""))
    first = next(cell for cell in np.asarray(cells, object).flat if isinstance(cell, kind))
    return f"its cells are {words or dtype} ({json.dumps(first, default=str)})"


def to_svg(grid: Grid, *, cell: int = 16) -> str:
    """Draw the grid as an SVG element in the official colours, `cell` pixels per cell, with grid lines.

    The most frequent colour is the background, and every run of another colour in a row is one stroke of that
    colour's path, so a picture takes a few hundred bytes.
    """
    num_rows, num_columns = grid.shape
    ground = int(np.bincount(grid.ravel(), minlength=NUM_COLOURS).argmax())
    strokes: dict[int, list[str]] = {}
    for row, cells in enumerate(grid.tolist()):
        column = 0
        for colour, run in groupby(cells):
            length = len(list(run))
            if colour != ground:
                strokes.setdefault(colour, []).append(f"M{column} {row}h{length}")
            column += length
    paths = "".join(f'<path stroke="{PALETTE[c]}" d="{"".join(strokes[c])}"/>' for c in sorted(strokes))
    thin = f'stroke="#666" stroke-dasharray="{1 / cell:.3g} {1 - 1 / cell:.3g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {num_columns} {num_rows}"'
        f' width="{num_columns * cell}" height="{num_rows * cell}" role="img"'
        f' aria-label="grid of {num_rows} by {num_columns} cells">'
        f'<path fill="{PALETTE[ground]}" d="M0 0h{num_columns}v{num_rows}H0z"/>'
        f'<g transform="translate(0 .5)" shape-rendering="crispEdges">{paths}</g>'
        # One stroke as wide as the grid, dashed once per cell, draws all lines in one direction.
        f'<path {thin} stroke-width="{num_rows}" d="M0 {num_rows / 2:g}h{num_columns}"/>'
        f'<path {thin} stroke-width="{num_columns}" d="M{num_columns / 2:g} 0v{num_rows}"/></svg>'
    )


def share_of_right_cells(grid: Grid | None, expected: Grid | None) -> float:
    """Return the share of cells that are as expected; 0 for a grid of another shape, or none."""
    if grid is None or expected is None or grid.shape != expected.shape:
        return 0.0
    return float(np.count_nonzero(grid == expected) / expected.size)


def to_pixels(grid: Grid, *, cell: int = 12) -> NDArray[np.uint8]:
    """Draw the grid as RGB pixels in the official colours, with grid lines `cell` pixels apart.

    Returns:
        shape (cell * rows + 1, cell * columns + 1, 3).
    """
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE], dtype=np.uint8)
    pixels = np.pad(colours[grid].repeat(cell, axis=0).repeat(cell, axis=1), ((0, 1), (0, 1), (0, 0)))
    pixels[::cell] = pixels[:, ::cell] = 0x66  # the lines
    return pixels


def to_rich(grid: Grid) -> "Text":
    """Draw the grid for the terminal: two blanks per cell on its official colour, one line per row."""
    from rich.text import Text

    rows = (
        Text.assemble(*(("  ", f"on {PALETTE[colour].lower()}") for colour in cells))
        for cells in grid.tolist()
    )
    return Text("\n").join(rows)
