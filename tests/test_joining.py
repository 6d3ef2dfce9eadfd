"""Programs of draw joined of several: what is right in each of them comes together."""

import itertools

import numpy as np

from arc_experiments.programs.canvases import painted
from arc_experiments.programs.languages.draw import read_calls
from arc_experiments.search_and_learn.joining import MOST_SHAPES, join
from arc_experiments.sources import FixedDrawings
from arc_experiments.tasks import BadTasks, Pair, Task

CANVAS = np.zeros((4, 5), np.uint8)


def drawn(text: str) -> tuple[Pair, ...]:
    return (Pair(input=CANVAS, output=painted(CANVAS, read_calls(text))),)


def right_cells(text: str, pairs: tuple[Pair, ...]) -> int:
    calls = read_calls(text)
    return sum(int((painted(pair.input, calls) == pair.output).sum()) for pair in pairs)


def drawing(num_draws: int) -> Task:
    source = FixedDrawings(num_draws=[num_draws], num_tasks=1, side=[8, 8], num_demonstrations=[2, 2])
    [task] = source.read(BadTasks()).fixed
    return task


def test_shapes_of_several_programs_come_together_in_the_order_that_is_right() -> None:
    solution = "line(1,0,0,0,4)\nline(2,0,2,3,2)\npixel(3,1,2)"
    parts = ["line(2,0,2,3,2)\npixel(9,3,4)", "pixel(3,1,2)", "line(1,0,0,0,4)\npixel(8,3,0)"]
    assert join(parts, drawn(solution))[0] == solution


def test_a_shape_goes_between_two_others() -> None:
    solution = "line(1,0,0,0,4)\nline(2,0,2,3,2)\nline(3,3,0,3,4)"
    parts = ["line(1,0,0,0,4)\nline(3,3,0,3,4)", "line(2,0,2,3,2)"]
    assert join(parts, drawn(solution))[0] == solution


def test_wrong_shapes_are_left_out() -> None:
    assert join(["pixel(9,3,4)\nline(1,0,0,0,4)"], drawn("line(1,0,0,0,4)"))[0] == "line(1,0,0,0,4)"


def test_the_best_come_first_each_with_outputs_of_its_own() -> None:
    task = drawing(9)
    assert task.program is not None
    lines = [line for line in task.program.text.splitlines() if not line.startswith("flood")]
    texts = ["\n".join(pair) for pair in itertools.pairwise(lines)]
    found = join(texts, task.train)
    right = [right_cells(text, task.train) for text in found]
    assert right == sorted(right, reverse=True)
    assert right[0] > max(right_cells(text, task.train) for text in texts)
    outputs = [
        b"".join(painted(pair.input, read_calls(text)).tobytes() for pair in task.train) for text in found
    ]
    assert len(set(outputs)) == len(outputs) > len(texts)
    assert max(len(read_calls(text)) for text in found) <= MOST_SHAPES


def test_what_cannot_be_compared_cell_by_cell_is_not_joined() -> None:
    other_shape = (Pair(input=CANVAS, output=CANVAS[:2]),)
    assert join(["pixel(1,0,0)", "pixel(2,1,1)"], other_shape) == []
    assert join(["flood(1,0,0)"], drawn("pixel(1,0,0)")) == [], "a flood paints what lies below it"
    assert join([], drawn("pixel(1,0,0)")) == []
