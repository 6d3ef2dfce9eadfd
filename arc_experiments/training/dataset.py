"""Expose the stream to SFTTrainer, in one of two ways that give the same rows (`data.stream`).

`as_dataset`: a virtual map-style Dataset. Its table holds only the numbers 0 to n-1; row i is made when read.
Training starts at once, resuming skips by arithmetic, and neither workers nor ranks change the order or
make a row twice.

`as_iterable`: an IterableDataset, which must be given what the first gets for free: the row to start with,
the rank, and how many workers share the work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from arc_experiments.config.schema import Config
from arc_experiments.pictures import AnyPicture
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import IGNORED
from arc_experiments.stream.samples import JoinedStreams, Sample, SampleStream
from arc_experiments.tasks.task import REFUSALS
from arc_experiments.training.checkpoints import last_complete, step_of

Arrays = dict[str, NDArray[Any]]
# What `marks` counts, before the pairs redrawn for each of `REFUSALS` and the samples of each part.
COUNTED = ("samples", "tokens", "samples_shrunk", "samples_redrawn", "steps_left_out", "pairs_redrawn")


def make_row(stream: SampleStream | JoinedStreams, index: int) -> dict[str, Any]:
    """Make row `index` of the stream.

    Returns:
        input_ids and labels, int32, shape (tokens,); marks, int64, shape (COUNTED + REFUSALS + parts,); for
        packed rows also position_ids, int32, shape (tokens,), which restart with each sample; if an answer
        begins late also gap, where it begins and how many positions it skips; of samples with pictures also
        these, in the order of their tokens, which the collator draws.
    """
    samples = stream.row(index)
    row: dict[str, Any] = {
        "input_ids": np.concatenate([sample.encoded.input_ids for sample in samples]),
        "labels": np.concatenate([sample.encoded.labels for sample in samples]),
        "marks": np.sum([_marks(sample, len(stream.parts)) for sample in samples], axis=0),
    }
    pictures = [picture for sample in samples for picture in sample.encoded.pictures]
    if pictures:
        row["pictures"] = pictures
    if stream.pack_length is not None:
        row["position_ids"] = np.concatenate([np.arange(len(s.encoded), dtype=np.int32) for s in samples])
    elif samples[0].num_skipped:
        row["gap"] = (samples[0].encoded.num_prompt, samples[0].num_skipped)
    return row


def training_rows(
    stream: SampleStream | JoinedStreams,
    config: Config,
    *,
    folder: Path,
    batch_size: int,
    processes: PartialState,
) -> Dataset | IterableDataset:
    """Return the rows of a training, in the exposure that `data.stream` names.

    Args:
        folder: of the checkpoints, from the last of which an iterable resumes.
        batch_size: rows in a batch of one rank.
    """
    rows_per_step = config.optim.batch_size * stream.num_joined
    if config.data.stream == "indexed":
        return as_dataset(stream, config.optim.max_steps * rows_per_step)
    assert isinstance(stream, SampleStream), "checked: job=adapt takes indexed rows"
    checkpoint = last_complete(folder)
    turn = Turn(
        first_row=0 if checkpoint is None else step_of(checkpoint) * rows_per_step,
        batch_size=batch_size,
        rank=processes.process_index,
        num_ranks=processes.num_processes,
        num_workers=config.hardware.num_workers,
    )
    return as_iterable(stream, turn)


def _marks(sample: Sample, num_parts: int) -> NDArray[np.int64]:
    shrunk, redrawn = sample.num_dropped > 0, sample.num_redrawn > 0
    left_out, refused = sample.num_left_out, sample.refused_pairs.total()
    counted = [1, len(sample.encoded), shrunk, redrawn, left_out, refused]
    by_reason = [sample.refused_pairs[reason] for reason in REFUSALS]
    return np.array([*counted, *by_reason, *(part == sample.part for part in range(num_parts))], np.int64)


def as_dataset(stream: SampleStream | JoinedStreams, num_rows: int) -> Dataset:
    """Return a Dataset of `num_rows` rows, see `make_row`."""
    table = Dataset(pa.table({"index": np.arange(num_rows)}))
    # `with_transform` without naming a cache that nothing uses, for which it would pickle the stream twice.
    Dataset.set_format.__wrapped__(table, "custom", transform=_Rows(stream))
    return table


class _Rows:
    """The transform; a class, because it is pickled for worker processes."""

    def __init__(self, stream: SampleStream | JoinedStreams) -> None:
        self._stream = stream

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [make_row(self._stream, index) for index in batch["index"]]
        names = {name: None for row in rows for name in row}  # a row may have no pictures
        return {name: [row.get(name) for row in rows] for name in names}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Which batches a process makes: ranks and workers take turns, batch by batch.

    Attributes:
        first_row: the row to start with.
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
        """Yield the rows that a worker of this rank makes, endlessly."""
        workers = max(1, self.num_workers)
        batch = worker
        while True:
            start = self.first_row + (batch * self.num_ranks + self.rank) * self.batch_size
            yield from range(start, start + self.batch_size)
            batch += workers


def as_iterable(stream: SampleStream, turn: Turn) -> IterableDataset:
    """Return an endless IterableDataset of this rank's rows, see `make_row`.

    Its loader must not share it out among ranks again: half of the samples would be lost.
    """
    workers = list(range(max(1, turn.num_workers)))  # one shard each: datasets splits lists
    return IterableDataset.from_generator(
        _generate,
        gen_kwargs={"stream": [stream] * len(workers), "turn": [turn] * len(workers), "worker": workers},
    )


def _generate(stream: list[SampleStream], turn: list[Turn], worker: list[int]) -> Iterator[dict[str, Any]]:
    assert len(worker) == 1, "one shard for each worker"
    for index in turn[0].rows(worker[0]):
        yield make_row(stream[0], index)


class Collator:
    """Pads rows on the right to the longest. Returns arrays, which leave worker processes faster than
    tensors.

    Returns input_ids and labels (-100 on padding), int64, shape (rows, longest), and marks, int64, shape
    (rows, COUNTED + REFUSALS + parts). Also attention_mask, or for packed rows position_ids, both of the
    first's shape: models separate packed samples by positions that restart, but only if there is no mask.
    If answers begin late, both.
    Of pictures the arrays for the model; a worker leaves pictures that are looked up to `complete`: they are
    a thousandth of their arrays.

    Args:
        pictures: draws the rows' pictures and makes what the model needs of them; None for rows without.

    Raises:
        ValueError: when called, if a row would change with the others of its batch (see `share_a_pass`).
    """

    def __init__(self, pad_id: int, pictures: PictureInputs | None = None) -> None:
        self._pad_id, self._pictures = pad_id, pictures

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        shape = (len(rows), max(len(row["input_ids"]) for row in rows))
        ids = np.full(shape, self._pad_id, np.int64)
        labels = np.full(shape, IGNORED, np.int64)
        packed, gaps = "position_ids" in rows[0], [row.get("gap") or (0, 0) for row in rows]
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
            **self._of_pictures([row.get("pictures") or () for row in rows], ids),
            "input_ids": ids,
            "labels": labels,
            "position_ids" if packed else "attention_mask": beside,
            **({"position_ids": _with_gaps(gaps, shape[1])} if any(map(any, gaps)) else {}),
            "marks": np.stack([row["marks"] for row in rows]),
        }

    def _of_pictures(self, pictures: list[Sequence[AnyPicture]], ids: NDArray[np.int64]) -> dict[str, Any]:
        if self._pictures is None:
            return {}
        counts = list(map(len, pictures))
        if len(self._pictures.share_a_pass(counts)) > 1:
            raise ValueError(
                f"hardware.per_device_batch_size={len(counts)}: samples of {min(counts)} to {max(counts)} "
                "pictures share a batch, and what this model sees of one depends on the others: take 1, or a "
                "prompt that shows a picture a task (prompt=picture_and_text)"
            )
        if get_worker_info() is not None and self._pictures.are_looked_up(pictures):
            return {"pictures": pictures}
        return self._pictures.arrays(pictures, ids)

    def complete(self, batch: dict[str, Any]) -> Arrays:
        """Make, in the process that trains, what a worker has left to it: see `__call__`."""
        pictures = batch.pop("pictures", None)
        if pictures is None:
            return batch
        assert self._pictures is not None, "which were not left otherwise"
        return {**self._pictures.arrays(pictures, batch["input_ids"]), **batch}


def _with_gaps(gaps: Sequence[tuple[int, int]], length: int) -> NDArray[np.int64]:
    """Count positions, past a row's gap from where its answer begins; shape (rows, length)."""
    starts, skipped = np.array(gaps)[:, :, np.newaxis].swapaxes(0, 1)
    counted = np.arange(length)
    positions: NDArray[np.int64] = counted + skipped * (counted >= starts)
    return positions


def as_tensors(batch: Arrays) -> dict[str, torch.Tensor]:
    """Return a collated batch as tensors over the same memory."""
    return {name: torch.from_numpy(values) for name, values in batch.items()}
