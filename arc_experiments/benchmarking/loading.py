"""The DataLoader on all cores: what it delivers at most, and what a training of a given speed waits for it.

That training only sleeps: a GPU's leaves the cores to the workers.
"""

import time
from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from arc_experiments.benchmarking.cells import HORIZON
from arc_experiments.run import Run
from arc_experiments.training.dataset import COUNTED, Collator, as_dataset


def measure(
    run: Run, *, workers: Sequence[int], max_seconds: float, consumer_tokens_per_second: float
) -> dict[str, Any]:
    """Each number of workers for an equal share of the time."""
    seconds = max_seconds / len(workers) / 2
    rows = []
    for num_workers in workers:
        samples, tokens, _ = _deliver(run, num_workers, seconds, None)
        _, _, waited = _deliver(run, num_workers, seconds, consumer_tokens_per_second)
        rows.append(
            {
                "num_workers": num_workers,
                "samples_per_second": samples,
                "tokens_per_second": tokens,
                "data_wait_fraction": waited,
            }
        )
    return {
        "consumer_tokens_per_second": consumer_tokens_per_second,
        "per_device_batch_size": run.per_device_batch_size,
        "workers": rows,
    }


def _deliver(
    run: Run, num_workers: int, seconds: float, consumer: float | None
) -> tuple[float, float, float]:
    """Samples/s, tokens/s, and the share of the time spent waiting, after the first batch.

    Args:
        consumer: tokens/s of whom the batches are for; None for no consumer at all.
    """
    size = run.per_device_batch_size
    dataset = as_dataset(run.stream(), HORIZON * size)
    loader = DataLoader(
        dataset, batch_size=size, num_workers=num_workers, collate_fn=Collator(run.prompt.pad_id)
    )
    batches = iter(loader)
    next(batches)  # starting the workers
    samples = tokens = 0
    waited = 0.0
    start = asked = time.perf_counter()
    while asked - start < seconds:
        batch = next(batches)
        waited += time.perf_counter() - asked
        made = dict(zip(COUNTED, batch["marks"].sum(0).tolist(), strict=False))
        samples, tokens = samples + made["samples"], tokens + made["tokens"]
        if consumer is not None:
            time.sleep(made["tokens"] / consumer)
        asked = time.perf_counter()
    total = asked - start
    return samples / total, tokens / total, waited / total
