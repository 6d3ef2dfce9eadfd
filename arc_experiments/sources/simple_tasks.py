"""Tasks of one plain rule, for models that must first learn to see: read, copy, recolour, turn.

    data=see                              all four, new ones on every visit
    data=see data.source.rules=[read]     a grid to be written down, without demonstrations

A task to read shows no demonstrations and its output is its input; only a model that sees pictures learns
something from it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from arc_experiments.sources.pools.pooled import check_demonstrations
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, TURNS, Grid
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.tasks.source import BadTasks, FixedTasks
from arc_experiments.tasks.task import Pair, Task, TaskSet

RULES = ("read", "copy", "recolour", "turn")
MAX_CHANGED = 3  # colours that a task recolours
MAX_COLOURS = 5  # of one grid
MAX_TRIES = 1000  # for grids that show the rule


@dataclass(frozen=True, kw_only=True)
class SimpleTasks:
    """A training source of simple tasks; each rule is a task by its id.

    Attributes:
        rules: which are drawn, each as often.
        side: range from which each grid's height and width are drawn.
        num_demonstrations: minimum and maximum of demonstration pairs; one test pair is added.
    """

    rules: list[str] = field(default_factory=lambda: list(RULES))
    side: list[int] = field(default_factory=lambda: [1, 6])
    num_demonstrations: list[int] = field(default_factory=lambda: [2, 3])

    def __post_init__(self) -> None:
        if not self.rules or set(self.rules) - set(RULES) or len({*self.rules}) < len(self.rules):
            raise ValueError(f"rules={self.rules} is not some of {', '.join(RULES)}")
        if len(self.side) != 2 or not 1 <= self.side[0] <= self.side[1] <= MAX_SIDE or self.side[1] == 1:
            raise ValueError(f"side={self.side} is not [minimum, maximum] within 1..{MAX_SIDE}, beyond 1 x 1")
        check_demonstrations(self.num_demonstrations)

    def read(self, bad_tasks: BadTasks) -> "SimpleTasks":
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"simple_{rule}" for rule in self.rules)

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        return self.task(self.ids[number], self.rules[number], rng, split="training")

    def pairs(self, number: int) -> Iterable[Pair]:
        return ()

    def language(self, number: int) -> None:
        return None

    def task(self, task_id: str, rule: str, rng: np.random.Generator, split: str) -> Task:
        """Make a task of a rule, as a function of the rng alone."""
        low, high = self.num_demonstrations
        count = 1 if rule == "read" else int(rng.integers(low, high + 1)) + 1
        make = {"recolour": self._recoloured, "turn": self._turned}.get(rule, self._unchanged)
        pairs = make(count, rng)
        return Task(id=task_id, train=tuple(pairs[:-1]), test=(pairs[-1],), split=split)

    def _unchanged(self, count: int, rng: np.random.Generator) -> list[Pair]:
        grids = [self._grid(rng) for _ in range(count)]
        return [Pair(input=grid, output=grid.copy()) for grid in grids]

    def _recoloured(self, count: int, rng: np.random.Generator) -> list[Pair]:
        """Give one to three colours others; each is seen to change before the test pair."""
        for _ in range(MAX_TRIES):
            grids = [self._grid(rng) for _ in range(count)]
            shown = set(np.concatenate([grid.ravel() for grid in grids[:-1]]).tolist())
            num_changed = int(rng.integers(1, MAX_CHANGED + 1))
            changed = rng.permutation(NUM_COLOURS)[:num_changed]
            to = (changed + rng.integers(1, NUM_COLOURS, num_changed)) % NUM_COLOURS
            # Every colour of the test input has been seen, and one of them changes.
            tested = set(grids[-1].ravel().tolist())
            if tested <= shown and tested & set(changed.tolist()):
                table = np.arange(NUM_COLOURS, dtype=np.uint8)
                table[changed] = to
                return [Pair(input=grid, output=table[grid]) for grid in grids]
        raise ValueError(f"data=see: no task to recolour was found with side={self.side}: take larger grids")

    def _turned(self, count: int, rng: np.random.Generator) -> list[Pair]:
        """Turn or reflect all grids in one way, which some demonstration alone fits."""
        name = list(TURNS)[int(rng.integers(1, len(TURNS)))]
        for _ in range(MAX_TRIES):
            grids = [self._grid(rng) for _ in range(count)]
            fitting = [
                other
                for other, turn in TURNS.items()
                if all(np.array_equal(turn(grid), TURNS[name](grid)) for grid in grids[:-1])
            ]
            if fitting == [name]:
                return [Pair(input=grid, output=np.ascontiguousarray(TURNS[name](grid))) for grid in grids]
        raise ValueError(f"data=see: no task to turn was found with side={self.side}: take larger grids")

    def _grid(self, rng: np.random.Generator) -> Grid:
        """Make a grid of few colours: cells at random, of which up to all are of the first colour."""
        height, width = rng.integers(self.side[0], self.side[1] + 1, 2)
        colours = rng.permutation(NUM_COLOURS)[: rng.integers(1, MAX_COLOURS + 1)].astype(np.uint8)
        grid = colours[rng.integers(0, len(colours), (height, width))]
        grid[rng.random((height, width)) < rng.random()] = colours[0]
        return grid


@dataclass(frozen=True, kw_only=True)
class FixedSimpleTasks(SimpleTasks):
    """A list of simple tasks that is always the same, to validate on; its parts are named after the rules.

    Attributes:
        num_tasks: of each rule.
        seed: of the tasks; another one gives others.
    """

    num_tasks: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_tasks < 1:
            raise ValueError(f"num_tasks={self.num_tasks} is not at least 1")

    def read(self, bad_tasks: BadTasks) -> FixedTasks:  # type: ignore[override]
        return FixedTasks(TaskSet(self._tasks()))

    def _tasks(self) -> Iterator[Task]:
        for number in range(self.num_tasks):  # so that the first of them are of all rules
            for rule in self.rules:
                task_id = f"{rule}_{number:04d}"
                yield self.task(task_id, rule, rng_for(task_id, self.seed), split=rule)
