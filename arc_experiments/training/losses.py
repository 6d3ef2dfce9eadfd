"""The loss from logits at the labelled positions alone: where labels are smoothed, and on CPUs.

Elsewhere SFTTrainer's fused kernel does that without ever holding logits. On a CPU it projects every position, tile by
tile and twice: with a vocabulary of 150,000 and a loss on answers alone, that is most of the work.
"""

import inspect
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from arc_experiments.prompts import IGNORED

MAX_LOGITS = 2**28  # numbers held at once (1 GB in float32); for more, tiles are the better way


def takes_positions(model: Any) -> bool:
    """Whether the model can be asked for the logits of some positions."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return (
        isinstance(base, PreTrainedModel) and "logits_to_keep" in inspect.signature(base.forward).parameters
    )


def labelled_positions(labels: torch.Tensor) -> torch.Tensor:
    """Positions whose next token has a label in some row: int64, ascending.

    Args:
        labels: int64, (rows, length); IGNORED where there is no loss.
    """
    return (labels[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)


def summed_loss(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Sum over labelled tokens of (1 - s) * -log p(label) + s * mean over the vocabulary of -log p.

    Args:
        logits: (rows, positions, vocabulary).
        targets: int64, (rows, positions): the token after each position; IGNORED where there is no loss.
    """
    chosen = targets != IGNORED
    return cross_entropy(logits[chosen].float(), targets[chosen], label_smoothing=smoothing, reduction="sum")


def token_losses(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """The same before it is summed: float32, (rows, positions), 0 where there is no loss."""
    chosen = targets != IGNORED
    each = cross_entropy(logits[chosen].float(), targets[chosen], label_smoothing=smoothing, reduction="none")
    return each.new_zeros(targets.shape).masked_scatter(chosen, each)
