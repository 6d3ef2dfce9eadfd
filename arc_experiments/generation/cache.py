"""Prompts read once, for all that goes on from them: the keys and values of their tokens, a row a prompt."""

import copy
from typing import Any

import torch
from transformers import Cache


def positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token in its row, padding aside; int64, of the mask's shape."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def read_prompts(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[Cache, torch.Tensor]:
    """The cache of left-padded prompts, and the logits after their last tokens, float32, (rows, vocabulary)."""
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=True, logits_to_keep=1
    )
    return output.past_key_values, output.logits[:, -1].float()


def rows_of(cache: Cache, rows: torch.Tensor) -> Cache:
    """A cache with these rows of the given one, in this order, one several times where it is named so.

    The given cache stays as it is, also when the other one grows.
    """
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) for layer in cache.layers]
    other.batch_select_indices(rows)
    return other
