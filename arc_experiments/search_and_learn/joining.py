"""Join programs of the language draw: shapes of all of them, added to the best ones one by one.

    best program    line(3,0,0,5,0)         joined    line(3,0,0,5,0)
                    line(2,1,1,1,4)                   line(7,2,0,2,6)
    another         line(7,2,0,2,6)                   line(2,1,1,1,4)
                    line(8,7,7,0,7)

A shape may come between any two others, and shapes are left out as well. It is a beam search by the number
of right cells of the demonstrations. Since a shape paints the same cells whatever lies below it, all places
for all shapes are tried by one product of matrices. Floods, which look at what lies below, are left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from arc_experiments.programs.canvases import paint
from arc_experiments.programs.languages.draw import Call, in_order, read_calls, write_calls
from arc_experiments.tasks import Pair

LANGUAGE = "draw"
BEAM = 24  # programs that are changed at once
NUM_CHANGES = 8  # that are kept of each of them, at most
NUM_GENERATIONS = 24
MOST_SHAPES = 24


@dataclass(frozen=True, eq=False)
class _State:
    """A program as the numbers of its shapes, what it paints, shape (cells,), and how many are right."""

    numbers: tuple[int, ...]
    cells: NDArray[np.uint8]
    right: int

    @property
    def rank(self) -> tuple[int, int, tuple[int, ...]]:
        return -self.right, len(self.numbers), self.numbers


def join(texts: Iterable[str], pairs: Sequence[Pair]) -> list[str]:
    """Return programs joined of these, in normal form, those with most right cells first.

    Args:
        texts: programs in normal form.
        pairs: the demonstrations, whose inputs and outputs have one shape; else nothing is joined.
    """
    if any(pair.output is None or pair.output.shape != pairs[0].input.shape for pair in pairs) or any(
        pair.input.shape != pairs[0].input.shape for pair in pairs
    ):
        return []
    programs = [calls for calls in map(read_calls, texts) if all(call[0] != "flood" for call in calls)]
    shapes = list(dict.fromkeys(chain.from_iterable(programs)))
    if not shapes:
        return []
    search = _Search(shapes, pairs)
    number_of = {shape: number for number, shape in enumerate(shapes)}
    found = search.run([tuple(number_of[call] for call in calls) for calls in programs])
    ordered = (write_calls(in_order(shapes[number] for number in state.numbers)) for state in found)
    return list(dict.fromkeys(ordered))


class _Search:
    """A beam search over programs made of these shapes."""

    def __init__(self, shapes: Sequence[Call], pairs: Sequence[Pair]) -> None:
        inputs = np.stack([pair.input for pair in pairs])
        self._inputs = inputs.reshape(-1)
        self._outputs = np.stack([pair.output for pair in pairs if pair.output is not None]).reshape(-1)
        self._colours = np.array([shape[1] for shape in shapes], np.uint8)
        self._masks = np.zeros((len(shapes), self._inputs.size), bool)
        for number, (name, _, *place) in enumerate(shapes):
            canvases = np.zeros_like(inputs)
            paint(canvases, (name, 1, *place))
            self._masks[number] = canvases.reshape(-1)
        self._would_be_right = self._masks & (self._outputs == self._colours[:, np.newaxis])

    def run(self, programs: Sequence[tuple[int, ...]]) -> list[_State]:
        """Return all programs that were looked at closely, the best first."""
        seen: dict[bytes, _State] = {}
        beam = _best(map(self._state, programs), seen)
        for _ in range(NUM_GENERATIONS):
            if not beam or beam[0].right == self._outputs.size:
                break
            beam = _best(chain.from_iterable(map(self._changed, beam)), seen)
        return sorted(seen.values(), key=lambda state: state.rank)

    def _state(self, numbers: tuple[int, ...]) -> _State:
        cells = self._inputs.copy()
        for number in numbers:
            cells[self._masks[number]] = self._colours[number]
        return _State(numbers, cells, int((cells == self._outputs).sum()))

    def _changed(self, state: _State) -> list[_State]:
        """Return the best programs with a shape more, and all with one less."""
        numbers = state.numbers
        less = [self._state(numbers[:place] + numbers[place + 1 :]) for place in range(len(numbers))]
        if len(numbers) == MOST_SHAPES:
            return less
        visible = np.ones((len(numbers) + 1, self._inputs.size), np.float32)  # at each place, from below
        for place in reversed(range(len(numbers))):
            visible[place] = visible[place + 1] * ~self._masks[numbers[place]]
        gains = (
            visible
            @ (self._would_be_right.astype(np.float32) - self._masks * (state.cells == self._outputs)).T
        )
        best = np.argsort(-gains, axis=None, kind="stable")[:NUM_CHANGES]
        places, added = np.unravel_index(best, gains.shape)
        more = [
            self._state((*numbers[:place], int(shape), *numbers[place:]))
            for place, shape in zip(places.tolist(), added.tolist(), strict=True)
        ]
        return [*more, *less]


def _best(states: Iterable[_State], seen: dict[bytes, _State]) -> list[_State]:
    """Return the best that paint what none of those seen paints; they are seen from then on."""
    new: dict[bytes, _State] = {}
    for state in states:
        key = state.cells.tobytes()
        if key not in seen and state.numbers:
            new[key] = min(new.get(key, state), state, key=lambda each: each.rank)
    best = sorted(new.values(), key=lambda state: state.rank)[:BEAM]
    seen |= {state.cells.tobytes(): state for state in best}
    return best
