"""Augmentation: every transform does what its name says, and undoes itself exactly."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_grids import grid, grids

from arc_experiments.augmentation import (
    Colours,
    Compose,
    Geometry,
    Order,
    Reversible,
    Swap,
    Tile,
    Transform,
    Translate,
    Upscale,
    augment,
)
from arc_experiments.augmentation.steps import SYMMETRIES, ColourMap, Symmetry
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid


def numbered_task(num_train: int, num_test: int) -> Task:
    """Pair number n has n in its input's only cell, and 9 - n in its output's."""
    pairs = [Pair(input=grid(str(n)), output=grid(str(9 - n))) for n in range(num_train + num_test)]
    return Task(id="numbered", train=tuple(pairs[:num_train]), test=tuple(pairs[num_train:]), split="toy")


ASYMMETRIC = grid("120", "003")
TASK = Task(
    id="toy",
    train=(Pair(input=ASYMMETRIC, output=grid("4")), Pair(input=grid("56"), output=grid("7", "0"))),
    test=(Pair(input=grid("89", "01"), output=ASYMMETRIC), Pair(input=grid("2"), output=None)),
    split="toy",
)


def digest(task: Task) -> str:
    return TaskSet([task]).hash()


def first_cells(pairs: tuple[Pair, ...]) -> list[int]:
    return [int(pair.input[0, 0]) for pair in pairs]


def drawn(transform: Transform, task: Task = TASK, seed: int = 1) -> Any:
    step = transform.draw(task, np.random.default_rng(seed))
    assert step is not None
    return step


# Symmetries


def test_the_eight_symmetries_are_what_their_names_say() -> None:
    made = {SYMMETRIES[index]: Symmetry(index).apply_grid(ASYMMETRIC).tolist() for index in range(8)}
    assert made == {
        "identity": [[1, 2, 0], [0, 0, 3]],
        "rot90": [[0, 3], [2, 0], [1, 0]],
        "rot180": [[3, 0, 0], [0, 2, 1]],
        "rot270": [[0, 1], [0, 2], [3, 0]],
        "transpose": [[1, 0], [2, 0], [0, 3]],
        "transpose_rot90": [[0, 0, 3], [1, 2, 0]],
        "transpose_rot180": [[3, 0], [0, 2], [0, 1]],
        "transpose_rot270": [[0, 2, 1], [3, 0, 0]],
    }


def test_the_eight_symmetries_are_a_group() -> None:
    square = np.arange(9, dtype=np.uint8).reshape(3, 3)
    images = {Symmetry(index).apply_grid(square).tobytes() for index in range(8)}
    twice = {
        Symmetry(j).apply_grid(Symmetry(i).apply_grid(square)).tobytes() for i in range(8) for j in range(8)
    }
    assert len(images) == 8
    assert twice == images


@given(cells=grids(), index=st.integers(0, 7))
def test_a_symmetry_undoes_itself(cells: Grid, index: int) -> None:
    symmetry = Symmetry(index)
    assert np.array_equal(symmetry.undo(symmetry.apply_grid(cells)), cells)
    assert np.array_equal(symmetry.apply_grid(symmetry.undo(cells)), cells)


def test_geometry_turns_every_grid_of_a_task_alike_and_draws_all_eight() -> None:
    seen = set()
    for seed in range(60):
        step = drawn(Geometry(), seed=seed)
        seen.add(step.name)
        made = step.apply(TASK)
        turn = Symmetry(SYMMETRIES.index(step.name)).apply_grid
        for old, new in zip((*TASK.train, *TASK.test), (*made.train, *made.test), strict=True):
            assert np.array_equal(new.input, turn(old.input))
            assert (old.output is None) == (new.output is None)
            if old.output is not None:
                assert np.array_equal(new.output, turn(old.output))
    assert seen == set(SYMMETRIES)


# Colours


@given(cells=grids(), seed=st.integers(0, 2**32), background=st.sampled_from([0.0, 0.5, 1.0]))
def test_a_colour_map_undoes_itself(cells: Grid, seed: int, background: float) -> None:
    step = drawn(Colours(background_probability=background), seed=seed)
    task = Task(id="a", train=TASK.train, test=(Pair(input=cells, output=cells),))
    made = step.apply(task).test[0].output
    assert made is not None
    assert made.dtype == np.uint8
    assert np.array_equal(step.undo(made), cells)


def test_a_colour_map_is_a_permutation_applied_to_every_cell() -> None:
    step = drawn(Colours())
    assert isinstance(step, ColourMap)
    assert sorted(step.table) == list(range(10))
    assert step.name == "colours_" + "".join(map(str, step.table))
    made = step.apply(TASK).train[0].input
    assert made.tolist() == [[step.table[cell] for cell in row] for row in ASYMMETRIC]


def test_the_background_stays_with_probability_0_and_takes_part_with_1() -> None:
    never = [drawn(Colours(background_probability=0), seed=seed) for seed in range(50)]
    always = [drawn(Colours(background_probability=1), seed=seed) for seed in range(50)]
    assert {int(step.table[0]) for step in never if isinstance(step, ColourMap)} == {0}
    assert {int(step.table[0]) for step in always if isinstance(step, ColourMap)} == set(range(10))


# Order and swap


def test_order_shuffles_the_demonstrations_and_keeps_the_tests() -> None:
    task = numbered_task(4, 2)
    orders = set()
    for seed in range(200):
        made = drawn(Order(), task, seed).apply(task)
        assert first_cells(made.test) == [4, 5]
        assert sorted(first_cells(made.train)) == [0, 1, 2, 3]
        orders.add(tuple(first_cells(made.train)))
    assert len(orders) == 24


def test_swap_lets_every_pair_become_the_one_asked_for() -> None:
    task = numbered_task(3, 1)
    asked = set()
    for seed in range(60):
        made = drawn(Swap(), task, seed).apply(task)
        assert (len(made.train), len(made.test)) == (3, 1)
        assert sorted(first_cells(made.train + made.test)) == [0, 1, 2, 3]
        asked.update(first_cells(made.test))
    assert asked == {0, 1, 2, 3}


def test_an_answer_needs_no_undoing_where_only_demonstrations_move() -> None:
    assert np.array_equal(drawn(Order()).undo(ASYMMETRIC), ASYMMETRIC)
    assert not isinstance(drawn(Swap()), Reversible), "a test pair may have become a demonstration"


@pytest.mark.parametrize("transform", [Order(), Swap()])
def test_pairs_move_whole(transform: Transform) -> None:
    task = numbered_task(5, 2)
    step = drawn(transform, task)
    made = step.apply(task)
    for pair in made.train + made.test:
        assert pair.output is not None
        assert int(pair.output[0, 0]) == 9 - int(pair.input[0, 0])


# All of them

KINDS: list[Callable[..., Transform]] = [Geometry, Colours, Order, Swap, Translate, Upscale, Tile, Compose]


@pytest.mark.parametrize("kind", KINDS)
def test_probability_0_leaves_the_task_alone_and_takes_the_same_draws(kind: Callable[..., Transform]) -> None:
    for seed in range(20):
        off, on = np.random.default_rng(seed), np.random.default_rng(seed)
        made = augment(TASK, [kind(probability=0)], off)
        assert (made.task, made.steps) == (TASK, ())
        assert kind(probability=1).draw(TASK, on) is not None
        assert off.random() == on.random(), "switching one off does not change what the next ones draw"


@pytest.mark.parametrize("kind", KINDS)
def test_a_probability_between_is_kept(kind: Callable[..., Transform]) -> None:
    rng = np.random.default_rng(1)
    steps = [kind(probability=0.3).draw(TASK, rng) for _ in range(1000)]
    assert 0.25 < sum(step is not None for step in steps) / 1000 < 0.35


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_0_to_1_is_refused(kind: Callable[..., Transform], probability: float) -> None:
    with pytest.raises(ValueError, match=r"probability=.* is not within 0\.\.1"):
        kind(probability=probability)
    with pytest.raises(ValueError, match="background_probability"):
        Colours(background_probability=probability)


EVERY: list[Transform] = [kind(probability=1) for kind in KINDS]


@pytest.mark.parametrize("transforms", [EVERY, EVERY[::-1]], ids=["in order", "reversed"])
def test_transforms_are_applied_in_their_order_and_leave_their_task_as_it_was(
    transforms: list[Transform],
) -> None:
    before = digest(TASK)
    made = augment(TASK, transforms, np.random.default_rng(3))
    rng, expected, steps = np.random.default_rng(3), TASK, []
    for transform in transforms:
        step = transform.draw(expected, rng)
        assert step is not None
        steps.append(step)
        expected = step.apply(expected)
    assert digest(made.task) == digest(expected) != before
    assert [step.name for step in made.steps] == [step.name for step in steps]
    assert digest(TASK) == before
    assert (made.task.id, made.task.split) == ("toy", "toy")


def test_the_same_rng_gives_the_same_task_and_steps_and_no_global_state_is_touched() -> None:
    def made(seed: int) -> tuple[str, list[str]]:
        result = augment(TASK, EVERY, np.random.default_rng(seed))
        return digest(result.task), [step.name for step in result.steps]

    before = str(np.random.get_state())
    assert len({str(made(seed)) for seed in range(20)}) == 20
    assert [made(seed) for seed in range(20)] == [made(seed) for seed in range(20)]
    assert str(np.random.get_state()) == before


def test_names_tell_what_was_drawn() -> None:
    names = [step.name for step in augment(TASK, EVERY, np.random.default_rng(5)).steps]
    patterns = ["[a-z_0-9]+", "colours_[0-9]{10}", "order", "swap",
                r"translate_[+-]\d[+-]\d", r"upscale_\dx\d",
                r"(tile|mirror)_\dx\d", "(input|output)_.*"]  # fmt: skip
    assert len(names) == len(patterns)
    assert all(re.fullmatch(pattern, name) for pattern, name in zip(patterns, names, strict=True))


def test_permutations_and_symmetries_are_drawn_alike_often() -> None:
    rng = np.random.default_rng(1)
    task = numbered_task(3, 1)
    turns = Counter(drawn_name(Geometry(), task, rng) for _ in range(4000))
    assert all(410 < count < 590 for count in turns.values())
    orders = Counter(tuple(first_cells(augment(task, [Swap()], rng).task.train)) for _ in range(4800))
    assert len(orders) == 24
    assert all(140 < count < 260 for count in orders.values())


def drawn_name(transform: Transform, task: Task, rng: np.random.Generator) -> str:
    step = transform.draw(task, rng)
    assert step is not None
    return step.name
