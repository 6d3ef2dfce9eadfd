"""Make a new task by applying one more step to one side of all pairs of a task (arc24).

The task "mirror the grid" with every output padded is the task "mirror the grid, then frame it".
"""

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from arc_experiments.augmentation.augmentations import check_at_least, check_probability, factors, fits
from arc_experiments.augmentation.steps import (
    SYMMETRIES,
    GridStep,
    Magnified,
    OneSided,
    Padded,
    Side,
    Symmetry,
    Tiled,
    grids_of,
)
from arc_experiments.tasks import Task
from arc_experiments.tasks.grids import NUM_COLOURS

KINDS = ("geometric", "padding", "upscale", "mirror")


@dataclass(frozen=True, kw_only=True)
class Compose:
    """Apply one more step to all inputs or all outputs if the grids still fit. For training only.

    Attributes:
        geometric_weight: weight of a symmetry other than the identity.
        padding_weight: weight of a frame of one colour, 1 to `max_padding` cells wide.
        upscale_weight: weight of enlarging cells to blocks of 2 to `max_factor` cells, drawn for each axis.
        mirror_weight: weight of joining the grid with its reflection below, to the right, or both.
    """

    probability: float = 0.5
    geometric_weight: float = 1.0
    padding_weight: float = 1.0
    upscale_weight: float = 1.0
    mirror_weight: float = 1.0
    max_padding: int = 5
    max_factor: int = 4

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)
        check_at_least(1, max_padding=self.max_padding)
        check_at_least(2, max_factor=self.max_factor)
        for kind, weight in zip(KINDS, self._weights, strict=True):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"{kind}_weight={weight} must be finite and at least 0")
        if not sum(self._weights):
            raise ValueError("all weights are 0: make one positive, or remove compose from the list")

    @property
    def _weights(self) -> tuple[float, ...]:
        return self.geometric_weight, self.padding_weight, self.upscale_weight, self.mirror_weight

    def draw(self, task: Task, rng: np.random.Generator) -> OneSided | None:
        chance, first_half, which, one, two = rng.random(5).tolist()
        if chance >= self.probability:
            return None
        side: Side = "input" if first_half < 0.5 else "output"
        step = self._step(which, one, two)
        return OneSided(side, step) if fits(step, grids_of(task, side)) else None

    def _step(self, which: float, one: float, two: float) -> GridStep:
        """Map three uniform numbers to a step."""
        ends = list(accumulate(self._weights))
        kind = KINDS[bisect(ends, which * ends[-1])]
        if kind == "geometric":
            return Symmetry(1 + int(one * (len(SYMMETRIES) - 1)))
        if kind == "padding":
            return Padded(1 + int(one * self.max_padding), int(two * NUM_COLOURS))
        if kind == "upscale":
            return Magnified(*(2 + int(each * (self.max_factor - 1)) for each in (one, two)))
        return Tiled(*factors(one, 2), mirrored=True)
