"""Programs in Python as published: found in answers, in their normal form, made callable."""

from pathlib import Path

import numpy as np
import pytest

from arc_experiments.programs.languages import UnreadableProgram, language
from arc_experiments.programs.sandbox import Sandbox
from arc_experiments.tasks import Program

PYTHON = language("python")

BARC = '''
from common import *

import numpy as np
from typing import *

# concepts:
# colours

def main(input_grid: np.ndarray) -> np.ndarray:
    """Recolour the background."""
    output_grid: np.ndarray = input_grid.copy()
    for x, y in np.argwhere(input_grid == Color.BLACK):
        output_grid[x, y] = Color.RED
    return output_grid

def generate_input() -> np.ndarray:
    grid = random_scatter_points(np.zeros((3, 3)), color=Color.BLUE)
    return grid

if __name__ == "__main__":
    visualize(generate_input, main)
'''

SOAR = '''
def transform(grid_lst: list[list[int]]) -> list[list[int]]:
    """Mirror the rows."""
    result = []
    for row in grid_lst:
        result.append(row[::-1])  # turned
    return result
'''

NEMOTRON = """
import numpy as np
from collections import Counter

def most_common(grid):
    return Counter(cell for row in grid for cell in row).most_common(1)[0][0]

def transform(grid):
    background = most_common(grid)
    grid = np.array(grid)
    grid[grid == background] = 9
    return grid.tolist()
"""

FORMS = {"barc": BARC, "soar": SOAR, "nemotron": NEMOTRON}
GRID = np.array([[0, 0, 1], [2, 0, 3]], np.uint8)
OUTPUTS = {
    "barc": [[2, 2, 1], [2, 2, 3]],
    "soar": [[1, 0, 0], [3, 0, 2]],
    "nemotron": [[9, 9, 1], [2, 9, 3]],
}


def test_programs_run_in_the_forms_in_which_they_are_published_and_in_their_normal_form() -> None:
    texts = [text for program in FORMS.values() for text in (program, PYTHON.normalise(program))]
    with Sandbox(num_processes=1) as sandbox:
        ran = sandbox.run([Program(language="python", text=text) for text in texts], [[GRID]] * len(texts))
    grids = [one.outcomes[0].grid for one in ran]
    assert [grid is not None and grid.tolist() for grid in grids] == [
        output for name in FORMS for output in [OUTPUTS[name]] * 2
    ]


def test_the_normal_form_is_what_the_program_needs_without_comments_annotations_and_names() -> None:
    assert PYTHON.normalise(BARC) == (
        "from common import Color\nimport numpy as np\n\n"
        "def transform(v0):\n"
        "    v0 = np.array(v0)\n"
        "    v1 = v0.copy()\n"
        "    for v2, v3 in np.argwhere(v0 == Color.BLACK):\n"
        "        v1[v2, v3] = Color.RED\n"
        "    return v1"
    )


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_normal_form_is_its_own(text: str) -> None:
    normal = PYTHON.normalise(text)
    assert PYTHON.normalise(normal) == normal


SAME = [
    (
        "def transform(g):\n    return g",
        'def transform(grid: "Grid") -> list:\n    """Same."""\n    # it\n    return grid',
    ),
    (
        "def transform(g):\n    a = 1; return [[a]]",
        "def transform(g):\n\n    first = (1)\n    return [ [first] ]\n",
    ),
    (
        "def transform(g):\n    return [[x for x in r] for r in g] + [[x for x in r] for r in g]",
        "def transform(g):\n    return [[x for x in r] for r in g] + [[cell for cell in row] for row in g]",
    ),
    ("import os, math\ndef transform(g):\n    return g", "def transform(g):\n    return g"),
    (
        "from math import *\nfrom math import pi\ndef transform(g):\n    return [[floor(pi)]]",
        "from math import pi, floor\ndef transform(g):\n    return [[floor(pi)]]",
    ),
    (
        "def unused(x):\n    return x\nN = [1, 2]\ndef transform(g):\n    return g",
        "def transform(g):\n    return g",
    ),
    ("def main(input_grid):\n    return input_grid", "def transform(g: np.ndarray):\n    return g"),
    (
        "def transform(g):\n  n = 0\n  def f(a):\n    nonlocal n\n    n += a\n  f(1)\n  return [[n]]",
        "def transform(g):\n  k = 0\n  def f(b):\n    nonlocal k\n    k += b\n  f(1)\n  return [[k]]",
    ),
    (
        "def transform(g):\n    try:\n        return g\n    except ValueError as e:\n        raise e",
        "def transform(g):\n    try:\n        return g\n    except ValueError as error:\n        raise error",
    ),
    ("def transform(g):\n    return (lambda a: a)(g)", "def transform(h):\n    return (lambda b: b)(h)"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_programs_that_differ_in_what_does_not_matter_have_one_normal_form(first: str, second: str) -> None:
    assert PYTHON.normalise(first) == PYTHON.normalise(second)


DIFFERENT = [
    ("def transform(g):\n    return g", "def transform(g):\n    return g[:]"),
    ("def transform(a):\n    b = 1\n    return [[b]]", "def transform(a):\n    b = 1\n    return [[a]]"),
    ("x = 1\ndef transform(g):\n    return [[x]]", "x = 2\ndef transform(g):\n    return [[x]]"),
    (
        "def f(a, b):\n    return a\ndef transform(g):\n    return f(a=g, b=1)",
        "def f(b, a):\n    return a\ndef transform(g):\n    return f(a=g, b=1)",
    ),
    (
        "def transform(g):\n    return [[x for x in [1]] for x in g]",
        "def transform(g):\n    return [[x for y in [1]] for x in g]",
    ),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_programs_that_do_something_else_have_another_normal_form(first: str, second: str) -> None:
    assert PYTHON.normalise(first) != PYTHON.normalise(second)


POINT = "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 2\n"
# Each gives [[the number]] for every grid, by names that a careless renaming breaks.
TRICKY = [
    ("def f(grid, k=3):\n    return k\ndef transform(grid):\n    return [[f(grid=grid, k=4)]]", 4),
    ("def transform(g):\n    v0 = 5\n    v1 = [v0 for v0 in range(3)]\n    return [[v0]]", 5),
    ("v0 = 7\ndef transform(g):\n    x = v0\n    return [[x]]", 7),
    ("n = 1\ndef transform(g):\n    global n\n    n = 2\n    return [[n]]", 2),
    ("def transform(g):\n    x = 3\n    y = eval('x')\n    return [[y]]", 3),
    ("def transform(g):\n    x = 4\n    return [[locals()['x']]]", 4),
    ("def transform(g):\n  class A:\n    x = 6\n    y = lambda self: self.x\n  return [[A().y()]]", 6),
    ("x = 8\ndef transform(g):\n  class A:\n    x = 1\n    y = lambda self: x\n  return [[A().y()]]", 8),
    ("def transform(g):\n    if (n := 5) > 3:\n        pass\n    return [[n]]", 5),
    ("def transform(g):\n    [n := i for i in range(4)]\n    return [[n]]", 3),
    ("def transform(g):\n  def f(n):\n    return n * f(n - 1) if n else 1\n  return [[f(3)]]", 6),
    ("def transform(g, seen=[]):\n    import math as m\n    return [[m.floor(2.5)]]", 2),
    ("def transform(g):\n    match g:\n        case [[a, *b], *c]:\n            return [[len(c) + 1]]", 2),
    ("def transform(g):\n    if len(g) > 1:\n        return transform(g[1:])\n    return [[len(g)]]", 1),
    ("def main(g):\n    if len(g) > 1:\n        return main(g[1:])\n    return [[g.ndim]]", 2),
    (f"{POINT}def transform(g):\n    return [[P(x=7).y + P(7).x]]", 9),
    ("def transform(g):\n    f = lambda v1, v0=2: v1 * v0\n    return [[f(2, v0=4)]]", 8),
    ("def f(**o):\n    return o['size']\ndef transform(g):\n    size = 3\n    return [[f(size=size)]]", 3),
    ("from itertools import *\ndef transform(g):\n    return [[len(list(product([1, 2], [3, 4])))]]", 4),
    ("def transform(g):\n    x: int\n    x = 9\n    return [[x]]", 9),
]  # fmt: skip


def test_the_normal_form_does_the_same() -> None:
    texts = [text for program, _ in TRICKY for text in (program, PYTHON.normalise(program))]
    with Sandbox(num_processes=1) as sandbox:
        ran = sandbox.run([Program(language="python", text=text) for text in texts], [[GRID]] * len(texts))
    shown = [
        one.outcomes[0].grid.tolist() if one.outcomes[0].grid is not None else one.outcomes[0].message
        for one in ran
    ]
    assert shown == [[[number]] for _, number in TRICKY for _ in range(2)]


CODE = "def transform(grid):\n    return grid"
ANSWERS = {
    "alone": CODE,
    "fenced": f"Here it is:\n```python\n{CODE}\n```\nIt copies the grid.",
    "in an unclosed fence": f"```python\n{CODE}\n",
    "after thoughts": f"<think>\n```python\ndef transform(x): pass\n```\n</think>\n```\n{CODE}\n```",
    "before an example": f"```python\n{CODE}\n```\nFor instance:\n```python\nprint(transform([[1]]))\n```",
    "the last of two": f"```python\ndef transform(x):\n    return 1\n```\nBetter:\n```py\n{CODE}\n```",
    "in prose": f"The rule is a copy.\n\n{CODE}\n\nThis works for all grids.",
    "after imports in prose": f"from left to right it stays.\n{CODE}\nand that's it: done",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_program_is_found_in_an_answer(answer: str) -> None:
    assert PYTHON.extract(answer) == CODE


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no_program"),
        ("I do not know.", "syntax"),
        ("```python\nx = 1\n```", "no_program"),
        ("```python\ndef transform(grid):\n    return [[\n```", "syntax"),
        ("def solve(grid):\n    return grid", "no_program"),
        ("def transform(grid):\n    return " + "(" * 300 + "1", "syntax"),
        ("x = 1\n" * 10_000, "syntax"),
        ("def transform(g):\n    return '\0'", "syntax"),
    ],
)
def test_an_answer_without_a_program_is_refused_with_the_reason(answer: str, reason: str) -> None:
    with pytest.raises(UnreadableProgram) as refused:
        PYTHON.extract(answer)
    assert refused.value.reason == reason


def test_barcs_helpers_that_are_not_here_are_named() -> None:
    text = (
        "from common import *\ndef main(input_grid):\n    return crop(detect_objects(input_grid), Color.RED)"
    )
    with Sandbox(num_processes=1) as sandbox:
        (ran,) = sandbox.run([Program(language="python", text=text)], [[GRID]])
    (outcome,) = ran.outcomes
    assert outcome.reason == "import"
    assert "common is here without crop, detect_objects" in outcome.message


LIBRARY = """
import random
import numpy as np

class Color:
    RED = 4

def detect_objects(grid):
    from scipy.ndimage import label
    labels, count = label(grid)
    return [np.where(labels == number + 1, grid, 0) for number in range(count)]

def crop(grid, background=0):
    rows, columns = np.nonzero(grid != background)
    return grid[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
"""


def test_barcs_helpers_are_those_of_its_library_where_it_is_given(tmp_path: Path) -> None:
    library = tmp_path / "common.py"
    library.write_text(LIBRARY)
    text = (
        "from common import *\ndef main(input_grid):\n"
        "    first = crop(detect_objects(input_grid)[0])\n    first[0, 0] = Color.RED\n    return first"
    )
    with Sandbox(num_processes=1, barc_library=library) as sandbox:
        for program in (text, PYTHON.normalise(text)):
            (ran,) = sandbox.run([Program(language="python", text=program)], [[GRID]])
            assert ran.outcomes[0].grid is not None
            assert ran.outcomes[0].grid.tolist() == [[4], [3]]


@pytest.mark.parametrize(
    ("text", "takes_array"),
    [
        ("def transform(grid):\n    return grid.shape", True),
        ("def transform(grid):\n    return grid[0, 1]", True),
        ("def transform(grid):\n    return grid == 3", True),
        ("def transform(grid):\n    return grid.copy()", False),
        ("def transform(grid):\n    grid = np.array(grid)\n    return grid.T", False),
        ("def transform(grid: list):\n    return grid.shape", False),
        ("def transform(grid: 'np.ndarray'):\n    return grid", True),
        ("def main(grid):\n    return grid", True),
    ],
)
def test_a_program_gets_an_array_if_it_expects_one(text: str, takes_array: bool) -> None:
    assert ("np.array(v0)" in PYTHON.normalise(text)) == (takes_array or "np.array" in text)


def test_a_shorter_program_has_a_smaller_length() -> None:
    assert PYTHON.length("def transform(g):\n    return g") < PYTHON.length(
        "def transform(g):\n    return g[:1]"
    )


def test_only_a_renaming_that_changes_nothing_keeps_a_program() -> None:
    assert PYTHON.recolour(CODE, {0: 0, 1: 1}) == CODE
    assert PYTHON.recolour(CODE, {0: 1, 1: 0}) is None
    assert PYTHON.turn(CODE, "identity", 3, 3) == CODE
    assert PYTHON.turn(CODE, "rot90", 3, 3) is None


@pytest.mark.parametrize("value", ["0x" + "f" * 19_000, "-" * 2000 + "1", "[" * 90 + "]" * 90 + "\0"])
def test_a_program_that_cannot_be_written_is_refused(value: str) -> None:
    with pytest.raises(UnreadableProgram) as refused:
        PYTHON.normalise(f"def transform(grid):\n    return {value}")
    assert refused.value.reason == "syntax"
