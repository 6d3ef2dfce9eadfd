"""Variance components: how much of the spread of runs comes from which seed, with intervals.

    score = mean + part of the stream's seed + part of the initialisation's seed + ... + rest

In: the score of each run and its level of each factor, from a crossed or nested design (see `designs`). Out:
the standard deviation of each part, all being random with mean 0.

Mean squares are set equal to their expectations, which gives the variances (Henderson's third method; Searle,
Casella and McCulloch, Variance Components, 1992). For the intervals each mean square is divided by a random
chi-square over its degrees of freedom, and the same equations are solved again (generalised confidence
intervals: Weerahandi, Exact Statistical Methods for Data Analysis, 1995).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arc_experiments.comparison.designs import NotEstimable, Terms, estimable, factors, weight
from arc_experiments.config.plurals import plural
from arc_experiments.scoring.uncertainty import NOTHING, Values

NUM_DRAWS = 4000
PERCENTS = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of the spread.

    Attributes:
        name: a factor, several that always change together ("stream + init"), a pair ("stream x init"), or
            `designs.REST`: what no factor explains.
        levels: number of levels of the factor, or of pairs of levels; of the rest, of runs.
        degrees: degrees of freedom.
        deviation: standard deviation of this part; 0 if its variance was estimated below 0.
        interval: 95%, of the deviation; None if these runs vary even less than chance would have it.
        share: of the variance of a run with all factors drawn anew.
        share_interval: 95%.
    """

    name: str
    levels: int
    degrees: int
    deviation: float
    interval: tuple[float, float] | None
    share: float | None
    share_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class VarianceComponents:
    """Where the spread comes from; intervals and shares are None if all runs score the same.

    Attributes:
        mean: of all runs.
        deviation: standard deviation of a run with all factors drawn anew.
        interval: 95%, of that deviation.
        components: the factors in the given order, pairs of them, the rest.
        fixed: factors with one level, of which these runs say nothing.
    """

    num_runs: int
    mean: float
    deviation: float
    interval: tuple[float, float] | None
    components: tuple[Component, ...]
    fixed: tuple[str, ...]


def variance_components(
    values: Sequence[float], levels: Mapping[str, Sequence[Hashable]]
) -> VarianceComponents:
    """Split the variance of runs into parts of their factors.

    Args:
        values: a score per run.
        levels: by factor, the level of each run, such as its seed. Levels of the same name are the same: to
            nest evaluations in their models, give those of each model inference seeds of its own.

    Raises:
        NotEstimable: no factor varies, or the runs cannot tell factors from one another or from chance.
        ValueError: unequal lengths, or a value that is not finite.
    """
    scores = np.asarray(values, dtype=float)
    for name, found in levels.items():
        if len(found) != len(scores):
            counts = f"{plural(len(found), 'level')} for {plural(len(scores), 'run')}"
            raise ValueError(f"{name} has {counts}: every run needs one")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers: leave out runs without them")
    varied, fixed = factors(levels)
    if not varied:
        raise NotEstimable(f"these runs do not differ in {', '.join(fixed) or 'any factor'}: vary seeds")
    terms, spaces = estimable(varied, len(scores))
    degrees = np.array([space.shape[1] for space in spaces.values()])
    squares = np.array([np.sum((space.T @ scores) ** 2) for space in spaces.values()])
    expected = np.array([[weight(space, term) for term in terms.values()] for space in spaces.values()])
    chances = np.random.default_rng(0).chisquare(degrees, (NUM_DRAWS, len(terms)))
    drawn = np.linalg.solve(expected, (squares / chances).T).T
    return VarianceComponents(
        num_runs=len(scores),
        mean=float(scores.mean()),
        fixed=fixed,
        **_parts(terms, degrees, np.linalg.solve(expected, squares / degrees), drawn),
    )


def _parts(terms: Terms, degrees: Values, variances: Values, drawn: Values) -> dict[str, Any]:
    """Cut variances at 0, and take deviations, shares and percentiles."""
    variances, drawn = np.maximum(variances, 0), np.maximum(drawn, 0)
    total, totals = variances.sum(), drawn.sum(axis=1)
    varies = bool(total > NOTHING)  # beyond rounding
    return {
        "deviation": float(np.sqrt(total)) if varies else 0.0,
        "interval": _bounds(np.sqrt(totals)) if varies else None,
        "components": tuple(
            Component(
                name=name,
                levels=int(levels.max()) + 1,
                degrees=int(degrees[place]),
                deviation=float(np.sqrt(variances[place])) if varies else 0.0,
                interval=_bounds(np.sqrt(drawn[:, place])) if varies else None,
                share=float(variances[place] / total) if varies else None,
                share_interval=_bounds(drawn[:, place] / totals) if varies else None,
            )
            for place, (name, levels) in enumerate(terms.items())
        ),
    }


def _bounds(drawn: Values) -> tuple[float, float] | None:
    """None if even the upper bound is 0: these runs vary less than chance would have it."""
    low, high = np.percentile(drawn, PERCENTS)
    return (float(low), float(high)) if high > 0 else None
