"""The contract of engines (prompts in, a list of answers to each prompt out), and the tensors they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import Cache

from arc_experiments.pictures import AnyPicture
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import Encoded
from arc_experiments.prompts.tokens import Ids

Key = tuple[str, int, int] | tuple[str, int, int, str]
"""Identifies a prompt: task id, test index, number of the view, and "program" if it asks for one."""


Asked = Ids | Encoded
"""A prompt: its token ids, shape (tokens,); or encoded, with its pictures."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer in tokens.

    Attributes:
        ids: its tokens without the end token.
        num_tokens: how many were generated, the end token included.
        log_probability: natural logarithm, summed over the generated tokens. It is always the model's own: at
            temperature 1 and over all tokens, whatever the engine allowed.
        finished: whether it ended by itself.
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
    """A way to generate answers, with its options; the model comes with each call."""

    @property
    def rows_per_prompt(self) -> int:
        """Rows of a batch that one prompt is expected to take."""

    @property
    def num_samples(self) -> int:
        """Answers to one prompt that can also be generated one by one."""

    def only(self, samples: Sequence[int]) -> "Engine":
        """Make an engine for these consecutive samples alone, which gives the same answers to them."""

    def answer(
        self, model: Any, prompts: Sequence[Asked], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        """Answer each prompt of one batch at least once.

        Args:
            keys: of the prompts. Random draws depend on them and on nothing else in the batch.
        """


def pictures_of(asked: Asked) -> tuple[AnyPicture, ...]:
    """Return the pictures of a prompt, in the order of their tokens."""
    return asked.pictures if isinstance(asked, Encoded) else ()


def pad_left(
    rows: Sequence[Asked], pad_id: int, device: torch.device, pictures: PictureInputs | None = None
) -> dict[str, torch.Tensor]:
    """Build `input_ids` and `attention_mask`, int64, shape (rows, longest), and what belongs to pictures.

    Args:
        pictures: makes what the model needs of the rows' pictures; None for rows without.
    """
    seen = [pictures_of(row) for row in rows]
    rows = [row.input_ids if isinstance(row, Encoded) else row for row in rows]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for row, values in enumerate(rows):
        ids[row, longest - len(values) :] = torch.from_numpy(values)
        mask[row, longest - len(values) :] = 1
    more = {} if pictures is None else pictures.arrays(seen, ids.numpy())
    beside = {name: torch.from_numpy(values).to(device) for name, values in more.items()}
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), **beside}


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Number the tokens of each row without its padding; int64, of the mask's shape."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def read_prompts(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[Cache, torch.Tensor]:
    """Read left-padded prompts once, for all that continues them.

    Returns:
        Their keys and values, and the logits after their last tokens: float32, (prompts, vocabulary).
    """
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=True, logits_to_keep=1
    )
    return output.past_key_values, output.logits[:, -1].float()


def select_rows(cache: Cache, rows: torch.Tensor) -> None:
    """Keep these rows of a cache, in this order; the layers of a split model are on several GPUs."""
    for layer in cache.layers:
        device = rows.device if layer.keys is None else layer.keys.device
        layer.batch_select_indices(rows.to(device))
