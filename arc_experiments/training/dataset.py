"""The stream as what SFTTrainer takes, in two exposures that give the same rows.

`as_dataset`: a virtual map-style Dataset. Its table holds the numbers 0 to n-1 and nothing else; row i is made
when it is read. Training starts at once, resuming skips by arithmetic, and neither workers nor ranks change
the order or make a row twice.

`as_iterable`: an IterableDataset, which has to be told what the first one gets for nothing: the row to begin
with, the rank, and how many workers share the work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray

from arc_experiments.prompts import IGNORED
from arc_experiments.stream.samples import JoinedStreams, Sample, SampleStream

Row = dict[str, NDArray[Any]]
# Then the samples of each part.
COUNTED = ("samples", "tokens", "samples_shrunk", "samples_redrawn", "pairs_redrawn")


def make_row(stream: SampleStream | JoinedStreams, index: int) -> Row:
    """Row `index` of the stream.

    Gives input_ids and labels, int32, shape (tokens,); marks, int64, shape (COUNTED + parts,); where rows are
    packed also position_ids, int32, shape (tokens,), which start anew with each sample.
    """
    samples = stream.row(index)
    row = {
        "input_ids": np.concatenate([sample.encoded.input_ids for sample in samples]),
        "labels": np.concatenate([sample.encoded.labels for sample in samples]),
        "marks": np.sum([_marks(sample, len(stream.parts)) for sample in samples], axis=0),
    }
    if stream.pack_length is not None:
        row["position_ids"] = np.concatenate([np.arange(len(s.encoded), dtype=np.int32) for s in samples])
    return row


def _marks(sample: Sample, num_parts: int) -> NDArray[np.int64]:
    marks = np.zeros(len(COUNTED) + num_parts, np.int64)
    shrunk, redrawn = sample.num_dropped > 0, sample.num_redrawn > 0
    marks[: len(COUNTED)] = 1, len(sample.encoded), shrunk, redrawn, sample.num_pairs_redrawn
    marks[len(COUNTED) + sample.part] = 1
    return marks


def as_dataset(stream: SampleStream | JoinedStreams, num_rows: int) -> Dataset:
    """A Dataset of `num_rows` rows, see `make_row`."""
    table = Dataset(pa.table({"index": np.arange(num_rows)}))
    # What `with_transform` does, but for naming a cache that nothing uses: it pickles the stream for that, twice.
    Dataset.set_format.__wrapped__(table, "custom", transform=_Rows(stream))
    return table


class _Rows:
    """The transform; a class, because it is pickled for worker processes."""

    def __init__(self, stream: SampleStream | JoinedStreams) -> None:
        self._stream = stream

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [make_row(self._stream, index) for index in batch["index"]]
        return {name: [row[name] for row in rows] for name in rows[0]}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Who makes which batches: rank and worker take turns, batch by batch.

    Attributes:
        first_row: where to begin.
        batch_size: rows in a batch of one rank.
        rank, num_ranks: this process among those that train.
        num_workers: processes that make this rank's batches (0 counts as 1).
    """

    first_row: int = 0
    batch_size: int = 1
    rank: int = 0
    num_ranks: int = 1
    num_workers: int = 0

    def rows(self, worker: int) -> Iterator[int]:
        """The rows that a worker of this rank makes, without end."""
        workers = max(1, self.num_workers)
        batch = worker
        while True:
            start = self.first_row + (batch * self.num_ranks + self.rank) * self.batch_size
            yield from range(start, start + self.batch_size)
            batch += workers


def as_iterable(stream: SampleStream, turn: Turn) -> IterableDataset:
    """An IterableDataset of this rank's rows, without end, see `make_row`.

    Its loader must not share it out among ranks again: half of the samples would be lost.
    """
    workers = list(range(max(1, turn.num_workers)))  # one shard for each: a list is what datasets splits
    return IterableDataset.from_generator(
        _generate,
        gen_kwargs={"stream": [stream] * len(workers), "turn": [turn] * len(workers), "worker": workers},
    )


def _generate(stream: list[SampleStream], turn: list[Turn], worker: list[int]) -> Iterator[Row]:
    assert len(worker) == 1, "one shard for each worker"
    for index in turn[0].rows(worker[0]):
        yield make_row(stream[0], index)


class Collator:
    """Pads rows on the right to the longest; arrays, since they pass from worker processes faster than tensors.

    Gives input_ids and labels (-100 on padding), int64, shape (rows, longest), and marks, int64, shape (rows,
    COUNTED + parts). Beside them attention_mask, or for packed rows position_ids, both of the first's shape: models
    tell packed samples apart by positions that start anew, but only where no mask is given.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Row:
        shape = (len(rows), max(len(row["input_ids"]) for row in rows))
        ids = np.full(shape, self._pad_id, np.int64)
        labels = np.full(shape, IGNORED, np.int64)
        packed = "position_ids" in rows[0]
        beside = np.zeros(shape, np.int64)
        for place, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[place, :length] = row["input_ids"]
            labels[place, :length] = row["labels"]
            if packed:
                beside[place, :length] = row["position_ids"]
                beside[place, length:] = np.arange(shape[1] - length)  # the padding is a sample of its own
            else:
                beside[place, :length] = 1
        return {
            "input_ids": ids,
            "labels": labels,
            "position_ids" if packed else "attention_mask": beside,
            "marks": np.stack([row["marks"] for row in rows]),
        }


def as_tensors(batch: Row) -> dict[str, torch.Tensor]:
    """What the collator gives, as tensors over the same memory."""
    return {name: torch.from_numpy(values) for name, values in batch.items()}
