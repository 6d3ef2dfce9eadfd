"""The largest pieces of work of a run: its longest rows, and its largest batch of answers.

They are looked for among the first samples and in all prompts, before anything is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from arc_experiments.config.schema import Config
from arc_experiments.generation.batching import plan_batches
from arc_experiments.generation.predict import Predictor
from arc_experiments.generation.requests import Request
from arc_experiments.prompts import IGNORED
from arc_experiments.stream.samples import SampleStream
from arc_experiments.training.dataset import Collator, make_row
from arc_experiments.training.validation import Record

PROBED = 128  # training rows

Pictures = dict[str, tuple[tuple[int, ...], int]]
"""Shape and bytes of each array that the model is given of a row's pictures."""
Tiles = tuple[int, int]
"""Pictures of a row, and the most tiles of one."""
NO_TILES = (0, 0)


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """The longest row of a training: its tokens, and those of them with a loss."""

    length: int
    labelled: int
    pictures: Pictures = field(default_factory=dict)

    @property
    def picture_bytes(self) -> int:
        return sum(size for _, size in self.pictures.values())

    @property
    def tiles(self) -> Tiles:
        """Those of a model that is given tiles (Mllama): pixels of (1, pictures, tiles, 3, height, width)."""
        shape, _ = self.pictures.get("pixel_values", ((), 0))
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
    """

    row: TrainingRow | None = None
    record: tuple[int, int] | None = None
    answers: AnswerBatch | None = None


def find_work(
    config: Config,
    *,
    stream: SampleStream | None,
    collator: Collator,
    records: Sequence[Record],
    requests: Sequence[Request],
    predictor: Predictor | None,
) -> Workload:
    """Find the largest pieces of work.

    Args:
        stream: of the training; None without, or in job=adapt, whose samples are like its prompts.
        records: what losses are measured on.
        requests: what is answered, by `predictor`.
    """
    answers = None
    if predictor is not None:
        answers = _largest_answers(predictor, requests, config.inference.batch_tokens)
    row = None
    if stream is not None:
        row = _longest_row(stream, collator, config.optim.max_steps * config.optim.batch_size)
    elif config.job.name == "adapt" and answers is not None:
        row = TrainingRow(length=answers.length, labelled=min(answers.length, answers.new_tokens))
    longest = (
        (max(len(one.asked) for one in records), max(one.answer_length for one in records))
        if records
        else None
    )
    return Workload(
        row=row,
        record=longest,
        answers=None if config.inference.engine == "vllm" else answers,
    )


def _longest_row(stream: SampleStream, collator: Collator, num_rows: int) -> TrainingRow:
    """Return the longest of the first rows of a training with so many of them."""
    rows = [make_row(stream, index) for index in range(min(PROBED, num_rows))]
    longest = max(rows, key=lambda row: len(row["input_ids"]))
    made = collator([max(rows, key=lambda row: len(row.get("pictures") or ()))])
    own = ("input_ids", "labels", "attention_mask", "position_ids", "marks")
    return TrainingRow(
        length=len(longest["input_ids"]),
        labelled=int((longest["labels"][1:] != IGNORED).sum()),
        pictures={name: (one.shape, one.nbytes) for name, one in made.items() if name not in own},
    )


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


def vision_bytes(model_config: Any, pictures: Pictures, *, trained: bool) -> int:
    """Return what the vision part of a model takes for the pictures of a row, in values of two bytes.

    34 bytes a layer for each patch and hidden number (Korthikanti et al., 2022, Reducing Activation
    Recomputation in Large Transformer Models; without the scores of attention, which are not kept): of all
    layers if they are trained, else of one.
    """
    if "pixel_values" not in pictures:
        return 0
    vision = model_config.vision_config
    numbers = 3 * vision.patch_size**2 * getattr(vision, "temporal_patch_size", 1)
    patches = math.prod(pictures["pixel_values"][0]) / numbers
    layers = getattr(vision, "num_hidden_layers", None) or vision.depth
    return int(34 * patches * vision.hidden_size * (layers if trained else 1))
