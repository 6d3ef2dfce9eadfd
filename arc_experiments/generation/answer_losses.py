"""How improbable given answers are to a model, in one reading of prompt and answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from arc_experiments.generation.engine import Asked, pad_left, positions
from arc_experiments.pictures.inputs import PictureInputs


def answer_losses(
    model: Any,
    rows: Sequence[Asked],
    lengths: Sequence[int],
    pad_id: int,
    pictures: PictureInputs | None = None,
    counted: Sequence[NDArray[np.bool_] | None] | None = None,
) -> list[float]:
    """Return the summed negative log-likelihood of each row's answer, in nats.

    Args:
        rows: prompts with their answers.
        lengths: tokens of the answers, with which the rows end.
        pictures: makes what the model needs of the rows' pictures; None for rows without.
        counted: which tokens of each answer are measured, shape (length,); None: all.
    """
    inputs = pad_left(rows, pad_id, model.device, pictures)
    if pictures is None:  # models number the tokens of pictures themselves, in their own ways
        inputs["position_ids"] = positions(inputs["attention_mask"])
    kept = max(lengths)
    targets = inputs["input_ids"][:, -kept:]
    starts = kept - torch.tensor(lengths, device=targets.device)[:, None]
    is_answer = torch.arange(kept, device=targets.device) >= starts
    for row, chosen in enumerate(counted or ()):
        if chosen is not None:
            is_answer[row, kept - lengths[row] :] = torch.from_numpy(chosen).to(targets.device)
    targets = targets.masked_fill(~is_answer, 0)  # tokens of pictures may be none that a model can predict
    with torch.no_grad():  # not inference_mode: a sharded model keeps what it gathers and trains on it next
        logits = model(**inputs, use_cache=False, logits_to_keep=kept + 1).logits
        losses = cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none").double()
    return [float(value) for value in (losses * is_answer.to(losses.device)).sum(-1)]
