"""The speed of the sample stream on one core, and the time that a training waits for it.

On one core, `stream[i]` is compared with the plain path on the same augmented tasks, which writes a task as
text and calls the (fast) tokenizer once. The plain path is given its tasks: drawing and augmenting count in
the stream's time only.
"""

import contextlib
import copy
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from arc_experiments.benchmarking.measure import compare_speeds, summary
from arc_experiments.benchmarking.plan import HORIZON
from arc_experiments.benchmarking.training import release, train
from arc_experiments.pictures import AnyPicture
from arc_experiments.run import Run
from arc_experiments.stream.samples import Sample, SampleStream
from arc_experiments.training.dataset import COUNTED, Collator, as_dataset, make_row
from arc_experiments.training.prefetching import Ahead
from arc_experiments.training.trainer import STEPS_AHEAD

NUM_WARM_SAMPLES = 100  # made before the clock runs: each number of demonstrations has its own layout
NUM_WARM_BATCHES = 100  # at most: the workers start, and memory is touched for the first time
REST = "choose and fit"  # what the stream does around its stages, and joining samples to rows


def measure_stream(run: Run) -> dict[str, Any]:
    """Measure samples per second in rounds of `benchmark.samples`, then the share of each stage."""
    size, stream = run.config.benchmark.samples, run.stream()
    samples: list[Sample] = []
    tokens: list[float] = []

    def encode(number: int) -> float:
        start = time.perf_counter()
        samples[:] = [stream[index] for index in range(number * size, (number + 1) * size)]
        seconds = time.perf_counter() - start
        tokens.append(sum(len(sample.encoded) for sample in samples) / seconds)
        return size / seconds

    def tokenize(number: int) -> float:
        start = time.perf_counter()
        write_as_text(run, samples)
        return size / (time.perf_counter() - start)

    with one_core():
        write_as_text(run, [stream[index] for index in range(NUM_WARM_SAMPLES)])
        speeds = compare_speeds(
            run, ("samples_per_second", encode), ("text_path_samples_per_second", tokenize)
        )
        shares = stage_shares(run, size)
        pictures = [picture for sample in samples for picture in sample.encoded.pictures]
        of_pictures: dict[str, Any] = {}
        if pictures:
            of_pictures = {"pictures_per_sample": len(pictures) / size, **measure_pictures(run, pictures)}
    return {
        **speeds,
        **summary("tokens_per_second", tokens),
        **of_pictures,
        "stage_share": shares,
        "tokens_per_sample": sum(len(sample.encoded) for sample in samples) / size,
        "samples": size,
        "threads": 1,
        "exact_table": run.prompt.exact_table,
    }


def measure_pictures(run: Run, pictures: Sequence[AnyPicture]) -> dict[str, Any]:
    """Measure pictures per second, drawn alone and as what the model is given, in batches of training."""
    size, inputs = run.per_device_batch_size, run.pictures
    pictures = pictures[: run.config.benchmark.samples]
    no_ids = np.zeros((size, 1), np.int64)

    def draw(number: int) -> float:
        start = time.perf_counter()
        for picture in pictures:
            picture.draw()
        return len(pictures) / (time.perf_counter() - start)

    def process(number: int) -> float:
        start = time.perf_counter()
        for first in range(0, len(pictures), size):
            batch = [[picture] for picture in pictures[first : first + size]]
            inputs.arrays(batch, no_ids[: len(batch)])
        return len(pictures) / (time.perf_counter() - start)

    names = ("drawn_pictures_per_second", "processed_pictures_per_second")
    speeds = compare_speeds(run, (names[0], draw), (names[1], process))
    return {name: values for name, values in speeds.items() if name.startswith(names)}


def write_as_text(run: Run, samples: Sequence[Sample]) -> list[list[int]]:
    """Take the plain path: text, then one call of the tokenizer per sample."""
    texts = (run.prompt.text(sample.task, sample.test_index, kind=sample.kind) for sample in samples)
    return [run.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Run on one core with one thread; TOKENIZERS_PARALLELISM has turned the tokenizers' threads off."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def stage_shares(run: Run, num_samples: int) -> dict[str, float]:
    """Return each stage's share of the time that making at least `num_samples` samples, in batches, takes.

    The clock is read whenever one stage ends and the next begins, so the shares add up to 1. That costs time
    itself, so speeds are measured without it.
    """
    seconds: dict[str, float] = defaultdict(float)
    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        last, before = time.perf_counter(), last
        seconds[name] += last - before

    def lapped(work: Callable[..., Any], before: str, name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            lap(before)
            value = work(*arguments, **options)
            lap(name)
            return value

        return timed

    prompt, parts = copy.copy(run.prompt), []
    vars(prompt).update(
        encode=lapped(prompt.encode, REST, "encode"), sample=lapped(prompt.sample, "augment", REST)
    )
    for part in run.stream().parts:
        draw = lapped(part.source.draw, REST, "draw")
        source: Any = SimpleNamespace(ids=part.source.ids, draw=draw)
        parts.append(replace(part, source=source))
    seed, pack_length = run.config.seeds.stream, run.config.optim.pack_length
    stream = SampleStream(parts, prompt, seed=seed, pack_length=pack_length)
    collate = lapped(Collator(run.prompt.pad_id, run.picture_inputs), REST, "collate")
    size, number, made = run.per_device_batch_size, 0, 0
    make_row(stream, 0)  # the first row also sorts the tasks
    seconds.clear()
    while made < num_samples:
        batch = collate([make_row(stream, row) for row in range(number, number + size)])
        number, made = number + size, made + int(batch["marks"][:, 0].sum())
    total = sum(seconds.values())
    return {name: seconds[name] / total for name in ("draw", "augment", "encode", REST, "collate")}


def measure_loading(run: Run) -> dict[str, Any]:
    """Measure waiting with each number of workers: of a consumer of a given speed, and of a real training."""
    benchmark, rows = run.config.benchmark, []
    unit, speed = _consumer(run)
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
        f"consumer_{unit}_per_second": speed,
        "per_device_batch_size": run.per_device_batch_size,
        "rows": rows,
    }


def _consumer(run: Run) -> tuple[str, float]:
    """Return what the simulated training counts, tokens or samples, and how many it takes in a second."""
    benchmark = run.config.benchmark
    if benchmark.consumer_samples_per_second is not None:
        return "samples", benchmark.consumer_samples_per_second
    return "tokens", benchmark.consumer_tokens_per_second


def _wait_of_consumer(run: Run, seconds: float) -> float:
    """Return the share of its time that a consumer waits for batches, once workers and memory are warm.

    It only sleeps, as a GPU's training leaves the cores to the workers.
    """
    size, (unit, speed) = run.per_device_batch_size, _consumer(run)
    collator = Collator(run.prompt.pad_id, run.picture_inputs)
    loader = DataLoader(
        as_dataset(run.stream(), HORIZON * size),
        batch_size=size,
        num_workers=run.config.hardware.num_workers,
        collate_fn=collator,
    )
    batches = Ahead(iter(loader), depth=STEPS_AHEAD, then=collator.complete)
    warm = time.perf_counter() + seconds
    for _ in range(NUM_WARM_BATCHES):
        next(batches)
        if time.perf_counter() > warm:
            break
    waited = 0.0
    start = asked = time.perf_counter()
    while asked - start < seconds:
        marks = next(batches)["marks"].sum(0)
        waited += time.perf_counter() - asked
        time.sleep(marks[COUNTED.index(unit)] / speed)
        asked = time.perf_counter()
    batches.close()
    return waited / (asked - start)
