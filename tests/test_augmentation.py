"""Augmentation: every transform does what its name says, and undoes itself exactly."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_experiments.augmentation import Colours, Geometry, Order, Step, Swap, Transform, augment, draw_views
from arc_experiments.augmentation.transforms import SYMMETRIES, ColourMap, Symmetry
from arc_experiments.grids import Grid
from arc_experiments.rngs import rng_for
from arc_experiments.tasks import Pair, Task, TaskSet


def grid(*rows: str) -> Grid:
    return np.array([list(map(int, row)) for row in rows], np.uint8)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 10, shape, dtype=np.uint8)


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


def drawn(transform: Transform, task: Task = TASK, seed: int = 1) -> Step:
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


@pytest.mark.parametrize("transform", [Order(), Swap()])
def test_pairs_move_whole_and_answers_need_no_undoing(transform: Transform) -> None:
    task = numbered_task(5, 2)
    step = drawn(transform, task)
    made = step.apply(task)
    for pair in made.train + made.test:
        assert pair.output is not None
        assert int(pair.output[0, 0]) == 9 - int(pair.input[0, 0])
    assert np.array_equal(step.undo(ASYMMETRIC), ASYMMETRIC)


# All of them

KINDS: list[Callable[..., Transform]] = [Geometry, Colours, Order, Swap]


@pytest.mark.parametrize("kind", KINDS)
def test_probability_0_leaves_the_task_alone_and_takes_the_same_draws(kind: Callable[..., Transform]) -> None:
    for seed in range(20):
        off, on = np.random.default_rng(seed), np.random.default_rng(seed)
        assert augment(TASK, [kind(probability=0)], off) is TASK
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


def test_transforms_are_applied_in_their_order_and_leave_their_task_as_it_was() -> None:
    before = digest(TASK)
    transforms = [Geometry(), Colours(), Order(), Swap()]
    made = augment(TASK, transforms, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    expected = TASK
    for transform in transforms:
        step = transform.draw(expected, rng)
        assert step is not None
        expected = step.apply(expected)
    assert digest(made) == digest(expected) != before
    assert digest(TASK) == before
    assert (made.id, made.split) == ("toy", "toy")
    assert digest(augment(TASK, transforms, np.random.default_rng(3))) == digest(made)


# Views


def test_view_0_is_the_task_as_it_is() -> None:
    view = draw_views(TASK, 8, 1)[0]
    assert view.name == "identity"
    assert view.apply(TASK) is TASK
    assert view.undo(ASYMMETRIC) is ASYMMETRIC


def test_more_views_keep_the_first_ones() -> None:
    few, many = draw_views(TASK, 5, 1), draw_views(TASK, 20, 1)
    assert [view.name for view in many[:5]] == [view.name for view in few]
    assert [view.index for view in many] == list(range(20))
    assert [digest(view.apply(TASK)) for view in many[:5]] == [digest(view.apply(TASK)) for view in few]


def test_eight_views_hold_all_eight_symmetries() -> None:
    assert [view.name.split()[0] for view in draw_views(TASK, 8, 1)] == list(SYMMETRIES)


def test_views_differ_by_seed_and_task_and_by_nothing_else() -> None:
    other = Task(id="other", train=TASK.train, test=TASK.test)

    def names(task: Task, seed: int) -> list[str]:
        return [view.name for view in draw_views(task, 8, seed)]

    assert names(TASK, 1) == names(TASK, 1)
    assert len({tuple(names(task, seed)) for task in (TASK, other) for seed in (1, 2)}) == 4


@given(cells=grids(), seed=st.integers(0, 1000), index=st.integers(0, 15))
def test_a_view_undoes_itself_on_every_test_output(cells: Grid, seed: int, index: int) -> None:
    task = Task(
        id="a", train=TASK.train, test=(Pair(input=cells, output=cells), Pair(input=cells, output=cells))
    )
    view = draw_views(task, index + 1, seed)[index]
    made = view.apply(task)
    assert len(made.train) == len(task.train)
    for pair in made.test:
        assert pair.output is not None
        assert np.array_equal(view.undo(pair.output), cells)


def test_a_view_needs_no_solutions() -> None:
    task = TASK.without_solutions()
    made = draw_views(task, 4, 1)[3].apply(task)
    assert [pair.output for pair in made.test] == [None, None]


# The random streams beneath


def test_a_random_stream_depends_on_purpose_seed_and_place_alone() -> None:
    def first(*key: int | str) -> float:
        return float(rng_for(str(key[0]), int(key[1]), *key[2:]).random())

    keys = [
        ("a", 1, 2),
        ("b", 1, 2),
        ("a", 2, 2),
        ("a", 1, 3),
        ("a", 1),
        ("a", 1, 2, 0),
        ("a", 12),
        ("a", 1, "x"),
    ]
    assert len({first(*key) for key in keys}) == len(keys)
    assert [first(*key) for key in keys] == [first(*key) for key in keys]
    assert first("stream", 1, 42) == 0.5873704309138407, "the same for everybody"
