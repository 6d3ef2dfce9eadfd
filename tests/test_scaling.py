"""Scaling: known laws are found again, bands hold what comes, and what cannot be known is refused."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from arc_experiments.comparison.scaling import Scaling, fit_scaling, scaling_sentence
from arc_experiments.scoring.uncertainty import Values

SIZES = np.array([25.0, 50, 100, 200, 400])
Law = Callable[[Values], Values]


def loss(sizes: Values) -> Values:
    """A validation loss: a floor, and a fall with the number of tasks."""
    return np.asarray(0.4 + 3.0 * np.asarray(sizes) ** -0.4)


def score(sizes: Values) -> Values:
    """A score that rises to a ceiling."""
    return np.asarray(0.5 - 1.2 * np.asarray(sizes) ** -0.5)


def no_floor(sizes: Values) -> Values:
    return np.asarray(2.0 * np.asarray(sizes) ** -0.2)


def simulated(
    rng: np.random.Generator,
    law: Law,
    *,
    noise: float,
    shared: float = 0.0,
    num_seeds: int = 5,
    sizes: Values = SIZES,
) -> Scaling:
    """Runs on the law: `shared` is the deviation of what a seed does at all sizes, `noise` of the rest."""
    means = law(sizes)
    runs = (
        means
        + shared * rng.standard_normal((num_seeds, 1))
        + noise * rng.standard_normal((num_seeds, len(sizes)))
    )
    seeds = np.repeat(np.arange(num_seeds), len(sizes)) if shared else None
    return fit_scaling(np.tile(sizes, num_seeds), runs.ravel(), None if seeds is None else seeds.tolist())


def held(found: Scaling, law: Law) -> bool:
    """Whether the band ahead holds the truth."""
    assert found.ahead is not None
    assert found.ahead.low is not None
    assert found.ahead.high is not None
    return bool(found.ahead.low <= law(np.array(found.ahead.size)) <= found.ahead.high)


def exact(law: Law, sizes: Values = SIZES, jitter: float = 1e-4) -> Scaling:
    """Three runs a size whose means are on the law."""
    return fit_scaling(np.repeat(sizes, 3), (law(sizes)[:, None] + jitter * np.array([-1, 0, 1])).ravel())


@pytest.mark.parametrize("law", [loss, score, no_floor])
def test_a_law_without_noise_is_found_again(law: Law) -> None:
    found = exact(law)
    assert found.refusal == ""
    assert found.law is not None
    assert found.ahead is not None
    limit, coefficient, exponent = {
        "loss": (0.4, 3.0, 0.4), "score": (0.5, -1.2, 0.5), "no_floor": (0.0, 2.0, 0.2)
    }[law.__name__]  # fmt: skip
    assert found.law.exponent.value == pytest.approx(exponent, rel=1e-3)
    assert found.law.limit.value == pytest.approx(limit, abs=1e-3)
    assert found.law.coefficient.value == pytest.approx(coefficient, rel=1e-3)
    assert found.ahead.size == 800
    assert found.ahead.value == pytest.approx(law(np.array(800.0)), abs=1e-5)
    assert held(found, law)


def test_the_curve_goes_through_the_measured_sizes_to_the_one_ahead_and_its_band_widens_there() -> None:
    found = simulated(np.random.default_rng(1), loss, noise=0.02)
    assert [point.size for point in found.measured] == SIZES.tolist()
    assert found.num_runs == (5,) * 5
    assert (found.curve[0].size, found.curve[-1].size) == pytest.approx((25, 800))
    assert found.curve[-1].value == pytest.approx(found.ahead.value if found.ahead else None)
    widths = [
        point.high - point.low for point in found.curve if point.high is not None and point.low is not None
    ]
    assert widths[-1] > 1.5 * min(widths)


@pytest.mark.parametrize(
    ("law", "noise", "shared", "num_seeds", "num_studies"),
    [
        (loss, 0.02, 0.03, 5, 10),
        *(
            pytest.param(*setting, 500, marks=pytest.mark.slow)
            for setting in (
                (loss, 0.02, 0.0, 5), (loss, 0.02, 0.03, 5), (score, 0.01, 0.01, 5),
                (no_floor, 0.02, 0.02, 5), (loss, 0.02, 0.02, 3), (loss, 0.01, 0.02, 10),
            )
        ),
    ],
)  # fmt: skip
def test_the_band_ahead_holds_the_truth_in_nine_of_ten_studies(
    law: Law, noise: float, shared: float, num_seeds: int, num_studies: int
) -> None:
    rng = np.random.default_rng(17)
    found = [simulated(rng, law, noise=noise, shared=shared, num_seeds=num_seeds) for _ in range(num_studies)]
    answered = [one for one in found if one.ahead is not None]
    assert len(answered) >= 0.8 * num_studies
    assert np.mean([held(one, law) for one in answered]) >= 0.9


@pytest.mark.parametrize("num_studies", [5, pytest.param(400, marks=pytest.mark.slow)])
def test_where_size_changes_nothing_nearly_every_study_refuses(num_studies: int) -> None:
    rng = np.random.default_rng(3)
    found = [
        simulated(rng, lambda sizes: np.full(np.shape(sizes), 0.3), noise=0.05) for _ in range(num_studies)
    ]
    assert np.mean([one.refusal != "" for one in found]) >= 0.95


@pytest.mark.parametrize("num_studies", [5, pytest.param(400, marks=pytest.mark.slow)])
def test_a_jump_is_no_power_law(num_studies: int) -> None:
    def jump(sizes: Values) -> Values:
        return np.where(np.asarray(sizes) < 150, 2.0, 1.0)

    rng = np.random.default_rng(4)
    found = [simulated(rng, jump, noise=0.05) for _ in range(num_studies)]
    assert all(one.ahead is None for one in found)
    assert "do not lie on a power law" in found[0].refusal
    assert found[0].curve[-1].size == pytest.approx(400), "the curve stays where it was measured"


def test_a_loss_that_rises_again_is_no_power_law() -> None:
    found = simulated(
        np.random.default_rng(5), lambda sizes: 1 + 0.2 * np.log(np.asarray(sizes) / 100) ** 2, noise=0.03
    )
    assert found.ahead is None


def test_noise_that_hides_the_law_is_refused() -> None:
    found = simulated(np.random.default_rng(6), loss, noise=0.5)
    assert found.ahead is None
    assert found.refusal


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([100.0], "these runs have 1 size"),
        ([100.0, 400.0], "these runs have 2 sizes"),
        ([100.0, 200.0, 400.0], "Any 3 sizes lie on some law"),
        ([250.0, 300.0, 350.0, 400.0], "too narrow a range to go 2 times beyond: begin at 100 or below"),
    ],
)
def test_too_few_or_too_near_sizes_are_refused_with_what_to_run(sizes: list[float], reason: str) -> None:
    found = exact(loss, np.array(sizes))
    assert found.ahead is None
    assert reason in found.refusal


def test_one_seed_is_refused_as_nothing_is_known_of_the_spread() -> None:
    found = fit_scaling(SIZES, loss(SIZES))
    assert "run size 25, 50, 100, 200, 400 with more seeds" in found.refusal
    assert (found.law, found.curve, found.ahead) == (None, (), None)
    assert [(point.value, point.low) for point in found.measured] == [(value, None) for value in loss(SIZES)]


def test_runs_that_all_score_the_same_are_refused() -> None:
    found = exact(loss, jitter=0.0)
    assert "score the same" in found.refusal


def test_runs_of_one_seed_keep_together_so_what_they_share_moves_no_exponent() -> None:
    rng = np.random.default_rng(8)
    runs = loss(SIZES) + 0.1 * rng.standard_normal((5, 1)) + 0.002 * rng.standard_normal((5, 5))
    seeds = np.repeat(range(5), 5).tolist()
    together = fit_scaling(np.tile(SIZES, 5), runs.ravel(), seeds)
    apart = fit_scaling(np.tile(SIZES, 5), runs.ravel())
    assert together.law is not None
    assert apart.law is not None
    width = {
        name: law.exponent.high - law.exponent.low
        for name, law in (("together", together.law), ("apart", apart.law))
    }
    assert width["together"] < 0.3 * width["apart"]


def test_a_seed_without_a_run_of_some_size_still_counts_at_the_others() -> None:
    rng = np.random.default_rng(9)
    runs = [(size, loss(size) + 0.01 * rng.standard_normal(), seed) for seed in range(5) for size in SIZES]
    sizes, values, seeds = zip(*runs[1:], strict=True)
    found = fit_scaling(sizes, values, seeds)
    assert found.num_runs == (4, 5, 5, 5, 5)
    assert held(found, loss)


def test_a_limit_stays_within_its_bounds() -> None:
    rng = np.random.default_rng(10)
    runs = (no_floor(SIZES) + 0.02 * rng.standard_normal((5, 5))).ravel()
    free, bound = fit_scaling(np.tile(SIZES, 5), runs), fit_scaling(np.tile(SIZES, 5), runs, lowest=0.0)
    assert free.law is not None
    assert bound.law is not None
    assert free.law.limit.low < 0 <= bound.law.limit.low
    assert bound.ahead is not None
    assert held(bound, no_floor)


def test_the_order_of_runs_changes_nothing() -> None:
    rng = np.random.default_rng(11)
    sizes, values = np.tile(SIZES, 4), (loss(SIZES) + 0.02 * rng.standard_normal((4, 5))).ravel()
    seeds = np.repeat(range(4), 5)
    order = np.argsort(sizes, kind="stable")
    again = fit_scaling(sizes[order], values[order], seeds[order].tolist())
    assert again == fit_scaling(sizes, values, seeds.tolist())


@pytest.mark.parametrize(
    ("sizes", "values", "seeds", "beyond", "message"),
    [
        ([], [], None, 2.0, "there are 0, 0, 0"),
        ([1.0, 2.0], [1.0], None, 2.0, "there are 2, 1, 2"),
        ([1.0, 2.0], [1.0, float("nan")], None, 2.0, "leave out runs without them"),
        ([0.0, 2.0], [1.0, 2.0], None, 2.0, "sizes must be positive"),
        ([1.0, 1.0], [1.0, 2.0], [7, 7], 2.0, "seed 7 has two runs of size 1"),
        ([1.0, 2.0], [1.0, 2.0], None, 1.0, "beyond=1.0 must be above 1"),
        ([1.0, 2.0], [1.0, 2.0], None, float("nan"), "beyond=nan must be above 1"),
    ],
)
def test_bad_runs_are_named(
    sizes: list[float], values: list[float], seeds: list[int] | None, beyond: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_scaling(sizes, values, seeds, beyond=beyond)


def test_the_sentence_says_what_to_expect_or_why_not() -> None:
    found = exact(loss)
    said = scaling_sentence(found, metric="the loss", of="tasks")
    assert said.startswith("With 2 times the tasks (800) the loss would be 0.60")
    assert "if the law holds beyond 400 tasks" in said
    in_percent = scaling_sentence(found, metric="pass@2", of="tasks", show="{:.0%}".format)
    assert in_percent.startswith("With 2 times the tasks (800) pass@2 would be 61% (95% band 61% to ")
    steps = scaling_sentence(exact(loss, 5000 * SIZES), metric="the loss", of="steps")
    assert "(4,000,000)" in steps
    assert "beyond 2,000,000 steps" in steps
    refused = scaling_sentence(fit_scaling([9.0, 9.0], [0.1, 0.2]), metric="the loss", of="tasks")
    assert refused.startswith(
        "What more than 9 tasks would give, these runs cannot tell. A law needs 4 sizes"
    )


def test_a_result_can_be_written_as_json() -> None:
    import json

    assert json.loads(json.dumps(asdict(exact(score))))["ahead"]["size"] == 800
