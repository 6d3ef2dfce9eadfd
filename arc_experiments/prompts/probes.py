"""What is tried before a tokenizer is trusted: made tasks that hold whatever a prompt's grids can hold."""

import numpy as np

from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, Grid

PAIRS_A_TASK = 3


def probe_tasks() -> list[Task]:
    """Tasks with every height, every width, and every three colours beside each other in a row."""
    grids = _probe_grids()
    pairs = [Pair(input=input, output=output) for input, output in zip(grids[::2], grids[1::2], strict=True)]
    starts = range(0, len(pairs), PAIRS_A_TASK)
    return [
        Task(id=f"probe{start}", train=tuple(pairs[start + 1 : start + PAIRS_A_TASK]), test=(pairs[start],))
        for start in starts
    ]


def _probe_grids() -> list[Grid]:
    """Grids of 1x30, 2x29, ..., 30x1; a row begins with the last two cells of the one before it."""
    triples = np.indices((NUM_COLOURS,) * 3, np.uint8).reshape(3, -1).T.ravel()
    grids, place = [], 0
    for height in range(1, MAX_SIDE + 1):
        width = MAX_SIDE + 1 - height
        starts = place + max(1, width - 2) * np.arange(height)
        grids.append(triples.take(starts[:, None] + np.arange(width), mode="wrap"))
        place = int(starts[-1]) + max(1, width - 2)
    return grids
