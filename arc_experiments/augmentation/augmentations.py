"""Transforms, as described by an augmentation YAML: each draws a step for a task, or leaves it unchanged.

    made = augment(task, [Geometry(), Colours()], rng)
    made.task     # the task, turned and recoloured
    made.steps    # Symmetry(1), ColourMap(...): their names are rot90 and colours_0317...

A transform draws all its numbers in one call and always the same number of them, so that switching it off
(probability 0) does not change what the others draw.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

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
from arc_experiments.config.user_code.classes import place_of
from arc_experiments.tasks import Task
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, Grid


class Transform(Protocol):
    """An augmentation; `draw` returns None to leave the task unchanged.

    One whose class has `carries_programs = True` draws steps that can `carry` some programs; others cannot be
    used in training on programs.
    """

    def draw(self, task: Task, rng: np.random.Generator) -> Step | None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Augmented:
    """A task and the steps that made it, in order.

    Attributes:
        num_left_out: further steps, which were drawn and could not be carried into the task's program.
    """

    task: Task
    steps: tuple[Step, ...]
    num_left_out: int = 0


def augment(
    task: Task, transforms: Sequence[Transform], rng: np.random.Generator, *, keeps_program: bool = False
) -> Augmented:
    """Draw and apply the transforms in order.

    Args:
        keeps_program: change the task's program along, and leave a step out for which this cannot be done;
            otherwise the task loses its program.

    Raises:
        ValueError: a transform draws something other than a step.
    """
    steps, num_left_out = [], 0
    for transform in transforms:
        step = transform.draw(task, rng)
        if step is None:
            continue
        if not callable(getattr(step, "apply", None)):
            raise ValueError(_no_step(transform, step))
        program = task.program if keeps_program else None
        if program is not None:
            program = step.carry(program, task)
            if program is None:
                num_left_out += 1
                continue
        task = replace(step.apply(task), program=program)
        steps.append(step)
    return Augmented(task=task, steps=tuple(steps), num_left_out=num_left_out)


def _no_step(transform: Transform, drawn: object) -> str:
    kind = type(transform)
    return (
        f"augmentation, _target_={kind.__module__}.{kind.__qualname__}: {place_of(kind.draw)}: draw returned "
        f"{drawn!r}, which is no step: return a step, whose apply(task) gives the new task, or None"
    )


def check_probability(**values: float) -> None:
    """Raise ValueError if a value is outside 0..1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is not within 0..1")


def check_at_least(least: int, **values: int) -> None:
    """Raise ValueError if a value is below the least."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name}={value} is too small: at least {least}")


def fits(step: GridStep, grids: Iterable[Grid]) -> bool:
    """Return whether every grid would have at most 30 cells a side."""
    return all(step.longest_side(grid) <= MAX_SIDE for grid in grids)


def permutation(uniforms: list[float]) -> tuple[int, ...]:
    """Return the order that sorts these numbers; for independent uniforms, every order is equally likely."""
    return tuple(sorted(range(len(uniforms)), key=uniforms.__getitem__))


def factors(uniform: float, largest: int) -> tuple[int, int]:
    """Map a number in [0, 1) to rows and columns, each 1..largest but not both 1."""
    rows, columns = divmod(1 + int(uniform * (largest**2 - 1)), largest)
    return rows + 1, columns + 1


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Applies one of the eight symmetries, each equally likely, to all grids of the task."""

    carries_programs: ClassVar[bool] = True

    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> Symmetry | None:
        chance, which = rng.random(2).tolist()
        return Symmetry(int(which * len(SYMMETRIES))) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Permutes the colours; the background (0) takes part with `background_probability` only."""

    carries_programs: ClassVar[bool] = True

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
    """Shuffles the demonstrations."""

    carries_programs: ClassVar[bool] = True

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
    """Pools, shuffles and splits demonstrations and tests; for training, where all outputs are known."""

    carries_programs: ClassVar[bool] = True

    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)

    def draw(self, task: Task, rng: np.random.Generator) -> PairOrder | None:
        chance, *keys = rng.random(1 + len(task.train) + len(task.test)).tolist()
        return PairOrder(permutation(keys)) if chance < self.probability else None


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Shifts all grids equally, by up to `max_shift` cells each way, wrapping around."""

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
    """Enlarges every cell to a block of up to `max_factor` cells each way if all grids still fit."""

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
    """Repeats every grid up to `max_repeats` times each way if all still fit, perhaps mirrored."""

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
