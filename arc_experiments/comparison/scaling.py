"""Scaling: fit a power law to scores by size, and say what more would give, or why these runs cannot tell.

In: the size, the score and the seed of each run. Out: a `Scaling`; its `ahead` is what to expect at twice the
largest size, its `refusal` says why that is not known.

Bands come from a bootstrap over seeds. To draw five seeds from five has few outcomes and is too narrow, so
every resample moves the means by a random multiple of each seed's deviations (the multiplier bootstrap:
Mammen, Annals of Statistics 21, 1993), divided by a chi, which gives a plain mean Student's interval; then
the law is fitted again. Runs of one seed move together, since they share part of their luck.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_experiments.comparison.power_law import Laws, fit_laws
from arc_experiments.report.wording import plural
from arc_experiments.scoring.uncertainty import NOTHING, NUM_RESAMPLES, Values

NUM_POINTS = 41  # of the curve
MIN_SIZES = 4  # three points are on some law, whatever they are
MISFIT = 0.01  # a law is given up if seeds alone move means so far off it with less than this probability
PERCENTS = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value at a size, with its 95% interval; None where that is not known."""

    size: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the law, with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Law:
    """`value(size) = limit + coefficient * size ** -exponent`."""

    limit: Parameter
    coefficient: Parameter
    exponent: Parameter


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What scores by size say.

    Attributes:
        measured: the mean at each size, ascending.
        num_runs: at each of these sizes.
        beyond: how far to extrapolate, as a multiple of the largest size.
        law: None if it was not fitted.
        curve: the law over the measured sizes, and up to `ahead` if that is known.
        ahead: what to expect at `beyond` times the largest size; None if refused.
        refusal: the reason for that, as a sentence; else "".
    """

    measured: tuple[Point, ...]
    num_runs: tuple[int, ...]
    beyond: float
    law: Law | None = None
    curve: tuple[Point, ...] = ()
    ahead: Point | None = None
    refusal: str = ""


def fit_scaling(
    sizes: Sequence[float],
    values: Sequence[float],
    seeds: Sequence[Hashable] | None = None,
    *,
    beyond: float = 2.0,
    lowest: float = -np.inf,
    highest: float = np.inf,
) -> Scaling:
    """Fit a power law to the scores of runs, and extrapolate it if they carry that.

    Args:
        sizes: of each run: tasks, steps, views.
        values: of each run: a loss or a score.
        seeds: of each run; runs of one seed at several sizes are taken as related. None: no two are.
        beyond: how far to extrapolate, as a multiple of the largest size.
        lowest, highest: what the limit cannot pass, such as `lowest=0` for a loss.

    Raises:
        ValueError: no runs, unequal lengths, a size that is not positive, a value that is not finite, two
            runs of one seed at one size, or a `beyond` of at most 1.
    """
    steps, table = _by_seed(sizes, values, seeds)
    if not beyond > 1:
        raise ValueError(f"beyond={beyond} must be above 1: it is a multiple of the largest size")
    counts = np.count_nonzero(~np.isnan(table), axis=0)
    means = np.nanmean(table, axis=0)
    num_runs = tuple(map(int, counts))
    if reason := _too_few(steps, table, counts):
        points = (Point(size=float(size), value=float(mean)) for size, mean in zip(steps, means, strict=True))
        return Scaling(measured=tuple(points), num_runs=num_runs, beyond=beyond, refusal=reason)
    rng = np.random.default_rng(0)
    moved = means + _errors(table, counts, rng)
    law, laws = (fit_laws(steps, rows, counts, lowest, highest) for rows in (means[None], moved))
    on_law = fit_laws(steps, law.at(steps) + _errors(table, counts, rng), counts, lowest, highest)
    ahead = _points(law, laws, steps[-1:] * beyond)[0]
    misfit = float(np.mean(on_law.misfit >= law.misfit))
    reason = _not_carried(steps, means, laws, ahead, misfit, beyond)
    shown = np.geomspace(steps[0], steps[-1] if reason else ahead.size, NUM_POINTS)
    return Scaling(
        measured=tuple(map(_point, steps, means, np.percentile(moved, PERCENTS, axis=0).T)),
        num_runs=num_runs,
        beyond=beyond,
        law=Law(
            limit=_parameter(law.limits, laws.limits),
            coefficient=_parameter(law.coefficients, laws.coefficients),
            exponent=_parameter(law.exponents, laws.exponents),
        ),
        curve=_points(law, laws, shown),
        ahead=None if reason else ahead,
        refusal=reason,
    )


def scaling_sentence(
    found: Scaling, *, metric: str, of: str, show: Callable[[float], str] = "{:.4g}".format
) -> str:
    """Say what to expect with more, or why that is not known.

    Args:
        metric, of: what is measured, and of what there is more: "the validation loss", "tasks".
        show: writes a value of the metric.
    """
    largest = f"{_count(found.measured[-1].size)} {of}"
    if found.ahead is None:
        return f"What more than {largest} would give, these runs cannot tell. {found.refusal}"
    ahead = found.ahead
    assert ahead.low is not None, "a law comes with its band"
    assert ahead.high is not None
    return (
        f"With {found.beyond:g} times the {of} ({_count(ahead.size)}) {metric} would be {show(ahead.value)} "
        f"(95% band {show(ahead.low)} to {show(ahead.high)}), if the law holds beyond {largest}; now it is "
        f"{show(found.measured[-1].value)}."
    )


def _by_seed(
    sizes: Sequence[float], values: Sequence[float], seeds: Sequence[Hashable] | None
) -> tuple[Values, Values]:
    """Sizes, ascending, and values (seeds, sizes), NaN where a seed has no run."""
    seeds = range(len(sizes)) if seeds is None else seeds
    if not len(sizes) or not len(sizes) == len(values) == len(seeds):
        raise ValueError(
            f"every run needs a size, a value and a seed: there are {len(sizes)}, {len(values)}, {len(seeds)}"
        )
    if not (np.isfinite(values).all() and np.isfinite(sizes).all() and min(sizes) > 0):
        raise ValueError("sizes must be positive and values finite numbers: leave out runs without them")
    steps, columns = np.unique(np.asarray(sizes, dtype=float), return_inverse=True)
    rows = {seed: row for row, seed in enumerate(dict.fromkeys(seeds))}
    table = np.full((len(rows), len(steps)), np.nan)
    for seed, column, value in zip(seeds, columns, values, strict=True):
        if not np.isnan(table[rows[seed], column]):
            raise ValueError(
                f"seed {seed} has two runs of size {_count(steps[column])}: leave one of them out"
            )
        table[rows[seed], column] = value
    return steps, table


def _errors(table: Values, counts: NDArray[np.int64], rng: np.random.Generator) -> Values:
    """Draw errors of the means over seeds, (resamples, sizes): at each size Student's t."""
    known = ~np.isnan(table)
    deviations = np.where(known, table - np.nanmean(table, axis=0), 0.0)
    errors = rng.standard_normal((NUM_RESAMPLES, len(table))) @ (
        deviations / np.sqrt(counts * (counts - 1.0))
    )
    if known.sum(axis=1).max() > 1:  # errors at several sizes are related
        degrees = counts.min() - 1
        return np.asarray(errors / np.sqrt(rng.chisquare(degrees, (NUM_RESAMPLES, 1)) / degrees))
    return np.asarray(errors / np.sqrt(rng.chisquare(counts - 1, errors.shape) / (counts - 1)))


def _too_few(sizes: Values, table: Values, counts: NDArray[np.int64]) -> str:
    """Why no law can be fitted; "" if one can."""
    if len(sizes) < 3:
        return f"A law needs {MIN_SIZES} sizes, and these runs have {plural(len(sizes), 'size')}."
    alone = [_count(size) for size, count in zip(sizes, counts, strict=True) if count < 2]
    if alone:
        return f"One run says nothing of the spread of seeds: run size {', '.join(alone)} with more seeds."
    if max(np.nanvar(table, axis=0)) < NOTHING:
        return "All runs of a size score the same, which says nothing of how sure the law is."
    return ""


def _not_carried(sizes: Values, means: Values, laws: Laws, ahead: Point, misfit: float, beyond: float) -> str:
    """Why the law cannot be extrapolated; "" if it can.

    Args:
        misfit: the probability that means of runs on the law are as far off it as these.
    """
    if len(sizes) < MIN_SIZES:
        return f"Any {len(sizes)} sizes lie on some law: run {MIN_SIZES} or more."
    if sizes[-1] < (1 - 1e-9) * beyond**2 * sizes[0]:
        return (
            f"Sizes from {_count(sizes[0])} to {_count(sizes[-1])} are too narrow a range to go {beyond:g} "
            f"times beyond: begin at {_count(sizes[-1] / beyond**2)} or below."
        )
    ends = laws.at(sizes[[0, -1]])
    low, high = np.percentile(ends[:, 1] - ends[:, 0], PERCENTS)
    if low <= 0 <= high:
        return "From the smallest to the largest size nothing changes by more than seeds do."
    if misfit < MISFIT:
        return "The means do not lie on a power law: seeds alone would hardly move them so far off one."
    assert ahead.low is not None
    assert ahead.high is not None
    if ahead.high - ahead.low > abs(means[-1] - means[0]):
        return (
            f"The band at {_count(ahead.size)} ({ahead.low:.4g} to {ahead.high:.4g}) is wider than all that "
            "these sizes change: run more seeds, or larger sizes."
        )
    return ""


def _count(size: float) -> str:
    """1000000.0 -> "1,000,000"."""
    return f"{size:,.10g}"


def _points(law: Laws, laws: Laws, sizes: Values) -> tuple[Point, ...]:
    return tuple(map(_point, sizes, law.at(sizes)[0], np.percentile(laws.at(sizes), PERCENTS, axis=0).T))


def _point(size: float, value: float, bounds: Values) -> Point:
    return Point(size=float(size), value=float(value), low=float(bounds[0]), high=float(bounds[1]))


def _parameter(value: Values, resampled: Values) -> Parameter:
    low, high = np.percentile(resampled, PERCENTS)
    return Parameter(value=float(value[0]), low=float(low), high=float(high))
