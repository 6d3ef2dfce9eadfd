"""The language draw: its grammar, its two implementations, its symmetries and colours."""

import random

import numpy as np
import pytest

from arc_experiments.programs.canvases import painted
from arc_experiments.programs.languages import UnreadableProgram, language
from arc_experiments.programs.languages.draw import SHAPES, read_calls
from arc_experiments.tasks.grids import TURNS, Grid

DRAW = language("draw")


def by_prelude(text: str, grid: Grid) -> Grid:
    """Run a program by the prelude in this Python."""
    names: dict = {}
    exec(DRAW.prelude + DRAW.as_function(text), names)
    return np.array(names["transform"](grid.tolist()), np.uint8)


def random_program(own: random.Random, num_calls: int, side: int) -> str:
    lines = []
    while len(lines) < num_calls:
        shape = own.choice(list(SHAPES))
        numbers = [own.randrange(10), *(own.randrange(side) for _ in range(2 * SHAPES[shape]))]
        if shape == "line" and (end := own.randrange(4)):
            row, column, length = numbers[1], numbers[2], own.randrange(side)
            numbers[3], numbers[4] = {
                1: (row, (column + length) % side),
                2: ((row + length) % side, column),
                3: (row + length, abs(column + own.choice([-1, 1]) * length)),
            }[end]
        lines.append(f"{shape}({', '.join(map(str, numbers))})")
        try:
            DRAW.normalise(lines[-1])
        except UnreadableProgram:  # a line that is not straight, or leaves the largest canvas
            lines.pop()
    return "\n".join(lines)


def random_grid(own: random.Random, *, side: int | None = None) -> Grid:
    rows, columns = side or own.randint(1, 12), side or own.randint(1, 12)
    colours = own.sample(range(10), own.randint(1, 4))
    return np.array([[own.choice(colours) for _ in range(columns)] for _ in range(rows)], np.uint8)


@pytest.mark.slow
def test_numpy_paints_what_the_prelude_paints() -> None:
    own = random.Random(0)
    for _ in range(3000):
        text = random_program(own, own.randint(1, 8), own.choice([4, 12, 15]))
        grid = random_grid(own)
        expected = by_prelude(text, grid)
        given = painted(grid, read_calls(DRAW.normalise(text)))
        assert np.array_equal(given, expected), (text, grid)


@pytest.mark.slow
def test_normal_form_does_the_same_and_is_its_own_normal_form() -> None:
    own = random.Random(1)
    changed = 0
    for _ in range(1000):
        text, grid = random_program(own, 6, 10), random_grid(own)
        normal = DRAW.normalise(text)
        assert np.array_equal(by_prelude(text, grid), by_prelude(normal, grid))
        assert DRAW.normalise(normal) == normal
        changed += text.replace(" ", "") != normal
    assert changed > 500


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("line(3, 5,0, 0,0)  # a comment", "line(3,0,0,5,0)"),
        ("line(3,4,0,0,4)", "line(3,0,4,4,0)"),
        ("line(1,2,3,2,3)", "pixel(1,2,3)"),
        ("rect(1,5,6,2,3)", "rect(1,2,3,5,6)"),
        ("box(1,5,3,2,6)", "box(1,2,3,5,6)"),
        ("box(1,0,0,1,5)", "rect(1,0,0,1,5)"),
        ("rect(1,3,5,3,2)", "line(1,3,2,3,5)"),
        ("box(1,3,3,3,3); flood(2,0,0)\n", "pixel(1,3,3)\nflood(2,0,0)"),
        ("pixel(2,5,5); pixel(1,0,9); pixel(1,0,0)", "pixel(1,0,0)\npixel(1,0,9)\npixel(2,5,5)"),
        ("line(2,3,0,3,5); line(1,0,2,6,2)", "line(2,3,0,3,5)\nline(1,0,2,6,2)"),
        ("line(1,3,0,3,5); line(1,0,2,6,2)", "line(1,0,2,6,2)\nline(1,3,0,3,5)"),
        ("line(7,2,2,2,4); rect(3,1,1,4,5)", "rect(3,1,1,4,5)"),
        ("line(7,2,2,2,4); box(3,1,1,4,5)", "box(3,1,1,4,5)\nline(7,2,2,2,4)"),
        ("pixel(4,1,1); pixel(3,1,1); pixel(3,1,1)", "pixel(3,1,1)"),
        ("pixel(4,1,1); flood(3,1,1); pixel(3,0,1)", "pixel(4,1,1)\nflood(3,1,1)\npixel(3,0,1)"),
    ],
)
def test_programs_that_paint_the_same_by_layout_order_or_hidden_shapes_have_one_form(
    written: str, normal: str
) -> None:
    assert DRAW.normalise(written) == normal


@pytest.mark.parametrize(
    "text",
    [
        "pixel(10,0,0)", "pixel(1,30,0)", "pixel(1,-1,0)", "pixel(1,0)", "pixel(1,0,0,0)", "pixel(True,0,0)",
        "pixel(1,0,0.0)", "pixel(1,0,column=0)", "pixel(1,*[0,0])", "circle(1,0,0,3)",
        "x = pixel(1,0,0)", "pixel(1,0,0) + pixel(1,0,0)", "for i in range(3): pixel(1,i,i)", "import os",
        "canvas", "pixel(1,0,", "pixel(pixel(1,0,0),0,0)", "pixel(1,0,0)\n  pixel(1,0,0)", "(" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_block_of_calls_breaks_the_grammar(text: str) -> None:
    with pytest.raises(UnreadableProgram) as caught:
        DRAW.normalise(text)
    assert caught.value.reason == "syntax"


def test_messages_name_the_line_and_what_is_wrong() -> None:
    with pytest.raises(UnreadableProgram, match=r"line 2: rect\(1, 0, 0, 3\) is not rect with 5"):
        DRAW.normalise("pixel(1,0,0)\nrect(1,0,0,3)")


def test_a_crooked_line_paints_nothing_and_is_left_out() -> None:
    text, canvas = "pixel(1,0,0)\nline(2,0,0,3,2)\nline(3,1,0,0,1)", np.full((4, 4), 9, np.uint8)
    normal = DRAW.normalise(text)
    assert normal == "pixel(1,0,0)\nline(3,0,1,1,0)"
    assert np.array_equal(by_prelude(text, canvas), by_prelude(normal, canvas))
    with pytest.raises(UnreadableProgram, match="all of its lines are crooked") as caught:
        DRAW.normalise("line(2,0,0,3,2)")
    assert caught.value.reason == "no_program"


def test_the_program_in_an_answer_is_the_last_fenced_block_or_all_of_it() -> None:
    assert DRAW.extract("pixel(1,0,0)\n") == "pixel(1,0,0)"
    fenced = "First\n```\npixel(9,9,9)\n```\nno, rather:\n```python\npixel(1,0,0)\nflood(2,1,1)\n```\nSo."
    assert DRAW.extract(fenced) == "pixel(1,0,0)\nflood(2,1,1)"
    assert DRAW.extract("```python\npixel(1,0,0)") == "pixel(1,0,0)"  # cut off before the fence
    for empty in ("", "  \n", "Well:\n```\n```"):
        with pytest.raises(UnreadableProgram) as caught:
            DRAW.extract(empty)
        assert caught.value.reason == "no_program"


def test_every_block_of_lines_is_a_program() -> None:
    own = random.Random(2)
    text, grid = random_program(own, 8, 10), random_grid(own)
    lines = DRAW.normalise(text).splitlines()
    for count in range(1, 9):
        part = "\n".join(lines[:count])
        assert DRAW.length(part) == count
        assert np.array_equal(by_prelude(DRAW.normalise(part), grid), by_prelude(part, grid))
        assert by_prelude(part, grid).shape == grid.shape


def test_renamed_colours_are_those_of_the_renamed_task() -> None:
    own = random.Random(3)
    for _ in range(300):
        text, grid = random_program(own, 5, 12), random_grid(own)
        colours = np.array(own.sample(range(10), 10), np.uint8)
        renamed = DRAW.recolour(text, dict(enumerate(colours.tolist())))
        assert renamed is not None
        assert np.array_equal(by_prelude(renamed, colours[grid]), colours[by_prelude(text, grid)])


def test_two_colours_with_one_new_name_cannot_be_renamed() -> None:
    assert DRAW.recolour("pixel(1,0,0)", {1: 2}) is None
    assert DRAW.recolour("pixel(1,0,0)", {1: 2, 2: 1}) == "pixel(2,0,0)"


@pytest.mark.parametrize("symmetry", TURNS)
def test_a_turned_program_draws_the_turned_task(symmetry: str) -> None:
    own = random.Random(4)
    num_turned = 0
    for _ in range(200):
        grid = random_grid(own)
        text = random_program(own, 3, min(grid.shape))
        turned = DRAW.turn(text, symmetry, *grid.shape)
        if turned is None:  # a shape leaves the canvas
            continue
        num_turned += 1
        assert DRAW.normalise(turned) == turned
        expected = TURNS[symmetry](by_prelude(text, grid))
        assert np.array_equal(by_prelude(turned, TURNS[symmetry](grid)), expected)
    assert num_turned > 100


def test_a_program_that_leaves_its_canvas_cannot_be_turned() -> None:
    assert DRAW.turn("line(1,0,0,0,9)", "rot90", 9, 9) is None
    assert DRAW.turn("line(1,0,0,0,8)", "rot90", 9, 9) == "line(1,0,0,8,0)"
