"""`hardware.per_device_batch_size=auto`: the most rows that one process can train on at once."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from accelerate.utils import release_memory
from accelerate.utils.memory import should_reduce_batch_size


def largest_batch(
    model: torch.nn.Module, *, rows: int, length: int, autocast: Callable[[], AbstractContextManager[None]]
) -> int:
    """Doubles the batch as long as rows of the longest kind fit into memory.

    Args:
        rows: what one optimizer step asks of this process; the batch divides it.
        length: tokens of the longest row.
        autocast: how the training computes.
    """
    size = 1
    while rows % (2 * size) == 0 and _fits(model, (2 * size, length), autocast):
        size *= 2
    return size


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
