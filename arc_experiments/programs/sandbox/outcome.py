"""What became of a program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from arc_experiments.tasks.grids import Grid, GridError, OversizeGrid, check_grid

# Why a program gave no grid: it cannot be parsed; it imports what it may not; it used too much CPU time or
# memory; it raised an exception; it returned something else; its grid has over 30 rows or columns, or its
# result is over-long; it answered differently when it ran again; its interpreter died.
Reason = Literal[
    "syntax",
    "import",
    "timeout",
    "memory",
    "raised",
    "not_a_grid",
    "too_large",
    "nondeterministic",
    "crashed",
]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a program gave for one input: a grid, or the reason why there is none.

    Attributes:
        message: the interpreter's words, empty with a grid.
    """

    grid: Grid | None = None
    reason: Reason | None = None
    message: str = ""


def outcome_of(cells: object) -> Outcome:
    """Return the outcome of a program that returned this: a grid, if it is a list of rows of integers."""
    try:
        return Outcome(grid=check_grid(cells))
    except OversizeGrid as error:
        return Outcome(reason="too_large", message=str(error))
    except GridError as error:
        return Outcome(reason="not_a_grid", message=str(error))


@dataclass(frozen=True, kw_only=True, eq=False)
class Ran:
    """What a program gave for each input, in order, and the CPU time that this took."""

    outcomes: tuple[Outcome, ...]
    cpu_seconds: float


class Runner(Protocol):
    """Interpreters of one language."""

    def run(self, texts: Sequence[str], inputs: Sequence[Sequence[Grid]]) -> list[Ran]:
        """Run program n on each of the grids `inputs[n]`."""
