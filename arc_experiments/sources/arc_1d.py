"""1D-ARC: rules over grids of one row, as endless generators of pairs; or the published files.

The generators come from the reasoning-gym package, after Y. Xu et al., "LLMs and the Abstraction and
Reasoning Corpus" (arXiv 2305.18354). All pairs of a visit have the same number of cells and are different,
and no output equals its input.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from arc_experiments.programs.re_arc import not_installed
from arc_experiments.sources.files import Files
from arc_experiments.sources.pools.pooled import check_only_generated
from arc_experiments.sources.sampled import without_repetitions
from arc_experiments.tasks.grids import MAX_SIDE, GridError, check_grid
from arc_experiments.tasks.source import BadTasks, TrainingSource
from arc_experiments.tasks.task import Pair, Task, TaskSet

MAX_TRIES = 1000
MIN_CELLS = 8  # what every generator can work with


@dataclass(frozen=True, kw_only=True)
class Arc1D:
    """A training source of about 70 rules with new pairs on every visit.

    Attributes:
        path: reads the published files instead.
        num_cells: range from which the length of a visit's grids is drawn.
        num_demonstrations: minimum and maximum of demonstration pairs; one test pair is added.
    """

    path: str | None = None
    num_cells: list[int] = field(default_factory=lambda: [10, 30])
    num_demonstrations: list[int] = field(default_factory=lambda: [3, 5])

    def __post_init__(self) -> None:
        for key, lowest, highest in (("num_cells", MIN_CELLS, MAX_SIDE), ("num_demonstrations", 1, None)):
            value = getattr(self, key)
            if len(value) != 2 or not lowest <= value[0] <= value[1] or (highest and value[1] > highest):
                within = f" within {lowest}..{highest}" if highest else ""
                raise ValueError(f"{key}={value} is not [minimum, maximum]{within}")
        check_only_generated(self, num_cells=[10, 30], num_demonstrations=[3, 5])

    def read(self, bad_tasks: BadTasks) -> TrainingSource:
        return self if self.path is None else Files(path=self.path).read(bad_tasks)

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def pairs(self, number: int) -> Iterable[Pair]:
        return ()

    def language(self, number: int) -> str | None:
        return None

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(_generators())

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        task_id = self.ids[number]
        make, options = _generators()[task_id]
        own = random.Random(int(rng.integers(2**63)))
        wanted = own.randint(*self.num_demonstrations) + 1
        num_cells = own.randint(*self.num_cells)
        pairs: tuple[Pair, ...] = ()
        for _ in range(MAX_TRIES):
            pairs = without_repetitions([*pairs, *_pairs(make(own, num_cells, **options))])
            if len(pairs) == wanted:
                return Task(id=task_id, train=pairs[:-1], test=pairs[-1:], split="arc_1d")
        raise ValueError(
            f"arc_1d: the generator of task {task_id} made {len(pairs)} of {wanted} different pairs in "
            f"{MAX_TRIES} tries"
        )


@cache  # not on the source, which must be picklable: some generators are lambdas
def _generators() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Return, by task id, a function of an rng, a number of cells and options, and its options."""
    try:
        from reasoning_gym.arc.arc_1d_tasks import ARC_1D_TASKS
    except ImportError as error:
        raise not_installed("data=arc_1d", error) from error
    return {f"1d_{name}": ARC_1D_TASKS[name] for name in sorted(ARC_1D_TASKS)}


def _pairs(made: dict[str, list[int]] | None) -> list[Pair]:
    """Return the pair that a generator made; none if it gave up or made an invalid pair."""
    if made is None or made["input"] == made["output"]:
        return []
    try:
        return [Pair(input=check_grid([made["input"]]), output=check_grid([made["output"]]))]
    except GridError:
        return []
