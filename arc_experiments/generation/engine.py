"""The contract of engines: prompts in, for each prompt a list of answers out; and what engines have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

Key = tuple[str, int, int]
"""Whose prompt it is: task id, test index, number of the view."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Token ids without the end token, their summed log-probability (the end's too), and whether it ended.

    The log-probability is always the model's own: at temperature 1, over all tokens, whatever was allowed.
    """

    ids: tuple[int, ...]
    num_tokens: int
    log_probability: float
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where an answer ends: at a token of `stop_ids`, or unfinished after `max_new_tokens`."""

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    pad_id: int


class Engine(Protocol):
    """A way of answering, with its options; the model comes with each call."""

    @property
    def rows_per_prompt(self) -> int:
        """Rows of a batch that one prompt is expected to take."""

    @property
    def num_samples(self) -> int:
        """Answers to a prompt that can be asked for one by one."""

    def only(self, samples: Sequence[int]) -> "Engine":
        """What gives these of each prompt's samples alone, which are consecutive, as they are among all of them."""

    def answer(
        self, model: Any, prompts: Sequence[NDArray[Any]], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        """The answers to each prompt of one batch, at least one a prompt.

        Args:
            keys: of the prompts; all that is drawn depends on them, and on nothing else of the batch.
        """


def plan_batches(
    lengths: Sequence[int], *, extra: int, batch_tokens: int, rows_per_prompt: int | Sequence[int] = 1
) -> list[list[int]]:
    """Group positions so that rows x (longest + extra) stays within `batch_tokens`, longest first.

    The same lengths give the same batches, so that an interrupted evaluation can go on with them.

    Args:
        rows_per_prompt: of each position, or one number for all.
    """
    rows = [rows_per_prompt] * len(lengths) if isinstance(rows_per_prompt, int) else rows_per_prompt
    batches: list[list[int]] = []
    taken = 0
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        longest = lengths[batches[-1][0]] if batches else 0
        taken += rows[position]
        if not batches or taken * (longest + extra) > batch_tokens:
            batches.append([])
            taken = rows[position]
        batches[-1].append(position)
    return batches


def pad_left(rows: Sequence[NDArray[Any]], pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64, shape (rows, longest)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for row, values in enumerate(rows):
        ids[row, longest - len(values) :] = torch.from_numpy(values)
        mask[row, longest - len(values) :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
