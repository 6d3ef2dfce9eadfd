"""The smoothed loss; without smoothing it is SFTTrainer's, which never holds the logits of all positions."""

import torch
from torch.nn.functional import cross_entropy

from arc_experiments.prompts import IGNORED


def smoothed_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Sum over labelled tokens of (1 - s) * -log p(label) + s * mean over the vocabulary of -log p.

    Args:
        logits: (rows, length, vocabulary); position i predicts token i + 1.
        labels: int64, (rows, length); IGNORED where there is no loss.
    """
    targets = labels[:, 1:]
    chosen = targets != IGNORED
    rows = logits[:, :-1][chosen].float()
    return cross_entropy(rows, targets[chosen], label_smoothing=smoothing, reduction="sum")
