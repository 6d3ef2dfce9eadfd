"""The language `draw`: a block of calls that paint shapes on the input grid, one per line.

    rect(3,1,1,4,5)     # colour, then rows and columns in pairs
    line(8,0,0,3,3)
    flood(2,9,9)

Arguments are numbers: colours 0 to 9, rows and columns 0 to 29. Any lines of a program are a program too.
What each shape paints is written in `preludes/draw.py`; a crooked line, neither horizontal nor vertical nor
diagonal, paints nothing.

Shapes that may change places have one order in the normal form, from the upper left on, and those that
later ones hide are left out, so that of what can be seen there are few programs:

    pixel(2,5,5)                        rect(3,1,1,4,5)
    line(7,2,2,2,4)  # hidden    ->     pixel(2,5,5)
    rect(3,1,1,4,5)
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import chain, groupby
from textwrap import indent
from typing import Literal

from arc_experiments.programs.languages import Grammar, UnreadableProgram
from arc_experiments.programs.languages._reading import (
    source_of_prelude,
    statements,
    unexpected,
    without_fences,
)
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS

# The shapes, and the number of cells that determine each. In the sandbox `programs/preludes/draw.py` paints
# them, outside of it `programs/canvases.py`; DRAWN of `sources/drawings.py` draws them at random.
SHAPES = {"pixel": 1, "line": 2, "rect": 2, "box": 2, "flood": 1}

Call = tuple[str, int, *tuple[int, ...]]  # a shape, its colour, rows and columns in pairs


class Draw:
    """Shapes on a canvas; see the module."""

    name = "draw"
    runs_in: Literal["monty", "process"] = "monty"

    @cached_property
    def prelude(self) -> str:
        return source_of_prelude(self.name)

    @property
    def grammar(self) -> Grammar:
        letters = "".join({*"".join(SHAPES)})
        return Grammar(
            alphabet=f"{letters}0123456789,()\n",
            start=LINE,
            following=_following,
            example="rect(3,1,1,4,5)\npixel(2,10,29)",
        )

    def extract(self, answer: str) -> str:
        return without_fences(answer)

    def normalise(self, text: str) -> str:
        return write_calls(in_order(map(plainest, read_calls(text))))

    def as_function(self, text: str) -> str:
        return f"def transform(grid):\n    start(grid)\n{indent(text, '    ')}\n    return canvas\n"

    def length(self, text: str) -> int:
        return len(read_calls(text))

    def recolour(self, text: str, mapping: Mapping[int, int]) -> str | None:
        """Rename the colours, which is always exact if no two get the same name."""
        renamed = {colour: mapping.get(colour, colour) for colour in range(NUM_COLOURS)}
        if set(renamed.values()) != set(renamed):
            return None
        return write_calls((shape, renamed[colour], *place) for shape, colour, *place in read_calls(text))

    def turn(self, text: str, symmetry: str, height: int, width: int) -> str | None:
        """Turn the shapes, which is exact if none leaves the canvas."""
        turned: list[Call] = []
        for shape, colour, *place in read_calls(text):
            cells: list[int] = []
            for row, column in zip(place[::2], place[1::2], strict=True):
                if row >= height or column >= width:
                    return None
                cells += TURNED[symmetry](row, column, height - 1, width - 1)
            turned.append(plainest((shape, colour, *cells)))
        return write_calls(in_order(turned))


def read_calls(text: str) -> list[Call]:
    """Parse a program, and leave out crooked lines, which paint nothing.

    Raises:
        UnreadableProgram: a line is not one of the calls, or its arguments are out of range; no line is left.
    """
    calls = [call for call in map(_read_call, statements(text)) if not _is_crooked(call)]
    if not calls:
        raise UnreadableProgram("no_program", "all of its lines are crooked, and paint nothing")
    return calls


def _read_call(statement: ast.stmt) -> Call:
    match statement:
        case ast.Expr(ast.Call(ast.Name(shape), arguments, [])) if shape in SHAPES:
            pass
        case _:
            raise unexpected(statement, f"a call of {', '.join(SHAPES)}")
    numbers = [_read_number(argument) for argument in arguments]
    if len(numbers) != 1 + 2 * SHAPES[shape]:
        raise unexpected(statement, f"{shape} with {1 + 2 * SHAPES[shape]} arguments")
    colour, *place = numbers
    if colour >= NUM_COLOURS:
        raise unexpected(statement, "in a colour from 0 to 9")
    return shape, colour, *place


def _is_crooked(call: Call) -> bool:
    shape, _, *place = call
    if shape != "line":
        return False
    height, width = abs(place[2] - place[0]), abs(place[3] - place[1])
    return 0 < height != width > 0


def _read_number(node: ast.expr) -> int:
    match node:
        case ast.Constant(int(number)) if type(number) is int and 0 <= number < MAX_SIDE:
            return number
    raise unexpected(node, f"a number from 0 to {MAX_SIDE - 1}")


LINE = "", 0  # the place before a line; otherwise its shape, and how many of its numbers are written


def _following(place: tuple[str, int]) -> Iterator[tuple[str, tuple[str, int] | None]]:
    """Yield what may come at a place of a program; see `Grammar`."""
    if place == LINE:
        for shape in SHAPES:
            yield f"{shape}(", (shape, 0)
        return
    shape, num_written = place
    for number in range(MAX_SIDE if num_written else NUM_COLOURS):
        if num_written < 2 * SHAPES[shape]:
            yield f"{number},", (shape, num_written + 1)
        else:
            yield f"{number})", None
            yield f"{number})\n", LINE


def write_calls(calls: Iterable[Call]) -> str:
    """Write a program, one call per line."""
    return "\n".join(f"{shape}({','.join(map(str, numbers))})" for shape, *numbers in calls)


def plainest(call: Call) -> Call:
    """Return the simplest call that paints the same: pixel, line, rect or box, from the upper left."""
    shape, colour, *place = call
    if SHAPES[shape] == 1:
        return call
    row, column, last_row, last_column = place
    if shape == "line":
        ends = sorted([(row, column), (last_row, last_column)])
        return ("line", colour, *ends[0], *ends[1]) if ends[0] != ends[1] else ("pixel", colour, row, column)
    top, bottom = sorted([row, last_row])
    left, right = sorted([column, last_column])
    height, width = bottom - top, right - left
    if min(height, width) == 0:
        return plainest(("line", colour, top, left, bottom, right))
    return ("rect" if min(height, width) == 1 else shape, colour, top, left, bottom, right)


def in_order(calls: Iterable[Call]) -> list[Call]:
    """Put calls, in their plainest form, into the order of the normal form, without those that are hidden.

    The outputs stay the same: of two shapes of different colours that overlap the later one stays later,
    and all shapes stay on their side of a flood.
    """
    given, ordered = list(calls), list[Call]()
    for is_flood, group in groupby(given, lambda call: call[0] == "flood"):
        part = list(group)
        ordered += part if is_flood else _from_upper_left(_visible(part))
    return ordered if ordered == given else in_order(ordered)  # the new order may show what is hidden


def _visible(calls: list[Call]) -> list[Call]:
    """Leave out those shapes of which later ones cover every cell."""
    seen, covered = list[Call](), 0
    for call in reversed(calls):
        cells = _cells(call)
        if cells & ~covered:
            seen.append(call)
        covered |= cells
    return seen[::-1]


def _from_upper_left(calls: list[Call]) -> list[Call]:
    """Take, one after the other, the first by its place of those below which nothing is left."""
    cells = [_cells(call) for call in calls]
    above = [
        [
            other
            for other in range(number + 1, len(calls))
            if one & cells[other] and call[1] != calls[other][1]
        ]
        for number, (call, one) in enumerate(zip(calls, cells, strict=True))
    ]
    num_below = Counter(chain.from_iterable(above))
    free = [(call[2:], call[0], number) for number, call in enumerate(calls) if not num_below[number]]
    heapify(free)
    ordered = list[Call]()
    while free:
        *_, chosen = heappop(free)
        ordered.append(calls[chosen])
        for number in above[chosen]:
            num_below[number] -= 1
            if not num_below[number]:
                heappush(free, (calls[number][2:], calls[number][0], number))
    return ordered


@lru_cache(maxsize=4096)
def _cells(call: Call) -> int:
    """Return the cells that a shape paints, wherever the canvas ends, as the bits of a number."""
    shape, _, *place = call
    top, left, bottom, right = place if SHAPES[shape] == 2 else place * 2
    rows = range(top, bottom + 1)
    if shape == "line" and top != bottom and left != right:
        step = 1 if right > left else -1
        return sum(1 << MAX_SIDE * row + left + step * (row - top) for row in rows)
    whole, ends = (1 << right + 1) - (1 << left), 1 << left | 1 << right
    return sum((ends if shape == "box" and top < row < bottom else whole) << MAX_SIDE * row for row in rows)


# Where a symmetry puts the cell i, j of a grid whose last cell is m, n.
TURNED: dict[str, Callable[[int, int, int, int], tuple[int, int]]] = {
    "identity": lambda i, j, m, n: (i, j),
    "rot90": lambda i, j, m, n: (n - j, i),
    "rot180": lambda i, j, m, n: (m - i, n - j),
    "rot270": lambda i, j, m, n: (j, m - i),
    "transpose": lambda i, j, m, n: (j, i),
    "transpose_rot90": lambda i, j, m, n: (m - i, j),
    "transpose_rot180": lambda i, j, m, n: (n - j, m - i),
    "transpose_rot270": lambda i, j, m, n: (i, n - j),
}

LANGUAGE = Draw()
