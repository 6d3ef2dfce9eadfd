"""One small picture of a run, for lists of runs: a demonstration, then a test input and what was answered.

In: the cards of the report. Out: `picture.svg` in the run folder, on a transparent ground.
"""

from collections.abc import Iterator, Sequence
from html import escape

from arc_experiments.report.gallery import ShownAnswer, TaskCard, TestCard
from arc_experiments.tasks.grids import Grid, to_svg

FILE = "picture.svg"
SIDE = 54  # pixels of a grid's longer side, as far as its cells are whole pixels
GAP = 8  # between grids; twice as much before the test
SIGN = 18  # for the sign beside the answer
COLOURS = {"right": "#1a7a3c", "wrong": "#b3261e", "unknown": "#8a8f98"}
SIGNS = {"right": "✓", "wrong": "✗", "unknown": "?"}


def picture(cards: Sequence[TaskCard]) -> str | None:
    """The smallest task that was solved, or else answered, as SVG; None if none was answered."""
    answered = list(_answered(cards))
    if not answered:
        return None
    card, test, answer = min(answered, key=lambda one: _rank(*one))
    shown = [
        grid for pair in card.demonstrations[:1] for grid in (pair.input, pair.output) if grid is not None
    ]
    parts, x = [], 2
    for grid in shown:
        parts.append(_drawn(grid, x))
        x += _size(grid)[0] + GAP
    x += GAP if shown else 0
    parts.append(_drawn(test.input, x))
    x += _size(test.input)[0] + GAP
    parts += [_drawn(answer.grid, x), _verdict(answer, x)]
    x += _size(answer.grid)[0] + SIGN
    height = 4 + max(_size(grid)[1] for grid in (*shown, test.input, answer.grid))
    words = {"right": "solved", "wrong": "not solved"}.get(answer.verdict, "answered")
    title = escape(f"{card.id}: {words}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x} {height}" width="{x}" '
        f'height="{height}"><title>{title}</title>{"".join(parts)}</svg>\n'
    )


def _answered(cards: Sequence[TaskCard]) -> Iterator[tuple[TaskCard, TestCard, ShownAnswer]]:
    """Every test output with the attempt that says most about it."""
    for card in cards:
        for test in card.tests if card.predicted else ():
            if test.attempts:
                right = [answer for answer in test.attempts if answer.verdict == "right"]
                yield card, test, (right or test.attempts)[0]


def _rank(card: TaskCard, test: TestCard, answer: ShownAnswer) -> tuple[bool, int]:
    return answer.verdict != "right", max(*test.input.shape, *answer.grid.shape)


def _cell(grid: Grid) -> int:
    return max(1, SIDE // int(max(grid.shape)))


def _size(grid: Grid) -> tuple[int, int]:
    rows, columns = grid.shape
    return columns * _cell(grid), rows * _cell(grid)


def _drawn(grid: Grid, x: int) -> str:
    """The grid with its upper left corner at (x, 2)."""
    return to_svg(grid, cell=_cell(grid)).replace("<svg", f'<svg x="{x}" y="2"', 1)


def _verdict(answer: ShownAnswer, x: int) -> str:
    """A frame around the answer, and a sign beside it."""
    (width, height), colour = _size(answer.grid), COLOURS[answer.verdict]
    return (
        f'<rect x="{x - 1}" y="1" width="{width + 2}" height="{height + 2}" fill="none" stroke="{colour}" '
        f'stroke-width="2"/><text x="{x + width + 4}" y="13" font-size="13" fill="{colour}" '
        f'font-family="system-ui, sans-serif">{SIGNS[answer.verdict]}</text>'
    )
