"""Greedy answers by transformers' `generate`: left-padded batches of similar length, filled by tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import LogitsProcessor, LogitsProcessorList


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Token ids without the end token, their summed log-probability (the end's too), and whether it ended."""

    ids: tuple[int, ...]
    num_tokens: int
    log_probability: float
    finished: bool


def plan_batches(lengths: Sequence[int], *, extra: int, batch_tokens: int) -> list[list[int]]:
    """Group positions so that rows x (longest + extra) stays within `batch_tokens`, longest first.

    The same lengths give the same batches, so that an interrupted evaluation can go on with them.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or (len(batches[-1]) + 1) * (longest + extra) > batch_tokens:
            batches.append([])
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


class _BestLogProbability(LogitsProcessor):
    """Keeps each step's best log-probability: with greedy decoding that is the chosen token's."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wide = scores.float()
        self.steps.append(wide.amax(-1) - wide.logsumexp(-1))
        return scores


def generate(
    model: Any, prompts: Sequence[NDArray[Any]], *, max_new_tokens: int, stop_ids: Sequence[int], pad_id: int
) -> list[Answer]:
    """Greedy answers of one batch, in the order of the prompts."""
    inputs = pad_left(prompts, pad_id, model.device)
    recorder = _BestLogProbability()
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=list(stop_ids),
            pad_token_id=pad_id,
            logits_processor=LogitsProcessorList([recorder]),
            # A growing cache is copied at each step, up to 2.5 times slower; flash attention takes no other.
            cache_implementation=None if "flash" in model.config._attn_implementation else "static",
            disable_compile=True,
        )
    new_ids = output[:, inputs["input_ids"].shape[1] :].tolist()
    log_probabilities = torch.stack(recorder.steps, dim=1).double().tolist()
    return [_cut(*row, stop_ids) for row in zip(new_ids, log_probabilities, strict=True)]


def _cut(ids: list[int], log_probabilities: list[float], stop_ids: Sequence[int]) -> Answer:
    end = next((place for place, token in enumerate(ids) if token in stop_ids), None)
    num_tokens = len(ids) if end is None else end + 1
    return Answer(
        ids=tuple(ids[:end]),
        num_tokens=num_tokens,
        log_probability=sum(log_probabilities[:num_tokens]),
        finished=end is not None,
    )
