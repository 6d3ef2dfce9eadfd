"""The transforms of a task.

A transform (what the config describes) draws a step (what happens to one task); a step applies itself to the
task and undoes itself on an output grid:

    step = Geometry().draw(task, rng)     # e.g. rot90
    seen = step.apply(task)               # every grid of the task turned
    grid = step.undo(seen.test[0].output) # turned back
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arc_experiments.grids import NUM_COLOURS, Grid
from arc_experiments.tasks import Pair, Task

SYMMETRIES = ("identity", "rot90", "rot180", "rot270", "transpose", "transpose_rot90", "transpose_rot180", "transpose_rot270")  # fmt: skip


class Step(Protocol):
    """One transform with its parameters drawn."""

    @property
    def name(self) -> str: ...

    def apply(self, task: Task) -> Task: ...

    def undo(self, grid: Grid) -> Grid: ...


class Transform(Protocol):
    """What an augmentation YAML describes. `draw` gives None where chance leaves the task alone."""

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None: ...


def augment(task: Task, transforms: Sequence[Transform], rng: np.random.Generator) -> Task:
    """Draw and apply the transforms in their order."""
    for transform in transforms:
        step = transform.draw(task, rng)
        if step is not None:
            task = step.apply(task)
    return task


def map_grids(task: Task, function: Callable[[Grid], Grid]) -> Task:
    """The task with every grid replaced by `function(grid)`."""

    def map_pair(pair: Pair) -> Pair:
        return Pair(input=function(pair.input), output=None if pair.output is None else function(pair.output))

    return Task(
        id=task.id,
        train=tuple(map(map_pair, task.train)),
        test=tuple(map(map_pair, task.test)),
        split=task.split,
    )


def _check_probability(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is not within 0..1")


@dataclass(frozen=True)
class Symmetry:
    """One of the eight symmetries of the square: a transposition first (4 to 7), then quarter turns."""

    index: int

    @property
    def name(self) -> str:
        return SYMMETRIES[self.index]

    def apply_grid(self, grid: Grid) -> Grid:
        return np.rot90(grid.T if self.index >= 4 else grid, self.index % 4)

    def apply(self, task: Task) -> Task:
        return map_grids(task, self.apply_grid)

    def undo(self, grid: Grid) -> Grid:
        turned = np.rot90(grid, -(self.index % 4))
        return turned.T if self.index >= 4 else turned


@dataclass(frozen=True)
class ColourMap:
    """Colour c becomes `table[c]`."""

    table: NDArray[np.uint8]

    @property
    def name(self) -> str:
        return "colours_" + "".join(map(str, self.table))

    def apply(self, task: Task) -> Task:
        return map_grids(task, self.table.__getitem__)

    def undo(self, grid: Grid) -> Grid:
        inverse = np.argsort(self.table).astype(np.uint8)
        return inverse[grid]


@dataclass(frozen=True)
class PairOrder:
    """The pairs, demonstrations then tests, taken in this order and cut again at the same place."""

    name: str
    permutation: tuple[int, ...]

    def apply(self, task: Task) -> Task:
        pairs = task.train + task.test
        ordered = [pairs[index] for index in self.permutation]
        cut = len(task.train)
        return Task(id=task.id, train=tuple(ordered[:cut]), test=tuple(ordered[cut:]), split=task.split)

    def undo(self, grid: Grid) -> Grid:
        return grid


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """One of the eight symmetries, each equally likely, for all grids of the task alike."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None:
        chance, index = rng.random(), int(rng.integers(len(SYMMETRIES)))
        return Symmetry(index) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Colours:
    """A permutation of the colours; the background (0) is in it with `background_probability` only."""

    probability: float = 1.0
    background_probability: float = 0.1

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability, background_probability=self.background_probability)

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None:
        chance, background = rng.random(), rng.random() < self.background_probability
        first = 0 if background else 1
        table = np.arange(NUM_COLOURS, dtype=np.uint8)
        table[first:] = first + rng.permutation(NUM_COLOURS - first)
        return ColourMap(table) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Order:
    """The demonstrations in random order."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None:
        chance = rng.random()
        permutation = [
            *rng.permutation(len(task.train)),
            *range(len(task.train), len(task.train) + len(task.test)),
        ]
        return PairOrder("order", tuple(map(int, permutation))) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Demonstrations and tests pooled, shuffled, and cut again: for training, where all outputs are known."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None:
        chance = rng.random()
        permutation = rng.permutation(len(task.train) + len(task.test))
        return PairOrder("swap", tuple(map(int, permutation))) if chance < self.probability else None
