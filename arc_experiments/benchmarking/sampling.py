"""The sample path on one core: `stream[i]` against the plain path on the same augmented tasks.

The plain path writes the task as text and calls the (fast) tokenizer once. Its tasks are given to it: drawing
and augmenting are in the stream's time and not in the plain path's.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from arc_experiments.augmentation import augment
from arc_experiments.benchmarking.measuring import one_core, summary
from arc_experiments.rngs import rng_for
from arc_experiments.run import Run
from arc_experiments.stream import Sample, SampleStream
from arc_experiments.training.dataset import Collator, make_row

NUM_WARM = 100  # samples made before the clock runs: each number of demonstrations has its own layout
Value = TypeVar("Value")


def measure(run: Run, *, rounds: int, max_seconds: float, samples: int) -> dict[str, Any]:
    """Rounds of `samples` samples, as many as the time allows (one at least)."""
    with one_core():
        stream = run.stream()
        write_as_text(run, _make(stream, range(NUM_WARM)))
        fast, tokens, plain, stages = [], [], [], []
        end = time.perf_counter() + max_seconds
        for place in range(rounds):
            numbers = range(place * samples, (place + 1) * samples)
            seconds, made = timed(partial(_make, stream, numbers))
            fast.append(samples / seconds)
            tokens.append(sum(map(num_tokens, made)) / seconds)
            seconds, _ = timed(partial(write_as_text, run, made))
            plain.append(samples / seconds)
            stages.append(stage_seconds(run, numbers))
            if time.perf_counter() > end:
                break
    return {
        **summary("samples_per_second", fast),
        **summary("tokens_per_second", tokens),
        **summary("text_path_samples_per_second", plain),
        **summary("speedup", [one / other for one, other in zip(fast, plain, strict=True)]),
        "tokens_per_sample": sum(map(num_tokens, made)) / samples,
        "stage_seconds": {name: statistics.median(stage[name] for stage in stages) for name in stages[0]},
        "rounds": len(fast),
        "samples": samples,
        "exact_table": run.prompt.exact_table,
    }


def _make(stream: SampleStream, numbers: Sequence[int]) -> list[Sample]:
    return [stream[number] for number in numbers]


def num_tokens(sample: Sample) -> int:
    """Tokens of a sample."""
    return len(sample.encoded.input_ids)


def write_as_text(run: Run, samples: Sequence[Sample]) -> list[list[int]]:
    """The plain path: text, then one call of the tokenizer a sample."""
    return [
        run.tokenizer(
            run.prompt.text(sample.task, sample.test_index, kind=sample.kind), add_special_tokens=False
        )["input_ids"]
        for sample in samples
    ]


def stage_seconds(run: Run, numbers: Sequence[int]) -> dict[str, float]:
    """Seconds a sample of each stage by itself, and of what is left of a sample's time: choosing, fitting."""
    stream, collator, size = run.stream(), Collator(run.prompt.pad_id), run.per_device_batch_size
    whole, samples = timed(partial(_make, stream, numbers))
    drawn = [
        (stream.parts[sample.part], rng_for("benchmark", run.config.seeds.stream, number))
        for sample, number in zip(samples, numbers, strict=True)
    ]
    draw, tasks = timed(
        lambda: [
            part.source.draw(int(part.numbers[number % len(part.numbers)]), rng)
            for (part, rng), number in zip(drawn, numbers, strict=True)
        ]
    )
    augmenting, _ = timed(
        lambda: [augment(task, part.transforms, rng) for task, (part, rng) in zip(tasks, drawn, strict=True)]
    )
    encode, _ = timed(lambda: [run.prompt.encode(s.task, s.test_index, kind=s.kind) for s in samples])
    rows = [make_row(stream, number) for number in numbers]
    collate, _ = timed(lambda: [collator(rows[start : start + size]) for start in range(0, len(rows), size)])
    seconds = {"draw": draw, "augment": augmenting, "encode": encode}
    seconds["choose and fit"] = max(0.0, whole - sum(seconds.values()))
    seconds["collate"] = collate
    return {name: value / len(numbers) for name, value in seconds.items()}


def timed(work: Callable[[], Value]) -> tuple[float, Value]:
    """Seconds of the work, and what it gave."""
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value
