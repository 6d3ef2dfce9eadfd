"""The log-probabilities of answers that are known, computed in as many parts as memory asks for.

Of text a prompt is read once: its keys and values are shared by all answers after it, the rows of one batch.
A prompt with pictures is read anew before each answer.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import Cache

from arc_experiments.generation.answer_losses import answer_losses
from arc_experiments.generation.batching import TokenBudget, halves_of
from arc_experiments.generation.engine import pad_left, positions, read_prompts, select_rows
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import Encoded
from arc_experiments.prompts.tokens import Ids

MAX_LOGITS = 2**27  # numbers held at once: half a gigabyte in float32


@dataclass(frozen=True, kw_only=True, eq=False)
class _AnswerRows:
    """Answers that are scored at once, a row each, after prompts that have been read.

    Attributes:
        cache, mask: of the prompts: keys and values, and which tokens are no padding.
        first: log-probabilities of each prompt's next token, shape (prompts, vocabulary).
        rows: the position of the prompt and the tokens of each answer.
        longest: tokens of the longest answer, also of those in other batches.
    """

    cache: Cache
    mask: torch.Tensor
    first: torch.Tensor
    rows: Sequence[tuple[int, Ids]]
    longest: int
    task_id: str = ""

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @property
    def row_tokens(self) -> int:
        return self.mask.shape[1] + self.longest

    def halves(self) -> "list[_AnswerRows]":
        return [dataclasses.replace(self, rows=half) for half in halves_of(self.rows)]

    def score(self, model: Any, pad_id: int) -> list[float]:
        """The log-probability of each answer after its prompt."""
        device, longest = self.mask.device, max(len(ids) for _, ids in self.rows)
        owners = torch.tensor([position for position, _ in self.rows], device=device)
        ids = torch.full((len(self.rows), longest), pad_id, dtype=torch.int64)
        is_answer = torch.zeros_like(ids)
        for row, (_, values) in enumerate(self.rows):
            ids[row, : len(values)] = torch.from_numpy(values)
            is_answer[row, : len(values)] = 1
        ids, is_answer = ids.to(device), is_answer.to(device)
        totals = self.first[owners, ids[:, 0]].double()
        if longest > 1:
            mask = torch.cat([self.mask[owners], is_answer[:, :-1]], dim=1)
            logits = model(
                input_ids=ids[:, :-1],
                attention_mask=mask,
                position_ids=positions(mask)[:, self.mask.shape[1] :],
                past_key_values=_rows_of(self.cache, owners),
                use_cache=True,
            ).logits
            losses = cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").double()
            totals -= (losses * is_answer[:, 1:]).sum(-1)
        return [float(total) for total in totals]


@dataclass(frozen=True, kw_only=True, eq=False)
class _WholeRows:
    """A prompt with pictures, read anew before each of the answers that are scored at once."""

    prompt: Encoded
    answers: Sequence[Ids]
    task_id: str = ""

    @property
    def num_rows(self) -> int:
        return len(self.answers)

    @property
    def row_tokens(self) -> int:
        return len(self.prompt) + max(map(len, self.answers))

    def halves(self) -> "list[_WholeRows]":
        return [dataclasses.replace(self, answers=half) for half in halves_of(self.answers)]

    def score(self, model: Any, pictures: PictureInputs, pad_id: int) -> list[float]:
        """The log-probability of each answer after the prompt."""
        rows = [
            dataclasses.replace(self.prompt, input_ids=np.concatenate([self.prompt.input_ids, ids]))
            for ids in self.answers
        ]
        losses = answer_losses(model, rows, [len(ids) for ids in self.answers], pad_id, pictures)
        return [-loss for loss in losses]


def log_probabilities_anew(
    model: Any,
    prompts: Sequence[Encoded],
    answers: Sequence[Sequence[Ids]],
    pictures: PictureInputs,
    *,
    pad_id: int,
    budget: TokenBudget,
) -> list[list[float]]:
    """Return what `log_probabilities` does, reading a prompt with its pictures once for each answer.

    What continues a cache is numbered by its tokens, and not all models number pictures so.
    """
    vocabulary, scores = model.config.get_text_config().vocab_size, []
    for prompt, group in zip(prompts, answers, strict=True):
        size = max(1, MAX_LOGITS // (vocabulary * (max(map(len, group)) + 1)))
        totals: list[float] = []
        for start in range(0, len(group), size):
            part = _WholeRows(prompt=prompt, answers=group[start : start + size])
            totals += budget.in_parts(part, lambda part: part.score(model, pictures, pad_id))
        scores.append(totals)
    return scores


def log_probabilities(
    model: Any,
    prompts: Sequence[Ids],
    answers: Sequence[Sequence[Ids]],
    *,
    pad_id: int,
    budget: TokenBudget,
) -> list[list[float]]:
    """Sum the log-probabilities of the tokens of each prompt's answers.

    Args:
        budget: answers are scored in as many parts as it takes; prompts are all read at once.

    Raises:
        OutOfMemory: one answer does not fit beside the prompts.
    """
    rows = [(position, ids) for position, group in enumerate(answers) for ids in group]
    longest = max(len(ids) for _, ids in rows)
    with torch.inference_mode():
        inputs = pad_left(prompts, pad_id, model.device)
        mask = inputs["attention_mask"]
        cache, logits = read_prompts(model, inputs["input_ids"], mask)
        first = logits.log_softmax(-1)
        size = max(1, MAX_LOGITS // (longest * logits.shape[1]))
        totals: list[float] = []
        for start in range(0, len(rows), size):
            part = _AnswerRows(
                cache=cache, mask=mask, first=first, rows=rows[start : start + size], longest=longest
            )
            totals += budget.in_parts(part, lambda part: part.score(model, pad_id))
    values = iter(totals)
    return [[next(values) for _ in group] for group in answers]


def _rows_of(cache: Cache, rows: torch.Tensor) -> Cache:
    """A cache with these rows of the given one, in this order; rows may be named several times.

    The given cache does not change, also not when the new one grows.
    """
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    select_rows(chosen, rows)
    return chosen
