"""Waiting for data, for each number of workers: of a training of a given speed, and of the real one.

The first only sleeps: a GPU's training leaves the cores to the workers.
"""

import time
from typing import Any

from torch.utils.data import DataLoader

from arc_experiments.benchmarking.plan import HORIZON
from arc_experiments.benchmarking.training import release, train
from arc_experiments.run import Run
from arc_experiments.training.dataset import COUNTED, Collator, as_dataset
from arc_experiments.training.prefetching import Ahead
from arc_experiments.training.trainer import STEPS_AHEAD

NUM_WARM = 20  # batches before the clock runs


def measure(run: Run) -> dict[str, Any]:
    """A row a number of workers, each for an equal share of the time."""
    benchmark, rows = run.config.benchmark, []
    seconds = benchmark.max_seconds / len(benchmark.workers) / 2
    for num_workers in benchmark.workers:
        run.config.hardware.num_workers = num_workers
        consumer_waits = _wait_of_consumer(run, seconds)
        block = train(run, run.model(), seconds=seconds)
        release()
        rows.append(
            {
                "num_workers": num_workers,
                "consumer_wait_fraction": consumer_waits,
                "data_wait_fraction": block.waited / block.seconds,
                "tokens_per_second": block.tokens / block.seconds,
                "steps": block.steps,
            }
        )
    return {
        "consumer_tokens_per_second": benchmark.consumer_tokens_per_second,
        "per_device_batch_size": run.per_device_batch_size,
        "rows": rows,
    }


def _wait_of_consumer(run: Run, seconds: float) -> float:
    """The share of its time that it waits for batches, once the workers have started."""
    size, speed = run.per_device_batch_size, run.config.benchmark.consumer_tokens_per_second
    loader = DataLoader(
        as_dataset(run.stream(), HORIZON * size),
        batch_size=size,
        num_workers=run.config.hardware.num_workers,
        collate_fn=Collator(run.prompt.pad_id),
    )
    batches = Ahead(iter(loader), depth=STEPS_AHEAD)
    for _ in range(NUM_WARM):  # the workers start
        next(batches)
    waited = 0.0
    start = asked = time.perf_counter()
    while asked - start < seconds:
        marks = next(batches)["marks"].sum(0)
        waited += time.perf_counter() - asked
        time.sleep(marks[COUNTED.index("tokens")] / speed)
        asked = time.perf_counter()
    batches.close()
    return waited / (asked - start)
