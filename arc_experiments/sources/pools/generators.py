"""RE-ARC's generators: for each of the 400 ARC-AGI-1 training tasks a function that makes new pairs without end.

They are those of the reasoning-gym package (M. Hodel's RE-ARC). A pair depends on the rng that is handed in and on
nothing else. Pairs that teach nothing or are none (see `Recipe.next_pair`) are drawn again and counted.

At low difficulties a few generators give nothing else, and with small grids alone many: which do is found out before
(see `generated_store`), so that a visit need not give up.
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arc_experiments.tasks.grids import MAX_SIDE, GridError, check_grid
from arc_experiments.tasks.task import Pair, Task, TaskSet

VALIDATION = 1  # the version of what `Recipe` refuses: caches depend on it
MAX_TRIES = 10_000
PACKAGE = "reasoning-gym"
INSTALL = f"pip install 'arc_experiments[re-arc]' && pip install --no-deps {PACKAGE}==0.1.25"


@functools.cache
def generators() -> dict[str, Callable[..., dict[str, Any]]]:
    """The generators by task id, in the order of the ids.

    Raises:
        ValueError: reasoning-gym is not installed; with what installs it.
    """
    try:
        from reasoning_gym.arc.rearc_utils import generators as module  # 1 s, and only where it is used
    except ImportError as error:
        raise _not_installed(error) from error
    prefix = "generate_"
    names = sorted(name for name in vars(module) if name.startswith(prefix))
    return {name.removeprefix(prefix): getattr(module, name) for name in names}


def package_version() -> str:
    """Of the package that the generators are from.

    Raises:
        ValueError: it is not installed; with what installs it.
    """
    from importlib.metadata import PackageNotFoundError, version  # 30 ms, and only where it is used

    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise _not_installed(error) from error


def _not_installed(error: Exception) -> ValueError:
    return ValueError(f"data=re_arc needs {PACKAGE} ({error}): {INSTALL}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a pair depends on beside its task and its rng.

    Attributes:
        difficulty: range, within 0..1, that each parameter of a pair is drawn from.
        max_side: the largest grid that is taken.
    """

    difficulty: tuple[float, float] = (0.0, 1.0)
    max_side: int = MAX_SIDE

    def next_pair(
        self,
        task_id: str,
        rng: np.random.Generator,
        seen: set[bytes],
        refused: Counter[str],
        max_tries: int = MAX_TRIES,
    ) -> Pair | None:
        """A pair whose input is none of those seen, which it then is; None if there is none in `max_tries`.

        Counts in `refused` what was drawn before it, by reason: `error` (the generator found no way out), `bad cells`,
        `oversize`, `unchanged` (the output is the input), `constant` (each grid has one colour alone), `duplicate`.
        """
        for _ in range(max_tries):
            made = self._make(task_id, rng)
            if isinstance(made, str):
                refused[made] += 1
                continue
            shown = bytes(made.input.shape) + made.input.tobytes()
            if shown not in seen:
                seen.add(shown)
                return made
            refused["duplicate"] += 1
        return None

    def _make(self, task_id: str, rng: np.random.Generator) -> Pair | str:
        """A pair, or why what the generator made is none."""
        own = random.Random(int(rng.integers(2**63)))
        try:
            made = generators()[task_id](own, *self.difficulty)
        except Exception:  # noqa: BLE001 (a generator may paint itself into a corner, in its own way)
            return "error"
        for grid in made.values():
            if len(grid) > self.max_side or any(len(row) > self.max_side for row in grid):
                return "oversize"
        try:
            pair = Pair(input=check_grid(made["input"]), output=check_grid(made["output"]))
        except GridError:
            return "bad cells"
        assert pair.output is not None
        if np.array_equal(pair.input, pair.output):
            return "unchanged"
        # A grid of one colour says something beside another: the count of colours, a spiral to be drawn.
        constant = pair.input.min() == pair.input.max() and pair.output.min() == pair.output.max()
        return "constant" if constant else pair


@dataclass(frozen=True, kw_only=True)
class GeneratedTasks:
    """Tasks whose pairs are made anew at each visit.

    Attributes:
        num_demonstrations: at least and at most so many in a visit; one test pair is added.
    """

    recipe: Recipe
    num_demonstrations: tuple[int, int]
    ids: tuple[str, ...]

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        """Raises ValueError where the generator has not so many different pairs."""
        task_id, (low, high) = self.ids[number], self.num_demonstrations
        pairs: list[Pair] = []
        seen: set[bytes] = set()
        refused: Counter[str] = Counter()
        for _ in range(int(rng.integers(low, high + 1)) + 1):
            pair = self.recipe.next_pair(task_id, rng, seen, refused)
            if pair is None:
                raise ValueError(
                    f"data=re_arc: the generator of task {task_id} gave no {len(pairs) + 1} different pairs at "
                    f"difficulty={list(self.recipe.difficulty)} in {MAX_TRIES} tries ({_told(refused)}): widen the "
                    f"difficulty, or data.source.leave_out=[{task_id}]"
                )
            pairs.append(pair)
        *train, test = pairs
        return Task(id=task_id, train=tuple(train), test=(test,), split="re_arc", num_redrawn=refused.total())

    def pairs(self, number: int) -> Iterable[Pair]:
        return ()


def _told(refused: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
