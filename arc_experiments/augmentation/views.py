"""Views: several augmented versions of a validation task, each exactly invertible.

View v of a task is a function of (seed, task id, v). View 0 is the unchanged task; the others cycle through
the symmetries, so that eight views cover all eight, with random colours and order.
"""

from dataclasses import dataclass

from arc_experiments.augmentation.augmentations import Colours, Order
from arc_experiments.augmentation.steps import SYMMETRIES, GridStep, Reversible, Symmetry
from arc_experiments.tasks import Task
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.rngs import rng_for


@dataclass(frozen=True, kw_only=True)
class View:
    """Steps to apply in order and to undo in reverse.

    Raises:
        ValueError: a step cannot be undone.
    """

    index: int
    steps: tuple[Reversible, ...] = ()

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, Reversible):
                raise ValueError(
                    f"{step.name} makes another task, so answers cannot be undone: use it in training only"
                )

    @property
    def name(self) -> str:
        return " ".join(step.name for step in self.steps) or "identity"

    def apply(self, task: Task) -> Task:
        for step in self.steps:
            task = step.apply(task)
        return task

    def see(self, grid: Grid) -> Grid:
        """Return a grid of the task as it looks in this view."""
        for step in self.steps:
            if isinstance(step, GridStep):
                grid = step.apply_grid(grid)
        return grid

    def undo(self, grid: Grid) -> Grid:
        """Map an answer back to the original task; raise NotInImage if no grid becomes this one."""
        for step in reversed(self.steps):
            grid = step.undo(grid)
        return grid


def draw_views(task: Task, num_views: int, seed: int) -> list[View]:
    """Return the first `num_views` views of the task; a larger number only adds views."""
    return [View(index=0), *(_draw_view(task, index, seed) for index in range(1, num_views))]


def _draw_view(task: Task, index: int, seed: int) -> View:
    rng = rng_for("view", seed, task.id, index)
    drawn = (Symmetry(index % len(SYMMETRIES)), Colours().draw(task, rng), Order().draw(task, rng))
    return View(index=index, steps=tuple(step for step in drawn if step is not None))
