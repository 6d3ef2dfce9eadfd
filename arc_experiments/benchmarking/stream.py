"""The sample path on one core: `stream[i]` against the plain path on the same augmented tasks.

The plain path writes the task as text and calls the (fast) tokenizer once. Its tasks are given to it: drawing
and augmenting are in the stream's time and not in the plain path's.
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

import torch

from arc_experiments.benchmarking.measure import summary
from arc_experiments.run import Run
from arc_experiments.stream.samples import Sample, SampleStream
from arc_experiments.training.dataset import Collator, make_row

NUM_WARM = 100  # samples made before the clock runs: each number of demonstrations has its own layout
REST = "choose and fit"  # with what the stream does around its stages, and the joining of samples to rows


def measure(run: Run) -> dict[str, Any]:
    """Rounds of `benchmark.samples` samples, as many as the time allows (one at least); then the stages."""
    benchmark, stream = run.config.benchmark, run.stream()
    fast, tokens, plain = [], [], []
    with one_core():
        write_as_text(run, [stream[number] for number in range(NUM_WARM)])
        end = time.perf_counter() + benchmark.max_seconds
        for place in range(benchmark.rounds):
            start = time.perf_counter()
            numbers = range(place * benchmark.samples, (place + 1) * benchmark.samples)
            samples = [stream[number] for number in numbers]
            made = time.perf_counter()
            write_as_text(run, samples)
            written = time.perf_counter()
            fast.append(len(samples) / (made - start))
            tokens.append(sum(len(sample.encoded) for sample in samples) / (made - start))
            plain.append(len(samples) / (written - made))
            if written > end:
                break
        shares = stage_shares(run, benchmark.samples)
    return {
        **summary("samples_per_second", fast),
        **summary("tokens_per_second", tokens),
        **summary("text_path_samples_per_second", plain),
        **summary("speedup", [one / other for one, other in zip(fast, plain, strict=True)]),
        "stage_share": shares,
        "tokens_per_sample": sum(len(sample.encoded) for sample in samples) / len(samples),
        "samples": len(samples),
        "rounds": len(fast),
        "threads": 1,
        "exact_table": run.prompt.exact_table,
    }


def write_as_text(run: Run, samples: Sequence[Sample]) -> list[list[int]]:
    """The plain path: text, then one call of the tokenizer a sample."""
    return [
        run.tokenizer(
            run.prompt.text(sample.task, sample.test_index, kind=sample.kind), add_special_tokens=False
        )["input_ids"]
        for sample in samples
    ]


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


def stage_shares(run: Run, num_samples: int) -> dict[str, float]:
    """Which share of the time each stage takes in making so many samples, or a few more, as batches of rows.

    The clock is read where one stage ends and the next begins, so nothing is left out and the shares add up to 1.
    Reading it costs time, too: speeds are measured without.
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
    collate = lapped(Collator(run.prompt.pad_id), REST, "collate")
    size, number, made = run.per_device_batch_size, 0, 0
    make_row(stream, 0)  # the first one also sorts the tasks
    seconds.clear()
    while made < num_samples:
        batch = collate([make_row(stream, row) for row in range(number, number + size)])
        number, made = number + size, made + int(batch["marks"][:, 0].sum())
    total = sum(seconds.values())
    return {name: seconds[name] / total for name in ("draw", "augment", "encode", REST, "collate")}
