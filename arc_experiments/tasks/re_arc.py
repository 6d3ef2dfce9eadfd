"""RE-ARC: the 400 ARC-AGI-1 training tasks as generators, which make new pairs without end.

The generators are those of the reasoning-gym package (M. Hodel's RE-ARC). A pair depends on the rng that is
handed in and on nothing else; pairs with bad cells, over 30 a side, unchanged, or equal to another pair of
the task are drawn again, at most `MAX_TRIES` times.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from arc_experiments.grids import GridError, check_grid
from arc_experiments.tasks.source import BadTasks
from arc_experiments.tasks.task import Pair, Task, TaskSet

MAX_TRIES = 100
INSTALL = "pip install 'arc_experiments[re-arc]' && pip install --no-deps reasoning-gym==0.1.25"


@dataclass(frozen=True, kw_only=True)
class ReArc:
    """A training source of 400 tasks whose pairs are made at each visit.

    Attributes:
        difficulty: range, within 0..1, that each pair's difficulty is drawn from.
        num_demonstrations: at least and at most so many demonstration pairs; one test pair is added.
    """

    difficulty: list[float] = field(default_factory=lambda: [0.0, 1.0])
    num_demonstrations: list[int] = field(default_factory=lambda: [3, 5])

    def __post_init__(self) -> None:
        if len(self.difficulty) != 2 or not 0 <= self.difficulty[0] <= self.difficulty[1] <= 1:
            raise ValueError(f"difficulty={self.difficulty} is not [low, high] within 0..1")
        if (
            len(self.num_demonstrations) != 2
            or not 1 <= self.num_demonstrations[0] <= self.num_demonstrations[1]
        ):
            raise ValueError(f"num_demonstrations={self.num_demonstrations} is not [at least, at most]")

    def read(self, bad_tasks: BadTasks) -> "ReArc":
        return self

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def pairs(self, number: int) -> Iterable[Pair]:
        return ()

    @cached_property
    def _generators(self) -> dict[str, Callable[..., dict[str, Any]]]:
        try:
            from reasoning_gym.arc.rearc_utils import generators
        except ImportError as error:
            raise ValueError(f"data=re_arc needs reasoning-gym ({error}): {INSTALL}") from error
        prefix = "generate_"
        names = sorted(name for name in vars(generators) if name.startswith(prefix))
        return {name.removeprefix(prefix): getattr(generators, name) for name in names}

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._generators)

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        task_id = self.ids[number]
        low, high = self.num_demonstrations
        pairs: list[Pair] = []
        seen: set[bytes] = set()
        wanted = int(rng.integers(low, high + 1)) + 1
        for _ in range(MAX_TRIES):
            pair = self._make_pair(task_id, rng)
            key = b"" if pair is None else pair.input.tobytes() + bytes(pair.input.shape)
            if pair is not None and key not in seen:
                seen.add(key)
                pairs.append(pair)
            if len(pairs) == wanted:
                return Task(id=task_id, train=tuple(pairs[:-1]), test=(pairs[-1],), split="re_arc")
        raise ValueError(
            f"re_arc: task {task_id} gave {len(pairs)} of {wanted} valid pairs in {MAX_TRIES} tries"
        )

    def _make_pair(self, task_id: str, rng: np.random.Generator) -> Pair | None:
        """One pair, or None where the generator's answer is not a pair of two different grids."""
        own = random.Random(int(rng.integers(2**63)))
        try:
            made = self._generators[task_id](own, *self.difficulty)
        except Exception:  # noqa: BLE001 (a generator may paint itself into a corner, in its own way)
            return None
        try:
            pair = Pair(input=check_grid(made["input"]), output=check_grid(made["output"]))
        except GridError:
            return None
        assert pair.output is not None
        return None if np.array_equal(pair.input, pair.output) else pair
