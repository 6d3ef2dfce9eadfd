"""Kinds of question: what is shown of a task, and what is asked for."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Literal, get_args

Kind = Literal[
    "output_from_examples",
    "input_from_inputs",
    "output_from_outputs",
    "program_from_examples",
    "output_from_program",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
PROGRAM_KINDS: tuple[Kind, ...] = ("program_from_examples", "output_from_program")  # need a task's program

# What validation and inference may ask (`prompt.asks`); the other kinds are auxiliary training tasks.
Asked = Literal["grid", "program"]
QUESTIONS: dict[Asked, Kind] = {"grid": "output_from_examples", "program": "program_from_examples"}


class WeightedKinds:
    """Kinds of question with their weights, those of weight 0 left out."""

    def __init__(self, weights: Iterable[tuple[Kind, float]]) -> None:
        positive = [(kind, weight) for kind, weight in weights if weight > 0]
        self.kinds = [kind for kind, _ in positive]
        self._ends = list(accumulate(weight for _, weight in positive))

    def at(self, uniform: float) -> Kind:
        """Map a number in [0, 1) to a kind."""
        assert self.kinds, "a task without a program is not drawn for questions about programs alone"
        return self.kinds[bisect_right(self._ends[:-1], uniform * self._ends[-1])]
