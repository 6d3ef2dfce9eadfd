"""Whether a model looks at its pictures: the same questions, each with the pictures of another task.

own       task a: I [a's input] O [a's output] I [a's test input] O   -> a's answer
others'   task a: I [b's input] O [b's output] I [b's test input] O   -> a's answer

A picture of b is cut or repeated to the shape of a's, so that the text and the number of its tokens stay. A
model that does not look finds both answers equally probable; one that reads the pictures does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from arc_experiments.pictures.drawing import Picture
from arc_experiments.prompts import Encoded
from arc_experiments.scoring.uncertainty import bootstrap
from arc_experiments.tasks.grids import Grid
from arc_experiments.training.validation import Record


def with_others_pictures(records: Sequence[Record]) -> list[Record]:
    """Return the records with pictures, each with those of a record of another task.

    That is the next record whose pictures are all as large, or else the next with as many, or else the next,
    from each record on and around. There is none if all are of one task.
    """
    seeing = [record for record in records if _pictures(record)]
    if len({record.task_id for record in seeing}) < 2:
        return []
    return [_replaced(record, seeing[place + 1 :] + seeing[:place]) for place, record in enumerate(seeing)]


def loss_differences(
    own: Mapping[str, float], others: Mapping[str, float]
) -> tuple[float, list[float] | None]:
    """Return by how much tasks lose with others' pictures, in nats a token: mean and 95% interval over tasks.

    Args:
        own, others: the loss of each task, see `ValidationLoss.by_task`; tasks without others' pictures do
            not count.
    """
    differences = [{"loss": loss - own[task_id]} for task_id, loss in others.items()]
    mean = sum(each["loss"] for each in differences) / len(differences)
    return mean, bootstrap(differences)["loss"]


def _pictures(record: Record) -> tuple[Picture, ...]:
    """Return its pictures of grids; none of a ready row, which may have images of any kind."""
    shown = record.asked.pictures if isinstance(record.asked, Encoded) else ()
    return tuple(picture for picture in shown if isinstance(picture, Picture))


def _replaced(record: Record, after: Sequence[Record]) -> Record:
    own = _pictures(record)
    others = [_pictures(other) for other in after if other.task_id != record.task_id]
    sizes = [picture.size for picture in own]
    as_large = (each for each in others if [picture.size for picture in each] == sizes)
    as_many = (each for each in others if len(each) == len(own))
    chosen = next(chain(as_large, as_many, others))
    shown = tuple(_cut(picture, chosen[place % len(chosen)]) for place, picture in enumerate(own))
    assert isinstance(record.asked, Encoded)
    return replace(record, asked=replace(record.asked, pictures=shown))


def _cut(own: Picture, other: Picture) -> Picture:
    """Return a picture laid out like the first with the second's grids, cut or repeated to its shapes."""
    grids = list(chain.from_iterable(other.rows))
    places = iter(range(sum(map(len, own.rows))))
    rows = tuple(
        tuple(_repeated(grids[next(places) % len(grids)], grid.shape) for grid in row) for row in own.rows
    )
    return replace(own, rows=rows)


def _repeated(grid: Grid, shape: tuple[int, ...]) -> Grid:
    rows, columns = (np.arange(side) % own for side, own in zip(shape, grid.shape, strict=True))
    return grid[np.ix_(rows, columns)]
