"""Drawings: tasks whose rule is a program of the language `draw`, which is written down with each task.

    data=draw                                                  tasks of 1 to 5 draws, new ones on every visit
    data=draw data.validation_source.num_draws=[9,12,16]       validated on larger drawings

The inputs of a task are canvases of one size, each of another colour, with or without cells of noise. Every
draw shows in the demonstrations: without it some output would be different. Nothing is drawn in the colour of
the only demonstration's canvas, where a shape could not be told from what is left of those below it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arc_experiments.programs.canvases import paint
from arc_experiments.programs.languages.draw import SHAPES, Call, in_order, write_calls
from arc_experiments.sources.pools.pooled import check_demonstrations
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.tasks.source import BadTasks, FixedTasks
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet

MIN_SIDE = 3  # the smallest outline that is no filled rectangle
MAX_TRIES = 50  # for a draw that shows, before the drawing is begun anew
MAX_DRAWINGS = 200
NUM_NOISE_COLOURS = 3

Below = Callable[[int], int]  # a random number from 0 to below n


@dataclass(frozen=True, kw_only=True)
class Canvases:
    """How drawings look, whatever their number of draws.

    Attributes:
        side: range from which the number of rows and the number of columns of a task's grids are drawn.
        num_demonstrations: minimum and maximum of demonstration pairs; one test pair is added.
        noise: range from which a task's share of input cells of other colours is drawn, within 0..0.5.
        shapes: which are drawn, each as often.
    """

    side: list[int] = field(default_factory=lambda: [5, 10])
    num_demonstrations: list[int] = field(default_factory=lambda: [1, 2])
    noise: list[float] = field(default_factory=lambda: [0.0, 0.0])
    shapes: list[str] = field(default_factory=lambda: list(SHAPES))

    def __post_init__(self) -> None:
        if len(self.side) != 2 or not MIN_SIDE <= self.side[0] <= self.side[1] <= MAX_SIDE:
            raise ValueError(f"side={self.side} is not [minimum, maximum] within {MIN_SIDE}..{MAX_SIDE}")
        check_demonstrations(self.num_demonstrations)
        if self.num_demonstrations[1] >= NUM_COLOURS:
            raise ValueError(
                f"num_demonstrations={self.num_demonstrations} is over {NUM_COLOURS - 1}: each canvas of a "
                "task has another colour"
            )
        if len(self.noise) != 2 or not 0 <= self.noise[0] <= self.noise[1] <= 0.5:
            raise ValueError(f"noise={self.noise} is not [low, high] within 0..0.5")
        if not self.shapes or set(self.shapes) - set(SHAPES):
            raise ValueError(f"shapes={self.shapes} is not some of {', '.join(SHAPES)}")

    def drawing(
        self, task_id: str, num_draws: int, rng: np.random.Generator, split: str, *, open_end: bool = False
    ) -> Task:
        """Draw a task, as a function of the rng alone.

        Raises:
            ValueError: so many draws do not all show on such canvases.
        """
        below = _numbers_below(rng)
        for _ in range(MAX_DRAWINGS):
            inputs, canvases = self._inputs(rng)
            unseen = canvases[0] if len(canvases) == 2 else None
            drawn = self._calls(inputs, num_draws, below, unseen)
            if drawn is not None:
                calls, outputs = drawn
                pairs = tuple(
                    Pair(input=before, output=after) for before, after in zip(inputs, outputs, strict=True)
                )
                text = write_calls(in_order(calls))
                program = Program(language="draw", text=text, open_end=open_end)
                return Task(id=task_id, train=pairs[:-1], test=pairs[-1:], split=split, program=program)
        raise ValueError(
            f"data=draw: no drawing of {num_draws} draws that all show was found in {MAX_DRAWINGS} "
            f"tries with side={self.side} and shapes={self.shapes}: take larger canvases, "
            "more shapes or fewer draws"
        )

    def _inputs(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[int]]:
        """Make the inputs of a task, shape (pairs, rows, columns), and list their canvases' colours."""
        low, high = self.num_demonstrations
        count = int(rng.integers(low, high + 1)) + 1
        rows, columns = rng.integers(self.side[0], self.side[1] + 1, 2).tolist()
        inputs = np.empty((count, rows, columns), np.uint8)
        canvases = rng.permutation(NUM_COLOURS)[:count]
        inputs[:] = canvases[:, np.newaxis, np.newaxis]
        if self.noise[1]:
            noisy = rng.random(inputs.shape) < rng.uniform(self.noise[0], self.noise[1])
            colours = rng.integers(0, NUM_COLOURS, NUM_NOISE_COLOURS, np.uint8)
            inputs[noisy] = colours[rng.integers(0, NUM_NOISE_COLOURS, np.count_nonzero(noisy))]
        return inputs, canvases.tolist()

    def _calls(
        self, inputs: NDArray[np.uint8], num_draws: int, below: Below, unseen: int | None
    ) -> tuple[list[Call], NDArray[np.uint8]] | None:
        """Draw the calls of a program, and what it makes of the inputs; None if some draw does not show.

        With the outputs of the program so far go those of the program without its first call, without its
        second, and so on; a further call must leave all of them different.

        Args:
            unseen: a colour in which nothing is drawn.
        """
        count, rows, columns = inputs.shape
        calls: list[Call] = []
        outputs = inputs[np.newaxis]  # shape (1 + calls, pairs, rows, columns)
        for _ in range(num_draws):
            for _ in range(MAX_TRIES):
                call = DRAWN[self.shapes[below(len(self.shapes))]](rows, columns, below)
                if call[1] == unseen:
                    continue
                after = np.concatenate([outputs, outputs[:1]])
                paint(after[:-1].reshape(-1, rows, columns), call)
                differ = after[1:, :-1] != after[0, :-1]  # in the demonstrations
                if differ.reshape(len(after) - 1, -1).any(1).all():
                    break
            else:
                return None
            calls.append(call)
            outputs = after
        distinct = {grid.tobytes() for grid in inputs}
        return (calls, outputs[0]) if len(distinct) == count else None


@dataclass(frozen=True, kw_only=True)
class Drawings(Canvases):
    """A training source of drawings, new ones on every visit; each number of draws is a task by its id.

    Attributes:
        draws: minimum and maximum of a program's draws.
        open_end: whether the end of the longest programs has no loss: else a model learns that after so many
            draws nothing can follow, whatever it sees.
    """

    draws: list[int] = field(default_factory=lambda: [1, 5])
    open_end: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.draws) != 2 or not 1 <= self.draws[0] <= self.draws[1]:
            raise ValueError(f"draws={self.draws} is not [minimum, maximum] from 1 on")

    def read(self, bad_tasks: BadTasks) -> "Drawings":
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"draw_k{num_draws:02d}" for num_draws in range(self.draws[0], self.draws[1] + 1))

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        num_draws = self.draws[0] + number
        open_end = self.open_end and num_draws == self.draws[1]
        return self.drawing(self.ids[number], num_draws, rng, split="training", open_end=open_end)

    def pairs(self, number: int) -> Iterable[Pair]:
        return ()

    def language(self, number: int) -> str:
        return "draw"


@dataclass(frozen=True, kw_only=True)
class FixedDrawings(Canvases):
    """A list of drawings that is always the same, to validate on: `draw_k09_0007` has nine draws.

    Attributes:
        num_draws: numbers of draws.
        num_tasks: of each number of draws.
        seed: of the drawings; another one gives others.
    """

    num_draws: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    num_tasks: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.num_draws or min(self.num_draws) < 1 or len({*self.num_draws}) < len(self.num_draws):
            raise ValueError(f"num_draws={self.num_draws} is not a list of different numbers from 1 on")
        if self.num_tasks < 1:
            raise ValueError(f"num_tasks={self.num_tasks} is not at least 1")

    def read(self, bad_tasks: BadTasks) -> FixedTasks:
        return FixedTasks(TaskSet(self._tasks()))

    def _tasks(self) -> Iterator[Task]:
        for num_draws in self.num_draws:
            for number in range(self.num_tasks):
                task_id = f"draw_k{num_draws:02d}_{number:04d}"
                yield self.drawing(task_id, num_draws, rng_for(task_id, self.seed), split="evaluation")


def _numbers_below(rng: np.random.Generator) -> Below:
    """Return a function that draws from the rng, many numbers at once."""

    def floats() -> Iterator[float]:
        while True:
            yield from rng.random(64).tolist()

    one = floats()
    return lambda n: int(next(one) * n)


def _one_cell(shape: str) -> Callable[[int, int, Below], Call]:
    def drawn(rows: int, columns: int, below: Below) -> Call:
        return shape, below(NUM_COLOURS), below(rows), below(columns)

    return drawn


def _two_corners(shape: str, least: int) -> Callable[[int, int, Below], Call]:
    """Return a function that draws a shape of at least so many rows and columns."""

    def drawn(rows: int, columns: int, below: Below) -> Call:
        top, bottom = _ends(rows, least, below)
        left, right = _ends(columns, least, below)
        return shape, below(NUM_COLOURS), top, left, bottom, right

    return drawn


def _ends(side: int, least: int, below: Below) -> tuple[int, int]:
    """Draw the first and the last of at least `least` rows, each such pair being as likely."""
    while True:
        first, last = below(side), below(side)
        if last - first >= least - 1:
            return first, last


def _line(rows: int, columns: int, below: Below) -> Call:
    """Draw a horizontal, vertical or diagonal line of at least two cells."""
    colour, direction = below(NUM_COLOURS), below(4)
    if direction == 0:
        row, (left, right) = below(rows), _ends(columns, 2, below)
        return "line", colour, row, left, row, right
    if direction == 1:
        column, (top, bottom) = below(columns), _ends(rows, 2, below)
        return "line", colour, top, column, bottom, column
    length = 1 + below(min(rows, columns) - 1)
    row, column = below(rows - length), below(columns - length)
    left, right = (column, column + length) if direction == 2 else (column + length, column)
    return "line", colour, row, left, row + length, right


# How each shape is drawn at random on a canvas of so many rows and columns, in its plainest form.
DRAWN: dict[str, Callable[[int, int, Below], Call]] = {
    "pixel": _one_cell("pixel"),
    "line": _line,
    "rect": _two_corners("rect", 2),
    "box": _two_corners("box", 3),
    "flood": _one_cell("flood"),
}
