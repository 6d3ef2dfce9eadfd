"""Write a grid as text and read it back.

[[1, 0], [0, 2]] with arc24's options:

    ```grid shape: 2x2
    1 10
    2 02
    ```

Reading is strict: it refuses, with the reason, any text that `write` could not have written.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, Grid

FILLED = NUM_COLOURS  # marks the cells of the frame while a text is read


class UnreadableGrid(ValueError):
    """Raised for a text that is not a grid in this format; `reason` is one short word for counting."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True)
class GridText:
    """Options of a grid's text; every row ends with a newline.

    Attributes:
        opening: text before the rows; may contain {height} and {width}.
        row_numbers: start each row with its number, from 1, and a space.
        cells: the text of each colour, 0 to 9.
        separator: text between two cells of a row.
        frames: sides of squares; a grid is padded on the right and below to the smallest square that it fits
            into. Larger grids are not padded.
        fill: the text of a padding cell.
        closing: text after the rows.
    """

    opening: str = ""
    row_numbers: bool = False
    cells: list[str] = field(default_factory=lambda: [str(colour) for colour in range(NUM_COLOURS)])
    separator: str = ""
    frames: list[int] = field(default_factory=list)
    fill: str = "."
    closing: str = ""

    def __post_init__(self) -> None:
        if len(set(self.cells)) != NUM_COLOURS:
            raise ValueError(f"cells={self.cells} must be {NUM_COLOURS} different texts")
        if self.frames != sorted(set(self.frames) & set(range(1, MAX_SIDE + 1))):
            raise ValueError(
                f"frames={self.frames} must be different sides from 1 to {MAX_SIDE} in ascending order"
            )
        if self.fill != "." and not self.frames:
            raise ValueError(f"fill={self.fill!r} needs frames")
        cells = [*self.cells, self.fill] if self.frames else self.cells
        if self.frames and self.fill in ("", *self.cells):
            raise ValueError(f"fill={self.fill!r} must not be empty or the text of a cell")
        if not self.separator and len({len(cell) for cell in cells}) != 1:
            raise ValueError("cells of different lengths (including fill, with frames) need a separator")
        if any(set(cell) & {"\n", *self.separator} for cell in cells):
            raise ValueError("cells must not contain a newline or the separator")
        try:
            self.opening.format(height=1, width=1)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"opening={self.opening!r} may contain only {{height}} and {{width}}") from error
        self._check_that_it_can_be_read()

    def _check_that_it_can_be_read(self) -> None:
        """Refuse options with ambiguous texts, such as blank cells or a width right before the first cell."""
        row = np.arange(NUM_COLOURS, dtype=np.uint8)
        grids = [row[colour].reshape(1, 1) for colour in row]
        grids += [np.resize(row, shape) for shape in ((1, 12), (12, 1), (11, 2), (MAX_SIDE, MAX_SIDE))]
        for grid in grids:
            try:
                back = self.read(self.write(grid))
            except UnreadableGrid as error:
                raise ValueError(
                    f"these options write a text that cannot be read back ({error.reason}): {self}"
                ) from error
            if not np.array_equal(back, grid):
                raise ValueError(f"these options write a text that reads back as another grid: {self}")

    @property
    def head(self) -> str:
        """Return the start of every grid's text, up to the first size or cell."""
        return self.opening.partition("{")[0]

    @property
    def tail(self) -> str:
        """Return the end of every grid's text, from the last row's newline on."""
        return f"\n{self.closing}"

    def write_sizes(self, height: int, width: int) -> str:
        """Write the opening from the first size on: "2x2" and a newline in the example above."""
        return self.opening.format(height=height, width=width)[len(self.head) :]

    def write_core(self, grid: Grid) -> str:
        """Write the part that depends on the grid, between `head` and `tail`."""
        height, width = grid.shape
        rows = [self.separator.join(self.cells[cell] for cell in row) for row in grid.tolist()]
        if self.row_numbers:
            rows = [f"{number} {row}" for number, row in enumerate(rows, 1)]
        frame = self.frame(height, width)
        ends = f"{self.fill_row(width, frame)}\n".join(rows) + self.fill_row(width, frame)
        return self.write_sizes(height, width) + ends + self.fill_below(height, frame)

    def frame(self, height: int, width: int) -> int:
        """Return the side that a grid of this shape is padded to; 0 for no padding."""
        return next((side for side in self.frames if side >= max(height, width)), 0)

    def fill_row(self, width: int, frame: int) -> str:
        """Write what follows the last cell of a row, up to the frame."""
        return f"{self.separator}{self.fill}" * (frame - width)

    def fill_below(self, height: int, frame: int) -> str:
        """Write what follows the last row, without its newline, down to the frame."""
        row = self.separator.join([self.fill] * frame)
        numbers = range(height + 1, frame + 1)
        return "".join(f"\n{number} {row}" if self.row_numbers else f"\n{row}" for number in numbers)

    def write(self, grid: Grid) -> str:
        return self.head + self.write_core(grid) + self.tail

    def read(self, text: str) -> Grid:
        """Return the grid that `write` writes as this text, ignoring surrounding spaces.

        Raises:
            UnreadableGrid: empty, no_grid (opening missing), unclosed, bad_row_number, bad_cell, ragged,
                too_large, bad_frame (wrong padding), wrong_shape (the opening states another one).
        """
        text = text.strip()
        if not text:
            raise UnreadableGrid("empty")
        opening = re.match(self._opening_pattern(), text)
        if opening is None:
            raise UnreadableGrid("no_grid")
        body = text[opening.end() :]
        if not body.endswith(self.closing.strip()):
            raise UnreadableGrid("unclosed")
        rows = body.removesuffix(self.closing.strip()).removesuffix("\n").split("\n")
        if len(rows) > MAX_SIDE:
            raise UnreadableGrid("too_large")
        cells = [self._read_row(row, number) for number, row in enumerate(rows, 1)]
        if len({len(row) for row in cells}) != 1:
            raise UnreadableGrid("ragged")
        if len(cells[0]) > MAX_SIDE:
            raise UnreadableGrid("too_large")
        grid = self._without_frame(np.array(cells, dtype=np.uint8))
        for name, size in zip(("height", "width"), grid.shape, strict=True):
            if int(opening.groupdict().get(name, size)) != size:
                raise UnreadableGrid("wrong_shape")
        return grid

    def _without_frame(self, cells: Grid) -> Grid:
        is_cell = cells != FILLED
        height, width = int(is_cell[:, 0].sum()), int(is_cell[0].sum())
        expected = np.zeros(np.maximum((height, width), self.frame(height, width)), bool)
        expected[:height, :width] = True
        if not height or not width or not np.array_equal(is_cell, expected):
            raise UnreadableGrid("bad_frame")
        return cells[:height, :width]

    def _opening_pattern(self) -> str:
        pattern = re.escape(self.opening.lstrip())
        for name in ("height", "width"):
            pattern = pattern.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>[1-9][0-9]?)", 1)
        return pattern

    def _read_row(self, row: str, number: int) -> list[int]:
        if self.row_numbers:
            prefix = f"{number} "
            if not row.startswith(prefix):
                raise UnreadableGrid("bad_row_number")
            row = row.removeprefix(prefix)
        size = len(self.cells[0])
        if self.separator:
            texts = row.split(self.separator)
        else:
            texts = [row[start : start + size] for start in range(0, len(row), size)]
        colours = {cell: colour for colour, cell in enumerate(self.cells)}
        if self.frames:
            colours[self.fill] = FILLED
        if not texts or not all(cell in colours for cell in texts):
            raise UnreadableGrid("bad_cell")
        return [colours[cell] for cell in texts]
