"""Several processes that work on one run: how each finds the others."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState

# One process may write or draw for long while the others wait; one that dies is noticed by whoever started it.
PATIENCE = timedelta(hours=24)


def join_processes(device: torch.device) -> PartialState:
    """This process among those that torchrun or accelerate started; alone, where nobody did."""
    on_cpu = device.type == "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return PartialState(cpu=on_cpu)
    return PartialState(cpu=on_cpu, timeout=PATIENCE)
