"""Medians with their range, one core, the clock of a device, and how much of a GPU is used."""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

# Dense bfloat16 peak of the makers' data sheets, FLOP/s; the longer name is looked for first.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def summary(name: str, values: Sequence[float]) -> dict[str, Any]:
    """`{name: median, name_range: [lowest, highest]}` of what the rounds gave."""
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Run on one core with one thread; TOKENIZERS_PARALLELISM has turned off the tokenizers' own."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """FLOP/s of the device in 16 bit; None for devices that are not listed, and for float32."""
    if dtype == torch.float32:
        return None
    names = sorted(PEAK_FLOPS, key=len, reverse=True)
    return next((PEAK_FLOPS[name] for name in names if f" {name} " in f" {device_name} "), None)


def flops_utilisation(num_parameters: int, tokens_per_second: float, peak: float | None) -> float | None:
    """Model FLOPs utilisation, 0..1: 6 FLOPs a parameter and token, as if all were trained.

    LoRA computes about 4 of the 6, since frozen weights get no gradient; attention scores are not counted.
    """
    return None if peak is None else 6 * num_parameters * tokens_per_second / peak
