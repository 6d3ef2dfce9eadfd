"""Rows of one length for the training to be measured with."""

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
    """What the trainer takes of a stream: the same rows in turn.

    Args:
        parts: those of the stream that the samples name.
        pack_length: of rows with several samples; None where each row is one.
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
        """A sample: an adapter may look at some for its first weights."""
        return self.row(index)[0]


def rows_of_length(run: Run, length: int, num_rows: int, *, packing: bool) -> FixedRows:
    """Rows of exactly `length` tokens: samples joined, the first cut to its last tokens.

    Args:
        packing: the samples of a row stay samples of their own; otherwise a row is one sample.
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
    """The last tokens of the parts together."""
    return replace(
        parts[-1],
        input_ids=np.concatenate([part.input_ids for part in parts])[-length:],
        labels=np.concatenate([part.labels for part in parts])[-length:],
    )


def rows_of_size(run: Run, input_size: str, num_rows: int) -> FixedRows:
    """Rows of one sample with that many demonstrations and grids of that side, whatever the longest sample.

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
