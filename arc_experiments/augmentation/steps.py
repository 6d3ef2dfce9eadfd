"""Steps: transforms with drawn parameters, applied to a task and undone on an output grid.

    step = Symmetry(1)                    # rot90
    seen = step.apply(task)               # every grid of the task turned
    grid = step.undo(seen.test[0].output) # turned back

`undo` refuses a grid that the step cannot produce, such as an answer of 3 rows to a task of doubled rows.
`carry` changes the task's program along, where this can be done exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from arc_experiments.programs.languages import language
from arc_experiments.tasks import Pair, Program, Task
from arc_experiments.tasks.grids import TURNS, Grid

Side = Literal["input", "output"]

SYMMETRIES = tuple(TURNS)
INVERSES = {"rot90": "rot270", "rot270": "rot90"}  # every other symmetry is its own inverse


class NotInImage(ValueError):
    """Raised for an answer that the step cannot produce; `reason` is one short word for counting."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Step(Protocol):
    """A transform with drawn parameters."""

    @property
    def name(self) -> str: ...

    def apply(self, task: Task) -> Task:
        """Return the changed task, without its program, which `carry` changes."""

    def carry(self, program: Program, task: Task) -> Program | None:
        """Return the program of `apply(task)` if this is the task's; None if that cannot be done exactly."""


@runtime_checkable
class Reversible(Step, Protocol):
    """A step that can be undone on an answer; views consist of these."""

    def undo(self, grid: Grid) -> Grid:
        """Return the grid that the step turns into this one; raise NotInImage if there is none."""


def grids_of(task: Task, *sides: Side) -> Iterator[Grid]:
    """Yield all grids on these sides of the task's pairs."""
    for pair in task.train + task.test:
        for side in sides:
            grid = getattr(pair, side)
            if grid is not None:
                yield grid


def map_grids(task: Task, on_input: Callable[[Grid], Grid], on_output: Callable[[Grid], Grid]) -> Task:
    """Return the task with the function of its side applied to every grid."""

    def mapped(pair: Pair) -> Pair:
        output = pair.output
        return Pair(input=on_input(pair.input), output=None if output is None else on_output(output))

    return Task(
        id=task.id, train=tuple(map(mapped, task.train)), test=tuple(map(mapped, task.test)), split=task.split
    )


def _changed(program: Program, text: str | None) -> Program | None:
    return None if text is None else replace(program, text=text)


class GridStep(ABC):
    """A step that treats every grid of the task the same way."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def apply_grid(self, grid: Grid) -> Grid: ...

    def longest_side(self, grid: Grid) -> int:
        """Return the longest side of the grid that `apply_grid` would make."""
        return int(max(grid.shape))

    def apply(self, task: Task) -> Task:
        return map_grids(task, self.apply_grid, self.apply_grid)

    def carry(self, program: Program, task: Task) -> Program | None:
        return None


@dataclass(frozen=True)
class Symmetry(GridStep):
    """One of the eight symmetries of the square: a transposition first (4 to 7), then quarter turns."""

    index: int

    @property
    def name(self) -> str:
        return SYMMETRIES[self.index]

    def apply_grid(self, grid: Grid) -> Grid:
        return TURNS[SYMMETRIES[self.index]](grid)

    def undo(self, grid: Grid) -> Grid:
        return TURNS[INVERSES.get(self.name, self.name)](grid)

    def carry(self, program: Program, task: Task) -> Program | None:
        shapes = {grid.shape for grid in grids_of(task, "input")}
        if len(shapes) > 1:  # where a shape is turned to depends on them
            return None
        height, width = shapes.pop()
        return _changed(program, language(program.language).turn(program.text, self.name, height, width))


@dataclass(frozen=True)
class ColourMap(GridStep):
    """Colour c becomes `table[c]`."""

    table: NDArray[np.uint8]

    @property
    def name(self) -> str:
        return "colours_" + "".join(map(str, self.table.tolist()))

    def apply_grid(self, grid: Grid) -> Grid:
        return self.table.take(grid)

    def undo(self, grid: Grid) -> Grid:
        return self.table.argsort().astype(np.uint8)[grid]

    def carry(self, program: Program, task: Task) -> Program | None:
        mapping = dict(enumerate(self.table.tolist()))
        return _changed(program, language(program.language).recolour(program.text, mapping))


@dataclass(frozen=True)
class Shift(GridStep):
    """Cells move down and to the right (up and to the left if negative) and wrap around."""

    rows: int
    columns: int

    @property
    def name(self) -> str:
        return f"translate_{self.rows:+d}{self.columns:+d}"

    def apply_grid(self, grid: Grid) -> Grid:
        return np.roll(grid, (self.rows, self.columns), (0, 1))

    def undo(self, grid: Grid) -> Grid:
        return np.roll(grid, (-self.rows, -self.columns), (0, 1))


@dataclass(frozen=True)
class Magnified(GridStep):
    """Each cell becomes a block of rows x columns cells."""

    rows: int
    columns: int

    @property
    def name(self) -> str:
        return f"upscale_{self.rows}x{self.columns}"

    def apply_grid(self, grid: Grid) -> Grid:
        return grid.repeat(self.rows, 0).repeat(self.columns, 1)

    def longest_side(self, grid: Grid) -> int:
        return int(max(grid.shape[0] * self.rows, grid.shape[1] * self.columns))

    def undo(self, grid: Grid) -> Grid:
        cells = grid[:: self.rows, :: self.columns]
        if not np.array_equal(self.apply_grid(cells), grid):
            raise NotInImage("not_upscaled")
        return cells


@dataclass(frozen=True)
class Tiled(GridStep):
    """Repeats the grid `rows` times downwards and `columns` times to the right.

    If mirrored, each copy is the reflection of its neighbour.
    """

    rows: int
    columns: int
    mirrored: bool

    @property
    def name(self) -> str:
        return f"{'mirror' if self.mirrored else 'tile'}_{self.rows}x{self.columns}"

    def apply_grid(self, grid: Grid) -> Grid:
        for axis, times in enumerate((self.rows, self.columns)):
            other = np.flip(grid, axis) if self.mirrored else grid
            grid = np.concatenate([other if copy % 2 else grid for copy in range(times)], axis)
        return grid

    def longest_side(self, grid: Grid) -> int:
        return int(max(grid.shape[0] * self.rows, grid.shape[1] * self.columns))

    def undo(self, grid: Grid) -> Grid:
        height, width = grid.shape
        tile = grid[: height // self.rows, : width // self.columns]
        if not np.array_equal(self.apply_grid(tile), grid):
            raise NotInImage("not_tiled")
        return tile


@dataclass(frozen=True)
class Padded(GridStep):
    """Adds a frame of one colour, `size` cells wide, around the grid."""

    size: int
    colour: int

    @property
    def name(self) -> str:
        return f"padding_{self.size}_colour_{self.colour}"

    def apply_grid(self, grid: Grid) -> Grid:
        return np.pad(grid, self.size, constant_values=self.colour)

    def longest_side(self, grid: Grid) -> int:
        return int(max(grid.shape)) + 2 * self.size


@dataclass(frozen=True)
class OneSided:
    """A step on the inputs only or the outputs only. It makes another task, so there is no undo."""

    side: Side
    step: GridStep

    @property
    def name(self) -> str:
        return f"{self.side}_{self.step.name}"

    def apply(self, task: Task) -> Task:
        change, keep = self.step.apply_grid, TURNS["identity"]
        return map_grids(task, change, keep) if self.side == "input" else map_grids(task, keep, change)

    def carry(self, program: Program, task: Task) -> Program | None:
        return None


@dataclass(frozen=True)
class PairOrder:
    """Reorders all pairs, demonstrations and tests, and splits them again at the same place."""

    permutation: tuple[int, ...]

    @property
    def name(self) -> str:
        return "swap"

    def apply(self, task: Task) -> Task:
        pairs = task.train + task.test
        ordered = tuple([pairs[index] for index in self.permutation])
        cut = len(task.train)
        return Task(id=task.id, train=ordered[:cut], test=ordered[cut:], split=task.split)

    def carry(self, program: Program, task: Task) -> Program:
        return program


@dataclass(frozen=True)
class DemonstrationOrder(PairOrder):
    """Reorders the demonstrations; each test pair keeps its place and thus its answer."""

    @property
    def name(self) -> str:
        return "order"

    def undo(self, grid: Grid) -> Grid:
        return grid
