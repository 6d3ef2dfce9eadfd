"""`hardware.per_device_batch_size=auto`: the most rows that one process can train on at once."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate.utils import gather_object, release_memory
from accelerate.utils.memory import should_reduce_batch_size


def largest_batch(
    model: Any,
    *,
    rows: int,
    length: int,
    autocast: Callable[[], AbstractContextManager[None]],
    gradient_checkpointing: bool,
) -> int:
    """Doubles the batch as long as rows of the longest kind fit into memory, in all processes.

    Room is kept for what the optimizer will hold: two float32 moments of all that is trained.

    Args:
        rows: what one optimizer step asks of this process; the batch divides it.
        length: tokens of the longest row.
        autocast: how the training computes.
    """
    if gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    trained = [p for p in model.parameters() if p.requires_grad]
    moments = [torch.zeros_like(p, dtype=torch.float32) for p in trained for _ in range(2)]
    size = 1
    while rows % (2 * size) == 0 and _fits(model, (2 * size, length), autocast):
        size *= 2
    del moments
    return int(min(gather_object([size])))


def _fits(
    model: torch.nn.Module, shape: tuple[int, int], autocast: Callable[[], AbstractContextManager[None]]
) -> bool:
    try:
        ids = torch.ones(shape, dtype=torch.int64, device=next(model.parameters()).device)
        with autocast():
            model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    except Exception as error:
        if not should_reduce_batch_size(error):
            raise
        return False
    finally:
        model.zero_grad(set_to_none=True)
        release_memory()
    return True
