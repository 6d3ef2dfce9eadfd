"""The task source data=draw: drawings with their programs, endless ones and a fixed list."""

import pickle
from collections import Counter

import numpy as np
import pytest
from test_draw import by_prelude

from arc_experiments.programs.languages import language
from arc_experiments.sources import Drawings, FixedDrawings
from arc_experiments.tasks import BadTasks, Task
from arc_experiments.tasks.rngs import rng_for

DRAW = language("draw")
OPTIONS = (
    {},
    {"draws": [9, 9], "side": [10, 10]},
    {"draws": [1, 16], "side": [5, 7], "noise": [0.0, 0.5], "num_demonstrations": [2, 4]},
    {"shapes": ["line"], "side": [3, 30], "num_demonstrations": [9, 9]},
)


def visits(source: Drawings, count: int) -> list[Task]:
    return [source.draw(i % len(source.ids), rng_for("test", i)) for i in range(count)]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_program_makes_every_output_of_its_input(options: dict) -> None:
    for task in visits(Drawings(**options), 60):
        assert task.program is not None
        text = task.program.text
        assert task.program.language == "draw"
        assert DRAW.normalise(text) == text
        assert task.id == f"draw_k{DRAW.length(text):02d}"
        for pair in (*task.train, *task.test):
            assert pair.output is not None
            assert pair.input.dtype == pair.output.dtype == np.uint8
            assert np.array_equal(by_prelude(text, pair.input), pair.output)


@pytest.mark.parametrize("options", OPTIONS)
def test_without_any_one_of_its_lines_a_program_fails_a_demonstration(options: dict) -> None:
    for task in visits(Drawings(**options), 60):
        assert task.program is not None
        lines = task.program.text.splitlines()
        for left_out in range(len(lines)):
            shorter = "\n".join(lines[:left_out] + lines[left_out + 1 :])
            given = [by_prelude(shorter, pair.input) if shorter else pair.input for pair in task.train]
            right = [np.array_equal(grid, pair.output) for grid, pair in zip(given, task.train, strict=True)]
            assert not all(right), (task.program.text, left_out)


def test_what_shows_in_the_only_demonstration_is_all_that_is_drawn_on_the_test() -> None:
    options = {"draws": [5, 9], "num_demonstrations": [1, 1], "shapes": ["line", "rect", "box"]}
    for task in visits(Drawings(**options), 60):
        (shown,), (asked,) = task.train, task.test
        assert shown.output is not None
        painted = shown.output != shown.input
        expected = np.where(painted, shown.output, asked.input)
        assert np.array_equal(asked.output, expected)


def test_grids_and_demonstrations_are_within_the_ranges() -> None:
    options = {"side": [4, 6], "num_demonstrations": [2, 4], "noise": [0.2, 0.5]}
    tasks = visits(Drawings(**options), 400)
    assert {len(task.train) for task in tasks} == {2, 3, 4}
    sides = {side for task in tasks for side in task.test[0].input.shape}
    assert sides == {4, 5, 6}
    for task in tasks:
        pairs = (*task.train, *task.test)
        assert len({pair.input.shape for pair in pairs}) == 1
        assert len({pair.input.tobytes() for pair in pairs}) == len(pairs)
        assert all(len(np.unique(pair.input)) <= 4 for pair in pairs)


def test_inputs_are_blank_unless_there_is_noise() -> None:
    blank = [len(np.unique(task.test[0].input)) for task in visits(Drawings(), 100)]
    noisy = [len(np.unique(task.test[0].input)) for task in visits(Drawings(noise=[0.1, 0.3]), 100)]
    assert set(blank) == {1}
    assert min(noisy) >= 2


def test_every_shape_colour_and_direction_is_drawn() -> None:
    programs = "\n".join(task.program.text for task in visits(Drawings(), 3000) if task.program)
    shapes = Counter(line.partition("(")[0] for line in programs.splitlines())
    assert set(shapes) == {"pixel", "line", "rect", "box", "flood"}
    assert min(shapes.values()) > 0.08 * shapes.total()
    assert {line.partition("(")[2][0] for line in programs.splitlines()} == set("0123456789")


def test_an_open_end_is_that_of_the_longest_programs_alone() -> None:
    for is_open in (False, True):
        source = Drawings(draws=[2, 4], open_end=is_open)
        ends = [task.program.open_end for task in visits(source, 3) if task.program is not None]
        assert ends == [False, False, is_open]


def test_tasks_depend_on_the_rng_alone_here_and_in_a_worker() -> None:
    source = Drawings(noise=[0.0, 0.3])
    there = pickle.loads(pickle.dumps(source))
    for number in range(len(source.ids)):
        one = source.draw(number, rng_for("test", 5))
        again = there.draw(number, rng_for("test", 5))
        other = source.draw(number, rng_for("test", 6))
        assert one.to_json() == again.to_json() != other.to_json()
        assert one.program == again.program != other.program


def test_the_fixed_list_names_its_tasks_and_grows_without_changing() -> None:
    short = FixedDrawings(num_draws=[9, 12], num_tasks=3).read(BadTasks()).fixed
    assert short.ids[:4] == ("draw_k09_0000", "draw_k09_0001", "draw_k09_0002", "draw_k12_0000")
    assert {task.split for task in short} == {"evaluation"}
    long = FixedDrawings(num_draws=[16, 12, 9], num_tasks=5).read(BadTasks()).fixed
    assert long.select(short.ids).hash() == short.hash()
    other = FixedDrawings(num_draws=[9, 12], num_tasks=3, seed=1).read(BadTasks()).fixed
    assert other.ids == short.ids
    assert not {task.program for task in other} & {task.program for task in short}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": [2, 5]}, "side"),
        ({"side": [5, 31]}, "side"),
        ({"noise": [0.3, 0.2]}, "noise"),
        ({"shapes": ["circle"]}, "shapes"),
        ({"shapes": []}, "shapes"),
        ({"num_demonstrations": [1, 10]}, "num_demonstrations"),
        ({"draws": [0, 2]}, "draws"),
    ],
)
def test_an_impossible_option_is_refused_with_its_name(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Drawings(**options)


def test_more_draws_than_can_show_are_an_error_that_says_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"40 draws that all show.*larger canvases"):
        Drawings(draws=[40, 40], side=[3, 3], shapes=["rect"]).draw(0, rng_for("test", 0))
