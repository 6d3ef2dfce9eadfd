"""Exact validation loss: the same number for any batch size, order or number of processes.

The Trainer's own evaluation averages per-batch means, so its value changes with the batch size. Here every
answer's negative log-likelihood and token count are kept separately and summed exactly, in a fixed order.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from numpy.typing import NDArray

from arc_experiments.generation.answer_losses import answer_losses
from arc_experiments.generation.engine import Asked
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import IGNORED, Encoded, Prompt
from arc_experiments.tasks import Row, Task

MAX_LOGITS = 2**27  # float32 logits held at once: half a gigabyte


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One test output, or ready row, to be predicted.

    Attributes:
        asked: prompt and answer.
        answer_length: of the answer, in tokens.
        counted: which tokens of the answer are measured, bool, shape (answer_length,); None: all. A row of
            messages has more than one answer.
    """

    task_id: str
    source: str
    asked: Asked
    answer_length: int
    counted: NDArray[np.bool_] | None = None

    @property
    def num_counted(self) -> int:
        return self.answer_length if self.counted is None else int(self.counted.sum())


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Negative log-likelihood of test outputs, in nats.

    Attributes:
        token_mean: over all tokens of all answers.
        task_mean: mean over tasks of the task's mean over its tokens.
    """

    token_mean: float
    task_mean: float
    num_tokens: int
    num_tasks: int


@dataclass(frozen=True, kw_only=True)
class ValidationLoss(Loss):
    """The loss over all validation tasks, and its parts.

    Attributes:
        num_too_long: test outputs left out because not even one demonstration fits, and rows that do not fit.
        by_source: the loss over the tasks that each source holds out.
        by_task: each task's mean over its tokens.
    """

    num_too_long: int
    by_source: dict[str, Loss] = field(default_factory=dict)
    by_task: dict[str, float] = field(default_factory=dict)


def make_records(
    tasks: Iterable[Task], prompt: Prompt, source_of: Mapping[str, str]
) -> tuple[list[Record], int]:
    """Return the known test outputs of these tasks and their ready rows, and how many do not fit
    `max_length`.

    Args:
        source_of: the source that holds out each task.
    """
    records, too_long = [], 0
    for task in tasks:
        for fitted in prompt.fit_whole(task):
            if fitted is None:
                too_long += 1
                continue
            encoded = fitted.encoded
            records.append(
                Record(
                    task_id=task.id,
                    source=source_of[task.id],
                    asked=encoded if encoded.pictures else encoded.input_ids,
                    answer_length=len(encoded) - encoded.num_prompt,
                    counted=encoded.labels[encoded.num_prompt :] != IGNORED
                    if isinstance(task, Row)
                    else None,
                )
            )
    return records, too_long


def nothing_fits(tasks: Iterable[Task], prompt: Prompt) -> str:
    """Say that none of these tasks makes a record, and which `prompt.max_length` makes the first one."""
    known = (task for task in tasks if prompt.has_answer(task))
    length = min(prompt.least_length(task, in_training=False) for task in known)
    remedy = ""
    if length > prompt.max_length:  # else it is its pictures that have no room
        remedy = f". The shortest needs {length} tokens: set prompt.max_length={length} or more"
    return (
        f"prompt.max_length={prompt.max_length} is too short: no validation task fits, not even with one "
        f"demonstration, and no row{remedy}"
    )


def validation_loss(
    model: Any,
    records: list[Record],
    *,
    num_too_long: int,
    pad_id: int,
    batch_size: int,
    processes: PartialState,
    pictures: PictureInputs | None = None,
) -> ValidationLoss:
    """Return the loss over all records, `batch_size` at once, shared among the processes; all get the same
    value.
    """
    assert records, "see nothing_fits"
    sums: dict[int, float] = {}
    was_training = model.training
    model.eval()
    parts = [
        part
        for batch in _batches(records, batch_size)
        for part in _parts(batch, records, model.config.get_text_config().vocab_size)
    ]
    for first in range(0, len(parts), processes.num_processes):
        turn = first + processes.process_index
        part = parts[min(turn, len(parts) - 1)]  # a sharded model computes in all processes or in none
        values = _losses(model, [records[place] for place in part], pad_id, pictures)
        if turn < len(parts):
            sums |= dict(zip(part, values, strict=True))
    model.train(was_training)
    sums = dict(gather_object(list(sums.items())))
    return _collect(records, [sums[place] for place in range(len(records))], num_too_long)


def _batches(records: list[Record], batch_size: int) -> Iterator[list[int]]:
    """Yield the places of records that are measured together: of similar length, and with as many pictures.

    Mllama's tokens before a picture look at all pictures of the longest row, the padding among them.
    """
    order = sorted(range(len(records)), key=lambda place: (-len(records[place].asked), place))
    alike: dict[int, list[int]] = {}
    for place in order:
        asked = records[place].asked
        alike.setdefault(len(asked.pictures) if isinstance(asked, Encoded) else 0, []).append(place)
    for places in alike.values():
        yield from (places[start : start + batch_size] for start in range(0, len(places), batch_size))


def _parts(batch: list[int], records: list[Record], vocabulary: int) -> Iterable[list[int]]:
    """Cut a batch so that the logits of its answers stay within MAX_LOGITS."""
    longest = max(records[place].answer_length for place in batch)
    size = max(1, MAX_LOGITS // (vocabulary * (longest + 1)))
    return (batch[start : start + size] for start in range(0, len(batch), size))


def _losses(model: Any, records: list[Record], pad_id: int, pictures: PictureInputs | None) -> list[float]:
    rows, lengths = [record.asked for record in records], [record.answer_length for record in records]
    counted = [record.counted for record in records]
    return answer_losses(model, rows, lengths, pad_id, pictures, counted)


def _collect(records: list[Record], sums: list[float], num_too_long: int) -> ValidationLoss:
    measured = list(zip(records, sums, strict=True))
    by_source: dict[str, list[tuple[Record, float]]] = {}
    for record, total in measured:
        by_source.setdefault(record.source, []).append((record, total))
    return ValidationLoss(
        **vars(_mean(measured)),
        num_too_long=num_too_long,
        by_source={name: _mean(part) for name, part in by_source.items()},
        by_task=_task_means(measured),
    )


def _mean(measured: list[tuple[Record, float]]) -> Loss:
    num_tokens = sum(record.num_counted for record, _ in measured)
    task_means = _task_means(measured)
    return Loss(
        token_mean=math.fsum(total for _, total in measured) / num_tokens,
        task_mean=math.fsum(task_means.values()) / len(task_means),
        num_tokens=num_tokens,
        num_tasks=len(task_means),
    )


def _task_means(measured: list[tuple[Record, float]]) -> dict[str, float]:
    by_task: dict[str, list[tuple[float, int]]] = {}
    for record, total in measured:
        by_task.setdefault(record.task_id, []).append((total, record.num_counted))
    return {
        task_id: math.fsum(total for total, _ in entries) / sum(length for _, length in entries)
        for task_id, entries in by_task.items()
    }
