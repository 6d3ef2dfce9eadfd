"""RE-ARC's generators: one endless generator of pairs for each of the 400 ARC-AGI-1 training tasks.

They come from the reasoning-gym package (M. Hodel's RE-ARC). As in RE-ARC, a pair is kept only if the task's
verifier, a program that solves the task, maps its input to its output: the generators of 31 tasks also make
pairs that break their rule (1.9 % of all pairs, and half of those of 484b58aa). A pair is a function of its
rng alone. Pairs that teach nothing or break the rule (see `Recipe.next_pair`) are redrawn and counted.

At low difficulties a few generators make only such pairs, and many do if only small grids are allowed;
`generated_store` finds out which, so that no visit fails.
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arc_experiments.config.plurals import plural
from arc_experiments.programs.languages.dsl import solution
from arc_experiments.programs.re_arc import PACKAGE, not_installed
from arc_experiments.tasks.grids import MAX_SIDE, Grid, GridError, check_grid
from arc_experiments.tasks.task import Pair, Task, TaskSet

VALIDATION = 2  # the version of the refusals, in the key of every cache; pairs are verified since 2
MAX_TRIES = 10_000
Cells = tuple[tuple[int, ...], ...]  # a grid in the form of RE-ARC's programs


@functools.cache
def generators() -> dict[str, Callable[..., dict[str, Any]]]:
    """Return the generators by task id, in the order of the ids.

    Raises:
        ValueError: reasoning-gym is not installed; the message says how to install it.
    """
    try:
        from reasoning_gym.arc.rearc_utils import generators as module  # takes 1 s
    except ImportError as error:
        raise not_installed("data=re_arc", error) from error
    prefix = "generate_"
    names = sorted(name for name in vars(module) if name.startswith(prefix))
    return {name.removeprefix(prefix): getattr(module, name) for name in names}


@functools.cache
def verifier(task_id: str) -> Callable[[Cells], Cells]:
    """Return RE-ARC's program that solves a task, from the input of a pair to its output."""
    from reasoning_gym.arc.rearc_utils import verifiers

    solve: Callable[[Cells], Cells] = getattr(verifiers, f"verify_{task_id}")
    return solve


def follows_rule(task_id: str, pair: Pair) -> bool:
    """Return whether the task's verifier maps the input of a pair to its output."""
    assert pair.output is not None
    solve = verifier(task_id)  # a verifier that is missing is no fault of the pair
    try:
        return solve(as_cells(pair.input)) == as_cells(pair.output)
    except Exception:  # noqa: BLE001 (an input that the verifier cannot read breaks the rule)
        return False


def as_cells(grid: Grid) -> Cells:
    """Convert the grid to the form of RE-ARC's programs."""
    return tuple(map(tuple, grid.tolist()))


def package_version() -> str:
    """Return the version of reasoning-gym.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    from importlib.metadata import PackageNotFoundError, version  # takes 30 ms

    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise not_installed("data=re_arc", error) from error


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a pair depends on besides its task and its rng.

    Attributes:
        difficulty: range, within 0..1, from which each parameter of a pair is drawn.
        max_side: most rows and columns of a grid.
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
        """Draw a pair whose input is not in `seen`, and add it there; return None after `max_tries`.

        Counts the refused pairs in `refused`, by `REFUSALS`.
        """
        for _ in range(max_tries):
            made = self._make(task_id, rng)
            if isinstance(made, str):
                refused[made] += 1
                continue
            shown = bytes(made.input.shape) + made.input.tobytes()
            if shown in seen:
                refused["duplicate"] += 1
            elif not follows_rule(task_id, made):
                refused["unverified"] += 1
            else:
                seen.add(shown)
                return made
        return None

    def _make(self, task_id: str, rng: np.random.Generator) -> Pair | str:
        """Make a pair, or return why it is refused."""
        own = random.Random(int(rng.integers(2**63)))
        try:
            made = generators()[task_id](own, *self.difficulty)
        except Exception:  # noqa: BLE001 (generators fail in many ways)
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
        # One grid of a single colour may be meaningful: a count of colours, a spiral to be drawn.
        constant = pair.input.min() == pair.input.max() and pair.output.min() == pair.output.max()
        return "constant" if constant else pair


@dataclass(frozen=True, kw_only=True)
class GeneratedTasks:
    """Tasks with newly generated pairs on every visit.

    Attributes:
        num_demonstrations: minimum and maximum of demonstrations in a visit; one test pair is added.
    """

    recipe: Recipe
    num_demonstrations: tuple[int, int]
    ids: tuple[str, ...]

    @property
    def fixed(self) -> TaskSet:
        return TaskSet([])

    def draw(self, number: int, rng: np.random.Generator) -> Task:
        """Draw a task; raise ValueError if the generator does not make enough different pairs."""
        task_id, (low, high) = self.ids[number], self.num_demonstrations
        pairs: list[Pair] = []
        seen: set[bytes] = set()
        refused: Counter[str] = Counter()
        for _ in range(int(rng.integers(low, high + 1)) + 1):
            pair = self.recipe.next_pair(task_id, rng, seen, refused)
            if pair is None:
                reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
                raise ValueError(
                    f"data=re_arc: the generator of task {task_id} made only "
                    f"{plural(len(pairs), 'different pair')} at difficulty="
                    f"{list(self.recipe.difficulty)} in {MAX_TRIES} tries ({reasons}): widen the difficulty, "
                    f"or data.source.leave_out=[{task_id}]"
                )
            pairs.append(pair)
        *train, test = pairs
        return Task(
            id=task_id,
            train=tuple(train),
            test=(test,),
            split="re_arc",
            program=solution(task_id),
            refused=refused,
        )

    def pairs(self, number: int) -> Iterable[Pair]:
        return ()

    def language(self, number: int) -> str | None:
        program = solution(self.ids[number])
        return None if program is None else program.language
