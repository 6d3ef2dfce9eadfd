"""The transforms: what an augmentation YAML describes. Each draws a step for a task, or leaves it alone.

    made = augment(task, [Geometry(), Colours()], rng)
    made.task     # the task, turned and recoloured
    made.steps    # Symmetry(1), ColourMap(...): their names are rot90 and colours_0317...

A transform draws all its numbers in one call and the same number of them whatever chance decides, so that
switching it off (probability 0) changes nothing of what the others draw.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from arc_experiments.augmentation.steps import (
    SYMMETRIES,
    ColourMap,
    DemonstrationOrder,
    GridStep,
    Magnified,
    PairOrder,
    Shift,
    Step,
    Symmetry,
    Tiled,
    grids_of,
)
from arc_experiments.tasks import Task
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, Grid


class Transform(Protocol):
    """What an augmentation YAML describes. `draw` gives None where the task is left alone."""

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Augmented:
    """A task and the steps that made it, in their order."""

    task: Task
    steps: tuple[Step, ...]


def augment(task: Task, transforms: Sequence[Transform], rng: np.random.Generator) -> Augmented:
    """Draw and apply the transforms in their order."""
    steps = []
    for transform in transforms:
        step = transform.draw(task, rng)
        if step is not None:
            task = step.apply(task)
            steps.append(step)
    return Augmented(task=task, steps=tuple(steps))


def check_probability(**values: float) -> None:
    """Raise ValueError for a value outside 0..1, by its name."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is not within 0..1")


def check_at_least(least: int, **values: int) -> None:
    """Raise ValueError for a value below the least, by its name."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name}={value} is too small: at least {least}")


def fits(step: GridStep, grids: Iterable[Grid]) -> bool:
    """Whether no grid would pass 30 a side."""
    return all(step.longest_side(grid) <= MAX_SIDE for grid in grids)


def permutation(uniforms: list[float]) -> tuple[int, ...]:
    """The order that sorts these numbers: of independent uniform ones, each order is equally likely."""
    return tuple(sorted(range(len(uniforms)), key=uniforms.__getitem__))


def factors(uniform: float, largest: int) -> tuple[int, int]:
    """Rows and columns, each 1..largest but not both 1, from one number in [0, 1)."""
    rows, columns = divmod(1 + int(uniform * (largest**2 - 1)), largest)
    return rows + 1, columns + 1


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """One of the eight symmetries, each equally likely, for all grids of the task alike."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> Symmetry | None:
        chance, which = rng.random(2).tolist()
        return Symmetry(int(which * len(SYMMETRIES))) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Colours:
    """A permutation of the colours; the background (0) is in it with `background_probability` only."""

    probability: float = 1.0
    background_probability: float = 0.1

    def __post_init__(self) -> None:
        check_probability(probability=self.probability, background_probability=self.background_probability)

    def draw(self, task: Task, rng: np.random.Generator) -> ColourMap | None:
        chance, background, *keys = rng.random(2 + NUM_COLOURS).tolist()
        if chance >= self.probability:
            return None
        if background >= self.background_probability:
            keys[0] = -1.0  # the smallest stays first
        return ColourMap(np.array(permutation(keys), dtype=np.uint8))


@dataclass(frozen=True, kw_only=True)
class Order:
    """The demonstrations in random order."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> DemonstrationOrder | None:
        num_train, num_test = len(task.train), len(task.test)
        chance, *keys = rng.random(1 + num_train).tolist()
        if chance >= self.probability:
            return None
        return DemonstrationOrder(permutation(keys) + tuple(range(num_train, num_train + num_test)))


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Demonstrations and tests pooled, shuffled, and cut again: for training, where all outputs are known."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> PairOrder | None:
        chance, *keys = rng.random(1 + len(task.train) + len(task.test)).tolist()
        return PairOrder(permutation(keys)) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Translate:
    """All grids shifted alike, up to `max_shift` cells each way; what leaves comes in on the other side."""

    probability: float = 0.25
    max_shift: int = 3

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)
        check_at_least(1, max_shift=self.max_shift)

    def draw(self, task: Task, rng: np.random.Generator) -> Shift | None:
        chance, *both = rng.random(3).tolist()
        rows, columns = (int(each * (2 * self.max_shift + 1)) - self.max_shift for each in both)
        return Shift(rows, columns) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Every cell of every grid becomes a block of up to `max_factor` cells each way, where all grids still fit."""

    probability: float = 0.25
    max_factor: int = 2

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)
        check_at_least(2, max_factor=self.max_factor)

    def draw(self, task: Task, rng: np.random.Generator) -> Magnified | None:
        chance, which = rng.random(2).tolist()
        if chance >= self.probability:
            return None
        step = Magnified(*factors(which, self.max_factor))
        return step if fits(step, grids_of(task, "input", "output")) else None


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Every grid repeated up to `max_repeats` times each way, where all still fit; maybe mirrored at each seam."""

    probability: float = 0.25
    max_repeats: int = 2
    mirrored_probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(probability=self.probability, mirrored_probability=self.mirrored_probability)
        check_at_least(2, max_repeats=self.max_repeats)

    def draw(self, task: Task, rng: np.random.Generator) -> Tiled | None:
        chance, which, mirrored = rng.random(3).tolist()
        if chance >= self.probability:
            return None
        step = Tiled(*factors(which, self.max_repeats), mirrored < self.mirrored_probability)
        return step if fits(step, grids_of(task, "input", "output")) else None
