"""Intervals: how far a fraction may be off because these tasks and no others were asked."""

from collections.abc import Sequence

import numpy as np

from arc_experiments.scoring.per_output import HEADLINES, Marks

NUM_RESAMPLES = 2000


def intervals(
    marks: Sequence[Sequence[Marks]], names: Sequence[str] = HEADLINES
) -> dict[str, list[float] | None]:
    """Percentile bootstrap over whole tasks, since the test outputs of a task stand or fall together.

    All names see the same resamples, and so does every run on the same tasks. None where every task has
    the same mark: resampling them can say nothing, and a point would look like certainty.
    """
    num_tasks = len(marks)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), size=NUM_RESAMPLES).astype(float)
    right = np.array([[sum(row[name] for row in rows) for name in names] for rows in marks])
    outputs = np.array([[len(rows)] for rows in marks])
    fractions = (draws @ right) / (draws @ outputs)
    low, high = np.percentile(fractions, [2.5, 97.5], axis=0)
    return {
        name: [float(low[i]), float(high[i])] if low[i] < high[i] else None for i, name in enumerate(names)
    }
