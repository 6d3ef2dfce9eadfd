"""Exact validation loss: the same number for any batch size or order.

The Trainer's own evaluation averages per-batch means, so its value moves with the batch size. Here every
answer's negative log-likelihood and token count are kept apart and summed exactly, in a fixed order.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from arc_experiments.generation.engine import pad_left
from arc_experiments.prompts import Prompt
from arc_experiments.prompts.tokens import Ids
from arc_experiments.tasks import Task

MAX_LOGITS = 2**27  # float32 logits held at once: half a gigabyte


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One test output to be predicted: prompt and answer, and how long the answer is."""

    task_id: str
    input_ids: Ids
    answer_length: int


@dataclass(frozen=True, kw_only=True)
class ValidationLoss:
    """Negative log-likelihood of the test outputs, natural logarithm.

    Attributes:
        token_mean: over all tokens of all answers.
        task_mean: mean over tasks of the task's mean over its tokens.
        num_too_long: test outputs left out because not even one demonstration fits.
    """

    token_mean: float
    task_mean: float
    num_tokens: int
    num_tasks: int
    num_too_long: int


def make_records(tasks: Iterable[Task], prompt: Prompt) -> tuple[list[Record], int]:
    """The test outputs of these tasks, and the number of those that do not fit `max_length`."""
    records, too_long = [], 0
    for task in tasks:
        for test_index in range(len(task.test)):
            fitted = prompt.fit(task, test_index)
            if fitted is None:
                too_long += 1
                continue
            encoded = fitted.encoded
            length = len(encoded) - encoded.num_prompt
            records.append(Record(task_id=task.id, input_ids=encoded.input_ids, answer_length=length))
    return records, too_long


def validation_loss(
    model: Any, records: list[Record], *, num_too_long: int, pad_id: int, batch_size: int
) -> ValidationLoss:
    """The loss over all records, `batch_size` at once.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError(
            "prompt.max_length is too short: no validation task fits with even one demonstration"
        )
    sums: dict[int, float] = {}
    by_length = sorted(range(len(records)), key=lambda place: (-len(records[place].input_ids), place))
    was_training = model.training
    model.eval()
    for start in range(0, len(records), batch_size):
        for part in _parts(by_length[start : start + batch_size], records, model.config.vocab_size):
            values = _answer_losses(model, [records[place] for place in part], pad_id)
            sums |= dict(zip(part, values, strict=True))
    model.train(was_training)
    return _collect(records, [sums[place] for place in range(len(records))], num_too_long)


def _parts(batch: list[int], records: list[Record], vocabulary: int) -> Iterable[list[int]]:
    """Cut a batch so that the logits of its answers stay within MAX_LOGITS."""
    longest = max(records[place].answer_length for place in batch)
    size = max(1, MAX_LOGITS // (vocabulary * (longest + 1)))
    return (batch[start : start + size] for start in range(0, len(batch), size))


def _answer_losses(model: Any, records: list[Record], pad_id: int) -> list[float]:
    """Summed negative log-likelihood of each record's answer."""
    inputs = pad_left([record.input_ids for record in records], pad_id, model.device)
    kept = max(record.answer_length for record in records)
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=kept + 1).logits
        targets = inputs["input_ids"][:, -kept:]
        losses = cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none").double()
    place = torch.arange(kept, device=losses.device)
    lengths = torch.tensor([record.answer_length for record in records], device=losses.device)
    is_answer = place >= kept - lengths[:, None]
    return [float(value) for value in (losses * is_answer).sum(-1)]


def _collect(records: list[Record], sums: list[float], num_too_long: int) -> ValidationLoss:
    by_task: dict[str, list[tuple[float, int]]] = {}
    for record, total in zip(records, sums, strict=True):
        by_task.setdefault(record.task_id, []).append((total, record.answer_length))
    task_means = [
        math.fsum(total for total, _ in entries) / sum(length for _, length in entries)
        for entries in by_task.values()
    ]
    num_tokens = sum(record.answer_length for record in records)
    return ValidationLoss(
        token_mean=math.fsum(sums) / num_tokens,
        task_mean=math.fsum(task_means) / len(task_means),
        num_tokens=num_tokens,
        num_tasks=len(by_task),
        num_too_long=num_too_long,
    )
