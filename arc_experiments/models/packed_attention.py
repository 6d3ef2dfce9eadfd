"""Attention within the samples of packed rows on a CPU, sample by sample: what flash attention does on a GPU.

A row of 1,000 tokens that holds three samples has a mask that hides two thirds of the row from each token.
The CPU's kernel computes what is hidden all the same, and the upper triangle, too: a training step on rows of
two or three samples takes 1.6 (float32) to 1.8 times (bfloat16) as long with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

KNOWN = "_sample_lengths"  # attribute of a mask: its samples, which all layers ask for


@contextmanager
def by_sample() -> Iterator[None]:
    """Let all models that attend by sdpa attend sample by sample.

    Models that do not choose their attention by transformers' interface stay as they are.
    """
    before = AttentionInterface()["sdpa"]
    AttentionInterface.register("sdpa", attend_by_sample)
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", before)


def attend_by_sample(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' sdpa does; if the mask is that of packed rows, to each sample by itself.

    Args:
        query, key, value: (rows, heads, length, width of a head).
        attention_mask: see `sample_lengths`.

    Returns:
        (rows, length, heads, width of a head), and no weights.
    """
    lengths = None if attention_mask is None else _known_lengths(attention_mask)
    if lengths is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return whole
    rows = []  # split, not sliced: the gradient of a slice is as large as the whole
    for row_lengths, *row in zip(
        lengths, *(torch.split(each, 1) for each in (query, key, value)), strict=True
    ):
        samples = zip(*(torch.split(each, row_lengths, 2) for each in row), strict=True)
        attended = [sdpa_attention_forward(module, *sample, None, **options)[0] for sample in samples]
        rows.append(torch.cat(attended, 1))
    return torch.cat(rows), None


def sample_lengths(mask: torch.Tensor) -> list[list[int]] | None:
    """The lengths of each row's samples, or None if the mask is anything but causal samples side by side.

    Args:
        mask: bool, (rows, 1, length of the queries, length of the keys); True if a query sees a key.
    """
    if mask.dtype != torch.bool or mask.shape[1] != 1 or mask.shape[2] != mask.shape[3]:
        return None
    sees = mask[:, 0]
    place = torch.arange(sees.shape[1], device=mask.device)
    begins = sees.to(torch.uint8).argmax(-1) == place  # the first token that it sees is itself
    begin = torch.where(begins, place, 0).cummax(-1).values  # of each token's sample
    causal = (place <= place[:, None]) & (place >= begin[:, :, None])
    if not torch.equal(sees, causal):
        return None
    ends = torch.full((1,), sees.shape[1], device=mask.device)
    return [torch.cat([row.nonzero().squeeze(1), ends]).diff().tolist() for row in begins]


def _known_lengths(mask: torch.Tensor) -> list[list[int]] | None:
    if not hasattr(mask, KNOWN):
        setattr(mask, KNOWN, sample_lengths(mask))
    lengths: list[list[int]] | None = getattr(mask, KNOWN)
    return lengths
