"""Uncertainty: the interval of one run's scores, and what several runs say about new ones.

One run: `share_intervals` over its tasks. Several: blocks of runs, a block per task list, give an `Estimate`
with a 95% interval for each of two targets:

- new seeds: what other seeds of the same config would score on the same task lists.
- new tasks: what other seeds would score on other tasks like these.

Seeds and tasks are crossed: score of run s on task t = mean + seed[s] + task[t] + rest[s, t], all random.
For the first target the runs' scores are a plain sample, so Student's t is exact. For the second the
variance of the mean has a part of the seeds, estimated with few degrees of freedom, and a part of the
tasks, estimated with many. Each takes the t quantile of its own degrees of freedom and their squared
half-widths add up (the modified large-sample method: Burdick and Graybill, Confidence Intervals on Variance
Components, 1992); the interval is never narrower than the first one, since other tasks add noise. Adding
the variances first, as Satterthwaite does, covers 92% with three seeds where this covers 95%.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

NUM_RESAMPLES = 2000

CONFIDENCE = 0.95
POWER = 0.8
NOTHING = 1e-24


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Runs on one task list.

    Attributes:
        runs: the score of each run.
        by_task: (runs, tasks); the mean of each row is the run's score. None if only scores are known.
    """

    runs: Values
    tasks: tuple[str, ...] = ()
    by_task: Values | None = None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95% interval.

    Attributes:
        detectable: the true difference from zero that runs like these detect with a probability of 80%.
    """

    low: float
    high: float
    detectable: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, or a difference of means, over blocks of equal weight.

    Attributes:
        deviation: standard deviation between runs on the same tasks; None with one run per block.
        new_seeds: None with one run per block, or if all runs score the same.
        new_tasks: None if scores by task are not known, or are all the same.
        with_seeds: whether `new_tasks` includes the variance of seeds, which one run per block cannot show.
    """

    value: float
    deviation: float | None
    new_seeds: Interval | None
    new_tasks: Interval | None
    with_seeds: bool


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """What seeds do to a mean: variances of the mean, and their degrees of freedom.

    Attributes:
        total: of the scores of runs, including the noise of their answers to these tasks.
        seeds: without that noise: what all tasks share.
    """

    total: float
    seeds: float
    degrees: float


def bootstrap(shares: Sequence[Mapping[str, float]]) -> dict[str, list[float] | None]:
    """95% percentile bootstrap intervals over tasks of the mean of each share; one mapping per task.

    Whole tasks are drawn, since a task's test outputs are not independent. All names see the same
    resamples, and so does every run on the same tasks. None where all tasks have the same share: resampling
    them says nothing, and a point would look like certainty.
    """
    num_tasks, names = len(shares), list(shares[0])
    draws = np.random.default_rng(0).multinomial(
        num_tasks, np.full(num_tasks, 1 / num_tasks), size=NUM_RESAMPLES
    )
    values = np.array([[share[name] for name in names] for share in shares])
    low, high = np.percentile(draws @ values / num_tasks, [2.5, 97.5], axis=0)
    return {
        name: [float(low[i]), float(high[i])] if np.ptp(values[:, i]) else None
        for i, name in enumerate(names)
    }


def share_intervals(shares: Sequence[Mapping[str, float]]) -> dict[str, list[float] | None]:
    """95% intervals over tasks of the mean of each share, which is within 0..1; one mapping per task.

    Those of `bootstrap`, and where all tasks have 1, or all 0, the exact one of Clopper and Pearson (1934): a
    mean is at least the probability of a whole task, which is above 0.025 ** (1 / n) unless n whole tasks of
    n are a surprise of less than 2.5%. None where all tasks have another share in common.
    """
    found, num_tasks = bootstrap(shares), len(shares)
    surprising = ((1 - CONFIDENCE) / 2) ** (1 / num_tasks)
    for name in found:
        alike = {share[name] for share in shares}
        if alike == {1.0}:
            found[name] = [surprising, 1.0]
        elif alike == {0.0}:
            found[name] = [0.0, 1 - surprising]
    return found


def weighted(shares: Values, weights: Values) -> Values:
    """Marks (runs, tasks) whose plain means over tasks are the weighted means of `shares`.

    For scores in which a task counts by its test outputs. The variance of these marks between tasks is, to
    first order, that of the ratio (right outputs / outputs).
    """
    relative = weights / weights.mean()
    mean = (shares * relative).mean()
    return np.asarray((shares - mean) * relative + mean)


def estimate(blocks: Sequence[Block]) -> Estimate:
    """The mean of one group of runs."""
    return _estimate([blocks], (1.0,), _deviation(blocks))


def difference(first: Sequence[Block], second: Sequence[Block]) -> Estimate:
    """Second - first, of runs that share their tasks, block by block, but no seeds."""
    return _estimate([first, second], (-1.0, 1.0), None)


def paired_difference(first: Sequence[Block], second: Sequence[Block]) -> Estimate:
    """Second - first, of runs that share tasks and seeds, run by run in the given order."""
    return estimate(
        [
            Block(
                runs=two.runs - one.runs,
                tasks=one.tasks,
                by_task=None if one.by_task is None or two.by_task is None else two.by_task - one.by_task,
            )
            for one, two in zip(first, second, strict=True)
        ]
    )


def smallest_effect(deviation: float, num_seeds: int, *, in_pairs: bool = False) -> float:
    """The smallest true difference between two configs that so many runs of each find with 80% probability.

    It is that of new seeds on the same tasks; `Interval.detectable` is the same of runs that were made.

    Args:
        deviation: the standard deviation between runs of a config; if `in_pairs`, between differences of runs
            of the same seed.

    Raises:
        ValueError: fewer than two seeds.
    """
    if num_seeds < 2:
        raise ValueError(
            f"num_seeds={num_seeds}: one run of each says nothing of other seeds, so take 2 or more"
        )
    groups = 1 if in_pairs else 2
    degrees = groups * (num_seeds - 1)
    error = deviation * sqrt(groups / num_seeds)
    return error * _detected(degrees, sqrt(_squared_t(degrees)))


def sign_test(num_won: int, num_lost: int) -> float:
    """Two-sided p-value of a count as uneven as this if both were equally likely; ties are left out.

    With one run each and one test output per task this is McNemar's exact test.
    """
    num_tasks = num_won + num_lost
    tail = sum(comb(num_tasks, count) for count in range(min(num_won, num_lost) + 1)) / 2**num_tasks
    return float(min(1.0, 2 * tail))


def _block_means(blocks: Sequence[Block]) -> Values:
    return np.array([block.runs.mean() for block in blocks])


def _deviation(blocks: Sequence[Block]) -> float | None:
    """Pooled over blocks, which differ in their tasks but not in the spread of seeds."""
    degrees = sum(len(block.runs) - 1 for block in blocks)
    squares = sum(float(np.sum((block.runs - block.runs.mean()) ** 2)) for block in blocks)
    return sqrt(squares / degrees) if degrees else None


def _spread(blocks: Sequence[Block]) -> _Spread | None:
    """None with one run per block: nothing varies."""
    deviation, num_blocks = _deviation(blocks), len(blocks)
    if deviation is None:
        return None
    shrinking = sum(1 / len(block.runs) for block in blocks) / num_blocks**2
    rest = 0.0
    if all(block.by_task is not None for block in blocks):
        degrees = sum((len(block.runs) - 1) * (len(block.tasks) - 1) for block in blocks)
        mean_squares = sum(_rest_squares(block) for block in blocks) / max(1, degrees)
        rest = mean_squares * sum(1 / (len(b.runs) * len(b.tasks)) for b in blocks) / num_blocks**2
    total = deviation**2 * shrinking
    return _Spread(total=total, seeds=total - rest, degrees=sum(len(block.runs) - 1 for block in blocks))


def _rest_squares(block: Block) -> float:
    """The sum of squares that neither run nor task explains."""
    assert block.by_task is not None
    values = block.by_task
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return float(np.sum(rest**2))


def _estimate(groups: Sequence[Sequence[Block]], signs: Sequence[float], deviation: float | None) -> Estimate:
    """The sum of the groups' means, each with its sign."""
    value = float(sum(sign * _block_means(blocks).mean() for sign, blocks in zip(signs, groups, strict=True)))
    spreads = [spread for blocks in groups if (spread := _spread(blocks)) is not None]
    together = _together(spreads) if len(spreads) == len(groups) else None
    new_seeds = None
    if together is not None:
        new_seeds = _interval(value, together.total, _squared_t(together.degrees) * together.total)
    return Estimate(
        value=value,
        deviation=deviation,
        new_seeds=new_seeds,
        new_tasks=_new_tasks(value, together, groups, signs),
        with_seeds=together is not None,
    )


def _together(spreads: Sequence[_Spread]) -> _Spread:
    """The spread of a sum of independent means, with Welch's degrees of freedom."""
    total = sum(spread.total for spread in spreads)
    parts = sum(spread.total**2 / spread.degrees for spread in spreads)
    return _Spread(
        total=total,
        seeds=max(0.0, sum(spread.seeds for spread in spreads)),
        degrees=total**2 / parts if parts else sum(spread.degrees for spread in spreads),
    )


def _new_tasks(
    value: float, seeds: _Spread | None, groups: Sequence[Sequence[Block]], signs: Sequence[float]
) -> Interval | None:
    parts: dict[str, float] = defaultdict(float)  # contribution of each task to the mean, over all its blocks
    for sign, blocks in zip(signs, groups, strict=True):
        if any(block.by_task is None for block in blocks):
            return None
        mean = _block_means(blocks).mean()
        for block in blocks:
            assert block.by_task is not None
            added = sign * (block.by_task.mean(axis=0) - mean) / (len(blocks) * len(block.tasks))
            for task, part in zip(block.tasks, added, strict=True):
                parts[task] += float(part)
    if len(parts) < 2:
        return None
    tasks = sum(part**2 for part in parts.values()) * len(parts) / (len(parts) - 1)
    squared = _squared_t(len(parts) - 1) * tasks
    if seeds is None:
        return _interval(value, tasks, squared)
    of_runs = _squared_t(seeds.degrees)
    return _interval(
        value,
        max(tasks + seeds.seeds, seeds.total),
        max(squared + of_runs * seeds.seeds, of_runs * seeds.total),
    )


def _squared_t(degrees: float) -> float:
    from scipy import special  # here, because scoring a run needs none of it, and it takes long to import

    return float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2)) ** 2


def _detected(degrees: float, quantile: float) -> float:
    """The true effect, in standard errors, that passes this t quantile with a probability of 80%."""
    from scipy import special

    return float(special.nctdtrinc(degrees, 1 - POWER, quantile))


def _interval(value: float, variance: float, squared_half: float) -> Interval | None:
    """None if nothing varies beyond rounding: a point would look like certainty."""
    from scipy import special

    if variance < NOTHING:
        return None
    half, error = sqrt(squared_half), sqrt(variance)
    # The degrees of freedom with this t quantile; the power comes from the noncentral t with them.
    degrees = float(special.stdtridf((1 + CONFIDENCE) / 2, half / error))
    return Interval(low=value - half, high=value + half, detectable=error * _detected(degrees, half / error))
