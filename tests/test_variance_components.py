"""Variance components: closed forms by hand, simulated designs, and what a design cannot tell apart."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats

from arc_experiments.comparison.designs import REST, NotEstimable
from arc_experiments.comparison.variance_components import (
    Component,
    VarianceComponents,
    variance_components,
)

FACTORS = ("stream", "init", "train", "partition", "inference")
Design = Mapping[str, Sequence[int]]


def crossed(**counts: int) -> dict[str, list[int]]:
    """Every level of each factor with every level of the others."""
    rows = list(product(*(range(count) for count in counts.values())))
    return {name: [row[place] for row in rows] for place, name in enumerate(counts)}


def nested(num_models: int, num_evaluations: int) -> dict[str, list[int]]:
    """Evaluations of trained models, each with an inference seed of its own."""
    rows = list(product(range(num_models), range(num_evaluations)))
    return {"train": [model for model, _ in rows], "inference": [10 * model + one for model, one in rows]}


def square() -> dict[str, list[int]]:
    """25 runs in which each pair of the five factors' five levels occurs once (Bose's orthogonal array)."""
    rows = [(i, j, *((i + k * j) % 5 for k in (1, 2, 3))) for i, j in product(range(5), range(5))]
    return {name: [row[place] for row in rows] for place, name in enumerate(FACTORS)}


def part(found: VarianceComponents, name: str) -> Component:
    return next(one for one in found.components if one.name == name)


def drawn(rng: np.random.Generator, design: Design, deviations: Mapping[str, float]) -> np.ndarray:
    """Scores of a design; a name such as "stream x init" has a part for each pair."""
    values = np.zeros(len(next(iter(design.values()))))
    for name, deviation in deviations.items():
        keys = (
            list(range(len(values)))
            if name == REST
            else list(zip(*(design[factor] for factor in name.split(" x ")), strict=True))
        )
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        values += deviation * rng.standard_normal(len(numbers))[[numbers[key] for key in keys]]
    return 0.3 + values


DESIGNS = {
    "two crossed": (crossed(stream=5, init=4), {"stream": 0.03, "init": 0.02, REST: 0.02}),
    "one": (crossed(stream=5, repeat=3) | {"repeat": [0] * 15}, {"stream": 0.02, REST: 0.02}),
    "nested": (nested(6, 3), {"train": 0.03, "inference": 0.01}),
    "five in 25 runs": (
        square(),
        dict(zip((*FACTORS, REST), (0.02, 0.02, 0.01, 0.04, 0.01, 0.02), strict=True)),
    ),
    "pairs": (
        crossed(stream=4, init=4, train=3),
        {"stream": 0.03, "init": 0.02, "train": 0.02, "stream x init": 0.02, REST: 0.01},
    ),
}


def missing_one(design: Design) -> dict[str, list[int]]:
    return {name: list(levels)[:-1] for name, levels in design.items()}


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("num_studies", [pytest.param(1000, marks=pytest.mark.slow)])
def test_95_of_100_intervals_hold_the_deviation_of_each_factor(
    name: str, whole: bool, num_studies: int
) -> None:
    design, truth = DESIGNS[name]
    design = design if whole else missing_one(design)
    rng = np.random.default_rng(1)
    covered: dict[str, list[bool]] = {key: [] for key in truth}
    for _ in range(num_studies):
        found = variance_components(drawn(rng, design, truth), design)
        for key, deviation in truth.items():
            interval = part(found, key).interval
            covered[key].append(interval is not None and interval[0] <= deviation <= interval[1])
    for key, held in covered.items():
        assert 0.93 <= round(np.mean(held), 2) <= 0.97, key


def test_most_intervals_of_a_few_studies_hold_the_deviations() -> None:
    design, truth = DESIGNS["five in 25 runs"]
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(40):
        found = variance_components(drawn(rng, design, truth), design)
        for key, deviation in truth.items():
            interval = part(found, key).interval
            covered.append(interval is not None and interval[0] <= deviation <= interval[1])
    assert 0.9 <= np.mean(covered) <= 0.99


def test_one_factor_is_the_analysis_of_variance() -> None:
    rows = np.array([[0.2, 0.24, 0.22], [0.3, 0.28, 0.29], [0.25, 0.31, 0.22], [0.4, 0.41, 0.36]])
    found = variance_components(rows.ravel(), {"stream": np.repeat(range(4), 3).tolist()})
    between, within = 3 * rows.mean(axis=1).var(ddof=1), rows.var(axis=1, ddof=1).mean()
    assert part(found, "stream").deviation == pytest.approx(np.sqrt((between - within) / 3))
    assert part(found, REST).deviation == pytest.approx(np.sqrt(within))
    assert (part(found, "stream").degrees, part(found, REST).degrees) == (3, 8)
    assert between / within == pytest.approx(stats.f_oneway(*rows).statistic)
    assert found.mean == pytest.approx(rows.mean())
    assert found.deviation**2 == pytest.approx((between - within) / 3 + within)
    assert sum(one.share or 0 for one in found.components) == pytest.approx(1)


def test_the_rest_has_the_chi_square_interval() -> None:
    rows = np.random.default_rng(3).standard_normal((6, 4))
    found = part(variance_components(rows.ravel(), {"stream": np.repeat(range(6), 4).tolist()}), REST)
    squares = 18 * rows.var(axis=1, ddof=1).mean()
    assert found.interval == pytest.approx(np.sqrt(squares / stats.chi2.ppf([0.975, 0.025], 18)), rel=0.03)


def test_two_crossed_factors_are_taken_apart_by_their_mean_squares() -> None:
    rows = np.array([[0.1, 0.3, 0.2], [0.2, 0.45, 0.3], [0.0, 0.2, 0.15], [0.3, 0.4, 0.41]])
    found = variance_components(rows.ravel(), crossed(stream=4, init=3))
    mean = rows.mean()
    rest = np.sum((rows - rows.mean(1, keepdims=True) - rows.mean(0) + mean) ** 2) / 6
    assert part(found, "stream").deviation == pytest.approx(np.sqrt(rows.mean(1).var(ddof=1) - rest / 3))
    assert part(found, "init").deviation == pytest.approx(np.sqrt(rows.mean(0).var(ddof=1) - rest / 4))
    assert [one.name for one in found.components] == ["stream", "init", REST]


def test_evaluations_with_their_own_seeds_are_nested_and_leave_no_rest() -> None:
    rng = np.random.default_rng(4)
    design = nested(5, 3)
    values = drawn(rng, design, {"train": 0.05, "inference": 0.02})
    found = variance_components(values, design)
    assert [(one.name, one.levels, one.degrees) for one in found.components] == [
        ("train", 5, 4), ("inference", 15, 10)
    ]  # fmt: skip
    within = values.reshape(5, 3).var(axis=1, ddof=1).mean()
    assert part(found, "inference").deviation == pytest.approx(np.sqrt(within))


def test_pairs_that_occur_again_have_a_part_of_their_own() -> None:
    design, truth = DESIGNS["pairs"]
    found = variance_components(drawn(np.random.default_rng(5), design, truth), design)
    names = [one.name for one in found.components]
    assert names == ["stream", "init", "train", "stream x init", "stream x train", "init x train", REST]
    assert sum(one.degrees for one in found.components) == 47


def test_five_factors_of_five_levels_need_25_runs() -> None:
    found = variance_components(
        drawn(np.random.default_rng(6), square(), {"init": 0.1, REST: 0.001}), square()
    )
    assert [(one.name, one.degrees) for one in found.components] == [(name, 4) for name in (*FACTORS, REST)]
    assert (part(found, "init").share or 0) > 0.98
    assert (part(found, "train").share or 0) < 0.01


def test_seeds_that_always_change_together_are_one_factor() -> None:
    seeds = [1, 1, 2, 2, 3, 3]
    found = variance_components([0.1, 0.12, 0.3, 0.29, 0.2, 0.23], {"stream": seeds, "init": seeds})
    assert [one.name for one in found.components] == ["stream + init", REST]


def test_what_is_not_varied_is_named() -> None:
    found = variance_components([0.1, 0.12, 0.3, 0.29], {"stream": [1, 1, 2, 2], "partition": [7, 7, 7, 7]})
    assert found.fixed == ("partition",)


def test_a_part_below_zero_is_nothing_and_its_interval_begins_there() -> None:
    found = part(
        variance_components([0.1, 0.5, 0.4, 0.1, 0.3, 0.41], {"stream": [1, 1, 2, 2, 3, 3]}), "stream"
    )
    assert found.deviation == 0
    assert found.interval is not None
    assert found.interval[0] == 0 < found.interval[1]


def test_runs_that_all_score_the_same_have_no_intervals() -> None:
    found = variance_components([0.25] * 20, crossed(stream=5, init=4))
    assert (found.deviation, found.interval) == (0, None)
    assert {(one.deviation, one.interval, one.share) for one in found.components} == {(0, None, None)}


def test_the_order_of_runs_and_factors_changes_no_estimate() -> None:
    design, truth = DESIGNS["pairs"]
    values = drawn(np.random.default_rng(7), design, truth)[:-2]
    design = missing_one(missing_one(design))
    backwards = {name: design[name][::-1] for name in reversed(design)}
    there, back = variance_components(values, design), variance_components(values[::-1], backwards)
    for name in ("stream", "init", "train", REST):
        assert part(there, name).deviation == pytest.approx(part(back, name).deviation, abs=1e-12)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"stream": [1, 1, 1, 1]}, "do not differ in stream: vary seeds"),
        ({}, "do not differ in any factor"),
        ({"stream": [1, 1, 2, 2], "init": [1, 2, 1, 2], "train": [1, 2, 2, 1]}, "4 runs are too few to tell"),
        (
            {"stream": [1, 1, 2, 2, 3, 3], "init": [1, 1, 1, 1, 2, 2], "train": [1, 1, 2, 2, 1, 1]},
            "stream cannot be told from init, train",
        ),
    ],
)
def test_a_design_that_cannot_tell_is_refused_with_what_is_missing(
    levels: dict[str, list[int]], message: str
) -> None:
    count = max([4, *map(len, levels.values())])
    with pytest.raises(NotEstimable, match=message):
        variance_components([0.1, 0.2, 0.3, 0.5, 0.2, 0.1][:count], levels)


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.1, float("nan"), 0.2, 0.3], "must be finite"), ([0.1, 0.2], "stream has 4 levels for 2 runs")],
)
def test_bad_runs_are_named(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variance_components(values, {"stream": [1, 1, 2, 2]})
