"""Training rows of one length."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from arc_experiments.prompts import Encoded
from arc_experiments.run import Run
from arc_experiments.stream.samples import Sample, StreamPart
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.rngs import rng_for

Row = tuple[Sample, ...]


class FixedRows:
    """The part of a stream's interface that the trainer uses, giving the same rows in turn.

    Args:
        parts: the parts of the stream that the samples come from.
        pack_length: tokens in a row of several samples; None if each row is one sample.
    """

    num_joined = 1

    def __init__(
        self, rows: Sequence[Row], parts: Sequence[StreamPart], pack_length: int | None = None
    ) -> None:
        self.parts, self.pack_length = tuple(parts), pack_length
        self._rows = rows
        self.num_tokens = sum(len(sample.encoded) for sample in rows[0])

    def row(self, index: int) -> Row:
        return self._rows[index % len(self._rows)]

    def __getitem__(self, index: int) -> Sample:
        """Return a sample: an adapter may look at some to initialise its weights."""
        return self.row(index)[0]


def rows_of_length(run: Run, length: int, num_rows: int, *, packing: bool) -> FixedRows:
    """Make rows of exactly `length` tokens: samples joined, the first cut at its start.

    Args:
        packing: keep the samples of a row apart; otherwise a row is one sample.
    """
    stream, rows, number = run.stream(), [], 0
    for _ in range(num_rows):
        samples: list[Sample] = []
        while missing := length - sum(len(sample.encoded) for sample in samples):
            sample, number = stream[number], number + 1
            samples.insert(0, replace(sample, encoded=_join([sample.encoded], missing)))
        joined = replace(samples[-1], encoded=_join([sample.encoded for sample in samples], length))
        rows.append(tuple(samples) if packing else (joined,))
    return FixedRows(rows, stream.parts, length if packing else None)


def _join(parts: Sequence[Encoded], length: int) -> Encoded:
    """Return the last `length` tokens of the parts together."""
    return replace(
        parts[-1],
        input_ids=np.concatenate([part.input_ids for part in parts])[-length:],
        labels=np.concatenate([part.labels for part in parts])[-length:],
    )


def rows_of_size(run: Run, input_size: str, num_rows: int) -> FixedRows:
    """Make rows of one sample each with grids of that size, whatever prompt.max_length says.

    Args:
        input_size: such as "2x30".
    """
    num_demonstrations, side = map(int, input_size.split("x"))
    stream, rows = run.stream(), []
    for number in range(num_rows):
        rng = rng_for("benchmark", run.config.seeds.stream, number)
        grids = rng.integers(0, 10, (num_demonstrations + 1, 2, side, side), dtype=np.uint8)
        pairs = tuple(Pair(input=before, output=after) for before, after in grids)
        task = Task(id=f"{input_size}-{number}", train=pairs[:-1], test=pairs[-1:])
        sample = replace(
            stream[0], task=task, test_index=0, encoded=run.prompt.encode(task), num_dropped=0, num_redrawn=0
        )
        rows.append((sample,))
    return FixedRows(rows, stream.parts)
