"""Power laws with a floor (or a ceiling), fitted by least squares to many rows of means at once.

    value(size) = limit + amplitude * (size / unit) ** -exponent

For a given exponent the law is linear, so only the exponent is searched (variable projection: Golub and
Pereyra, SIAM Journal on Numerical Analysis 10, 1973): on a grid, so as to end in no wrong minimum, and then
between its points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_experiments.scoring.uncertainty import Values

EXPONENTS = np.geomspace(0.01, 5, 60)


@dataclass(frozen=True, kw_only=True, eq=False)
class Laws:
    """Laws by row.

    Attributes:
        limits, amplitudes, exponents: each (rows,).
        misfit: the mean square left over, (rows,).
        unit: the size at which the amplitude is the distance from the limit.
    """

    limits: Values
    amplitudes: Values
    exponents: Values
    misfit: Values
    unit: float

    @property
    def coefficients(self) -> Values:
        """The amplitudes for a unit of 1."""
        return np.asarray(self.amplitudes * self.unit**self.exponents)

    def at(self, sizes: Values) -> Values:
        """Values (rows, sizes)."""
        powers = (sizes / self.unit) ** -self.exponents[:, None]
        return np.asarray(self.limits[:, None] + self.amplitudes[:, None] * powers)


def fit_laws(
    sizes: Values, means: Values, weights: Values, lowest: float = -np.inf, highest: float = np.inf
) -> Laws:
    """Fit a law to each row of means.

    Args:
        sizes: (sizes,), at least two of them different.
        means: (rows, sizes).
        weights: (sizes,).
        lowest, highest: bounds of the limit.
    """
    from scipy.optimize import elementwise  # here, because it takes long to import

    weights = weights / weights.sum()
    unit = float(np.exp(np.log(sizes).mean()))
    centre = (means @ weights)[:, None]
    around = (means - centre)[:, None]  # (rows, 1, sizes)

    def solved(exponents: Values, rows: NDArray[np.int64]) -> tuple[Values, Values, Values]:
        """Limits around the centre, amplitudes and misfits of these rows, each (rows, exponents)."""
        powers = (sizes / unit) ** -exponents[..., None]
        mean_power, mean_square = powers @ weights, powers**2 @ weights
        products = (powers * around[rows]) @ weights
        amplitudes = products / (mean_square - mean_power**2)
        # The squares are a bowl: if the best limit is out of bounds, the best within them is at the bound.
        free = -amplitudes * mean_power
        limits = np.clip(free, lowest - centre[rows], highest - centre[rows])
        amplitudes = np.where(limits == free, amplitudes, (products - limits * mean_power) / mean_square)
        left = around[rows] - limits[..., None] - amplitudes[..., None] * powers
        return limits, amplitudes, left**2 @ weights

    def misfits(logarithms: Values, rows: NDArray[np.int64]) -> Values:
        return solved(np.exp(logarithms)[:, None], rows)[2][:, 0]

    rows, grid = np.arange(len(means)), np.log(EXPONENTS)
    best = solved(EXPONENTS[None], rows)[2].argmin(axis=1)
    inner = rows[(best > 0) & (best < len(grid) - 1)]
    logarithms = grid[best]
    bracket = tuple(grid[best[inner] + step] for step in (-1, 0, 1))
    logarithms[inner] = elementwise.find_minimum(misfits, bracket, args=(inner,)).x
    limits, amplitudes, misfit = (values[:, 0] for values in solved(np.exp(logarithms)[:, None], rows))
    return Laws(
        limits=limits + centre[:, 0],
        amplitudes=amplitudes,
        exponents=np.exp(logarithms),
        misfit=misfit,
        unit=unit,
    )
