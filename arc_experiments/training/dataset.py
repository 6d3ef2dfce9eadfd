"""The stream as what SFTTrainer takes: a virtual map-style Dataset, whose rows are made when they are read.

The table holds the numbers 0 to n-1 and nothing else; row i becomes `stream[i]`. So training starts at once,
resuming skips by arithmetic, and the order is that of the numbers, whatever the number of workers or ranks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from arc_experiments.prompts import IGNORED
from arc_experiments.stream import SampleStream


def as_dataset(stream: SampleStream, num_samples: int) -> Dataset:
    """A Dataset of `num_samples` rows: input_ids, labels, num_dropped, num_redrawn."""
    table = Dataset(pa.table({"index": np.arange(num_samples)}))
    return table.with_transform(_Rows(stream))


class _Rows:
    """The transform; a class, because it is pickled for worker processes."""

    def __init__(self, stream: SampleStream) -> None:
        self._stream = stream

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        samples = [self._stream[index] for index in batch["index"]]
        return {
            "input_ids": [sample.encoded.input_ids for sample in samples],
            "labels": [sample.encoded.labels for sample in samples],
            "num_dropped": [sample.num_dropped for sample in samples],
            "num_redrawn": [sample.num_redrawn for sample in samples],
        }


class Collator:
    """Pads rows on the right to the longest.

    Gives input_ids, labels (-100 on padding) and attention_mask, int64, shape (rows, longest), and `marks`,
    int64, shape (rows, 2): how many demonstrations were dropped and how many tasks redrawn for each row.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        shape = (len(rows), max(len(row["input_ids"]) for row in rows))
        ids = torch.full(shape, self._pad_id, dtype=torch.int64)
        labels = torch.full(shape, IGNORED, dtype=torch.int64)
        mask = torch.zeros(shape, dtype=torch.int64)
        for place, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[place, :length] = torch.from_numpy(row["input_ids"])
            labels[place, :length] = torch.from_numpy(row["labels"])
            mask[place, :length] = 1
        marks = torch.tensor([[row["num_dropped"], row["num_redrawn"]] for row in rows])
        return {"input_ids": ids, "labels": labels, "attention_mask": mask, "marks": marks}
