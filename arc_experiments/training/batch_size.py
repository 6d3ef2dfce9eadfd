"""Avoid running out of memory: `hardware.per_device_batch_size=auto` finds the most rows a process can train
on at once.

A training that runs out of memory all the same fails, with PyTorch's message; in `job=adapt` it costs one
task (`adaptation/tuner.py`), and answers are retried in smaller batches (`generation/batching.py`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, release_memory
from accelerate.utils.memory import should_reduce_batch_size

from arc_experiments.config.schema import Config
from arc_experiments.runs.environment import found_earlier
from arc_experiments.runs.folder import RunFolder


def find_batch_size(
    config: Config,
    folder: RunFolder,
    processes: PartialState,
    load_model: Callable[[], Any],
    autocast: Callable[[], AbstractContextManager[None]],
) -> int:
    """Return what an earlier attempt found on such a device (environment.json), else the most rows that fit.

    Args:
        autocast: the precision that the training uses.
    """
    if processes.device.type == "cpu":
        return 1  # nothing is padded then, and running out of memory could not be caught
    earlier = found_earlier(folder, "per_device_batch_size", processes.device, processes.num_processes)
    return earlier or largest_batch(
        load_model(),
        rows=config.optim.batch_size // processes.num_processes,
        length=config.optim.pack_length or config.prompt.max_length,
        autocast=autocast,
        gradient_checkpointing=config.model.gradient_checkpointing,
    )


def largest_batch(
    model: Any,
    *,
    rows: int,
    length: int,
    autocast: Callable[[], AbstractContextManager[None]],
    gradient_checkpointing: bool,
) -> int:
    """Double the batch while rows of the longest kind fit into memory in all processes; return the last that
    fits.

    The optimizer's memory, two float32 moments for each trained parameter, is set aside meanwhile.

    Args:
        rows: rows per optimizer step in this process; the batch size divides it.
        length: tokens in the longest row.
        autocast: the precision that the training uses.
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
