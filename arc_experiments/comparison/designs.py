"""Designs: which parts of the spread a set of runs can tell apart, crossed, nested or a fraction of these.

In: the level of each factor in each run. Out: the terms that can be told apart, each with an orthonormal
basis of what it alone explains.

A factor is nested in another if each of its levels occurs with one level of that other only. Factors that
cross and occur together more than once have a term of their pairs ("stream x init"): what one seed does may
depend on the other, and this part is then not the rest.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from arc_experiments.scoring.uncertainty import Values

REST = "rest"
TINY = 1e-9  # singular values below it are 0

Levels = NDArray[np.int64]
"""The number of each run's level."""
Terms = dict[str, Levels]
Spaces = dict[str, Values]
"""Orthonormal bases, each (runs, degrees of freedom)."""


class NotEstimable(ValueError):
    """The runs cannot tell the parts from one another, or from chance."""


def factors(levels: Mapping[str, Sequence[Hashable]]) -> tuple[Terms, tuple[str, ...]]:
    """Factors that vary, those that always change together as one ("stream + init"); the others' names."""
    named: dict[tuple[int, ...], list[str]] = {}
    fixed = []
    for name, found in levels.items():
        numbers = {level: number for number, level in enumerate(dict.fromkeys(found))}
        if len(numbers) > 1:
            named.setdefault(tuple(numbers[level] for level in found), []).append(name)
        else:
            fixed.append(name)
    return {" + ".join(names): np.array(numbers) for numbers, names in named.items()}, tuple(fixed)


def estimable(varied: Terms, num_runs: int) -> tuple[Terms, Spaces]:
    """The terms of these factors that the runs tell apart, with the rest, and the space of each.

    A space is what its term explains beyond all terms that do not contain it. Pairs are left to the rest if
    they leave nothing of it, or of a factor.

    Raises:
        NotEstimable: even without pairs some factor cannot be told from others, or all from chance.
    """
    if pairs := _pairs(varied, num_runs):
        spaces = _spaces(varied | pairs, num_runs)
        kept = varied | {name: levels for name, levels in pairs.items() if spaces[name].shape[1]}
        try:
            return _with_rest(kept, num_runs)
        except NotEstimable:
            pass
    return _with_rest(varied, num_runs)


def weight(space: Values, levels: Levels) -> float:
    """How often the variance between these levels is in the expected mean square of a space."""
    return float(np.sum((space.T @ _indicators(levels)) ** 2) / space.shape[1])


def _pairs(varied: Terms, num_runs: int) -> Terms:
    found = {}
    for (first, one), (second, other) in combinations(varied.items(), 2):
        both = np.unique(np.stack([one, other]), axis=1, return_inverse=True)[1].ravel()
        if both.max() + 1 < num_runs and not (_contains(one, other) or _contains(other, one)):
            found[f"{first} x {second}"] = both
    return found


def _contains(fine: Levels, coarse: Levels) -> bool:
    """Whether each level of `fine` occurs with one level of `coarse` only."""
    return bool(np.unique(np.stack([fine, coarse]), axis=1).shape[1] == fine.max() + 1)


def _spaces(terms: Terms, num_runs: int) -> Spaces:
    spaces = {}
    for name, levels in terms.items():
        others = [other for key, other in terms.items() if key != name and not _contains(other, levels)]
        spaces[name] = _basis(_without(_indicators(levels), _beside(others, num_runs)))
    return spaces


def _with_rest(terms: Terms, num_runs: int) -> tuple[Terms, Spaces]:
    """Add the rest, unless some term has a level per run and so is the rest."""
    spaces = _spaces(terms, num_runs)
    for name, space in spaces.items():
        if not space.shape[1]:
            others = ", ".join(key for key in terms if key != name)
            raise NotEstimable(f"{name} cannot be told from {others}: vary it alone in some runs")
    rest = _basis(_without(np.eye(num_runs), _beside(list(terms.values()), num_runs)))
    if rest.shape[1]:
        return {**terms, REST: np.arange(num_runs)}, {**spaces, REST: rest}
    if not any(levels.max() + 1 == num_runs for levels in terms.values()):
        raise NotEstimable(
            f"{num_runs} runs are too few to tell the parts of {', '.join(terms)} from chance: add runs"
        )
    return terms, spaces


def _indicators(levels: Levels) -> Values:
    """(runs, levels): 1 where a run has a level."""
    return np.asarray(levels[:, None] == np.arange(levels.max() + 1), dtype=float)


def _beside(terms: Sequence[Levels], num_runs: int) -> Values:
    """The mean and these terms, (runs, columns)."""
    return np.hstack([np.ones((num_runs, 1)), *map(_indicators, terms)])


def _without(columns: Values, others: Values) -> Values:
    """What these columns have beyond others."""
    basis = _basis(others)
    return np.asarray(columns - basis @ (basis.T @ columns))


def _basis(columns: Values) -> Values:
    """An orthonormal basis of what columns span, (runs, rank)."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, sizes > TINY])
