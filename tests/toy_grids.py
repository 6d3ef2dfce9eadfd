"""Grids as tests write them, and any grid."""

import numpy as np
from hypothesis import strategies as st

from arc_experiments.tasks.grids import Grid


def grid(*rows: str) -> Grid:
    """A string of digits a row."""
    return np.array([list(map(int, row)) for row in rows], np.uint8)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 10, shape, dtype=np.uint8)
