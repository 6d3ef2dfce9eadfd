"""Compute the loss from logits at labelled positions only: with label smoothing, and on CPUs.

Elsewhere SFTTrainer's fused LM head never holds logits. On a CPU, it projects every position, tile by tile
and twice: with a vocabulary of 150,000 and a loss on answers only, that is most of the work.
"""

import inspect
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from arc_experiments.prompts import IGNORED

MAX_LOGITS = 2**29  # held at once if every token had a label (2 GB in float32); beyond that, tiles are safer


def takes_positions(model: Any) -> bool:
    """Return whether the model can compute the logits of chosen positions only."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return (
        isinstance(base, PreTrainedModel) and "logits_to_keep" in inspect.signature(base.forward).parameters
    )


def suits_labelled_positions(model: Any, device: torch.device, num_tokens: int) -> bool:
    """Return whether to train on logits at labelled positions: the same answer in all processes of a run.

    SFTTrainer's own loss makes processes wait for each other, so a process alone in it would wait forever.

    Args:
        num_tokens: the most tokens in a batch of one process.
    """
    if device.type != "cpu" or not takes_positions(model):
        return False
    vocabulary: int = model.config.get_text_config().vocab_size
    return num_tokens * vocabulary <= MAX_LOGITS


def labelled_positions(labels: torch.Tensor) -> torch.Tensor:
    """Return the positions whose next token has a label in some row: int64, ascending.

    Args:
        labels: int64, (rows, length); IGNORED where there is no loss.
    """
    return (labels[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)


def summed_loss(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Sum over labelled tokens (1 - s) * -log p(label) + s * mean over the vocabulary of -log p.

    Args:
        logits: (rows, positions, vocabulary).
        targets: int64, (rows, positions): the token after each position; IGNORED where there is no loss.
    """
    chosen = targets != IGNORED
    return cross_entropy(logits[chosen].float(), targets[chosen], label_smoothing=smoothing, reduction="sum")


def token_losses(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Return the same terms before summing: float32, (rows, positions), 0 where there is no loss."""
    chosen = targets != IGNORED
    each = cross_entropy(logits[chosen].float(), targets[chosen], label_smoothing=smoothing, reduction="none")
    return each.new_zeros(targets.shape).masked_scatter(chosen, each)
