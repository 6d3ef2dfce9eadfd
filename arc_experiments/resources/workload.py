"""The largest pieces of work of a run: its longest rows, and its largest batch of answers.

They are looked for among the first samples and in all prompts, before anything is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arc_experiments.config.schema import Config
from arc_experiments.generation.batching import plan_batches
from arc_experiments.generation.predict import Predictor
from arc_experiments.generation.requests import Request
from arc_experiments.pictures import AnyPicture
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import IGNORED, Encoded
from arc_experiments.prompts.tokens import Ids
from arc_experiments.stream.samples import SampleStream
from arc_experiments.training.dataset import make_row
from arc_experiments.training.validation import Record

PROBED = 128  # training rows

Arrays = dict[str, tuple[tuple[int, ...], int]]
"""Shape and bytes of each array that the model is given of a row's pictures."""
Tiles = tuple[int, int]
"""Pictures of a row, and the most tiles of one."""
NO_TILES = (0, 0)


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """The longest row of a training: its tokens, and those of them with a loss."""

    length: int
    labelled: int


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the model is given of the pictures of a row that has most of them."""

    arrays: Arrays = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(size for _, size in self.arrays.values())

    @property
    def tiles(self) -> Tiles:
        """Those of a model that is given tiles (Mllama): pixels of (1, pictures, tiles, 3, height, width)."""
        shape, _ = self.arrays.get("pixel_values", ((), 0))
        return (shape[1], shape[2]) if len(shape) == 6 else NO_TILES


@dataclass(frozen=True, kw_only=True)
class AnswerBatch:
    """The largest batch of answers: so many rows, to so many prompts of at most this length."""

    prompts: int
    rows: int
    length: int
    new_tokens: int


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The largest pieces of work of a run.

    Attributes:
        row: the longest row of its training; None: nothing is trained.
        record: tokens of the longest row whose loss is measured, and of the longest answer; None: none is.
        answers: the largest batch of answers; None: nothing is answered, or not by this process.
        pictures: of any row.
    """

    row: TrainingRow | None = None
    record: tuple[int, int] | None = None
    answers: AnswerBatch | None = None
    pictures: Pictures = Pictures()


def find_work(
    config: Config,
    *,
    stream: SampleStream | None,
    pictures: PictureInputs | None,
    records: Sequence[Record],
    requests: Sequence[Request],
    predictor: Predictor | None,
) -> Workload:
    """Find the largest pieces of work.

    Args:
        stream: of the training; None without, or in job=adapt, whose samples are like its prompts.
        pictures: makes what the model needs of them; None for prompts without.
        records: what losses are measured on.
        requests: what is answered, by `predictor`.
    """
    answers = None
    if predictor is not None:
        answers = _largest_answers(predictor, requests, config.inference.batch_tokens)
    num_rows = min(PROBED, config.optim.max_steps * config.optim.batch_size) if stream is not None else 0
    rows = [make_row(stream, index) for index in range(num_rows)] if stream is not None else []
    row = None
    if rows:
        longest = max(rows, key=lambda row: len(row["input_ids"]))
        labelled = int((longest["labels"][1:] != IGNORED).sum())
        row = TrainingRow(length=len(longest["input_ids"]), labelled=labelled)
    elif config.job.name == "adapt" and answers is not None:
        row = TrainingRow(length=answers.length, labelled=min(answers.length, answers.new_tokens))
    seen: list[tuple[Sequence[AnyPicture], Ids]] = []
    if pictures is not None:
        asked = [one.encoded for one in requests] + [one.asked for one in records]
        seen = [(row.get("pictures") or (), row["input_ids"]) for row in rows]
        seen += [(one.pictures, one.input_ids) for one in asked if isinstance(one, Encoded)]
    return Workload(
        row=row,
        record=_longest_record(records),
        answers=None if config.inference.engine == "vllm" else answers,
        pictures=_most_pictures(pictures, seen) if pictures is not None and seen else Pictures(),
    )


def _longest_record(records: Sequence[Record]) -> tuple[int, int] | None:
    if not records:
        return None
    return max(len(one.asked) for one in records), max(one.answer_length for one in records)


def _most_pictures(inputs: PictureInputs, rows: Sequence[tuple[Sequence[AnyPicture], Ids]]) -> Pictures:
    """Return what the model is given of the row with the most pictures."""
    shown, ids = max(rows, key=lambda row: len(row[0]))
    made = inputs.arrays([shown], np.asarray(ids, np.int64)[None])
    return Pictures(arrays={name: (one.shape, one.nbytes) for name, one in made.items()})


def _largest_answers(
    predictor: Predictor, requests: Sequence[Request], batch_tokens: int
) -> AnswerBatch | None:
    """Return the batch of answers with the most tokens; None if no prompt fits."""
    found = []
    for way, of_way in predictor.by_way(requests):
        lengths = [len(one.encoded) for one in of_way if one.encoded is not None]
        each = way.engine.rows_per_prompt
        batches = plan_batches(
            lengths, extra=way.max_new_tokens, batch_tokens=batch_tokens, rows_per_prompt=each
        )
        found += [
            AnswerBatch(
                prompts=len(batch),
                rows=each * len(batch),
                length=max(lengths[place] for place in batch),
                new_tokens=way.max_new_tokens,
            )
            for batch in batches
        ]
    return max(found, key=lambda one: one.rows * (one.length + one.new_tokens), default=None)


def vision_bytes(model_config: Any, arrays: Arrays, *, trained: bool) -> int:
    """Return what the vision part of a model takes for the pictures of a row, in values of two bytes.

    34 bytes a layer for each patch and hidden number (Korthikanti et al., 2022, Reducing Activation
    Recomputation in Large Transformer Models; without the scores of attention, which are not kept): of all
    layers if they are trained, else of one.
    """
    if "pixel_values" not in arrays:
        return 0
    vision = model_config.vision_config
    numbers = 3 * vision.patch_size**2 * getattr(vision, "temporal_patch_size", 1)
    patches = math.prod(arrays["pixel_values"][0]) / numbers
    layers = getattr(vision, "num_hidden_layers", None) or vision.depth
    return int(34 * patches * vision.hidden_size * (layers if trained else 1))
