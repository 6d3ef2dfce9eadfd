"""Views: a validation task seen in several ways, each with its exact way back.

View v of a task is a function of (seed, task id, v). View 0 is the task as it is; the others take the
symmetries in turn, so that eight views hold all eight, with colours and order drawn.
"""

from dataclasses import dataclass

from arc_experiments.augmentation.steps import SYMMETRIES, Reversible, Symmetry
from arc_experiments.augmentation.transforms import Colours, Order
from arc_experiments.tasks import Task
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.rngs import rng_for


@dataclass(frozen=True, kw_only=True)
class View:
    """Steps to apply in order, and to undo in reverse.

    Raises:
        ValueError: a step that cannot be undone.
    """

    index: int
    steps: tuple[Reversible, ...] = ()

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, Reversible):
                raise ValueError(
                    f"{step.name} makes another task, so no answer to it can be turned back: train only"
                )

    @property
    def name(self) -> str:
        return " ".join(step.name for step in self.steps) or "identity"

    def apply(self, task: Task) -> Task:
        for step in self.steps:
            task = step.apply(task)
        return task

    def undo(self, grid: Grid) -> Grid:
        """The answer in the original task's terms; raises NotInImage where no grid becomes this one."""
        for step in reversed(self.steps):
            grid = step.undo(grid)
        return grid


def draw_views(task: Task, num_views: int, seed: int) -> list[View]:
    """The first `num_views` views of the task; a larger number keeps the smaller one's views."""
    return [View(index=0), *(_draw_view(task, index, seed) for index in range(1, num_views))]


def _draw_view(task: Task, index: int, seed: int) -> View:
    rng = rng_for("view", seed, task.id, index)
    drawn = (
        Symmetry(index % len(SYMMETRIES)),
        Colours().draw(task, rng),
        Order().draw(task, rng),
    )
    return View(index=index, steps=tuple(step for step in drawn if step is not None))
