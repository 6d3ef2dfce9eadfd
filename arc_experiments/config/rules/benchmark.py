"""The checks of `benchmark`: parts and values that can be measured, keys that can be varied."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from arc_experiments.config.schema import BENCHMARK_PARTS, Benchmark, Config

# What the measurement of a training sets itself, and what says so.
SET_BY = {
    "hardware.per_device_batch_size": "benchmark.batch_sizes",
    "optim.pack_length": "benchmark.lengths with benchmark.packing",
    "optim.batch_size": "benchmark.accumulation",
    "optim.max_steps": "benchmark.max_seconds",
    "optim.stop_after": "benchmark.max_seconds",
    "optim.save_steps": "nothing: no checkpoint is written",
}
LEAST = {"workers": 0, "batch_sizes": 1, "lengths": 2}
LISTS = ("parts", "workers", "batch_sizes", "lengths", "input_sizes", "packing")
NEEDED = ("parts", "workers", "batch_sizes", "packing")


def check_benchmark(config: Config) -> Iterator[str]:
    """A line for each mistake."""
    benchmark = config.benchmark
    if any(part not in BENCHMARK_PARTS for part in benchmark.parts):
        yield f"benchmark.parts={benchmark.parts} must be some of: {', '.join(BENCHMARK_PARTS)}"
    yield from _check_lists(benchmark)
    for size in benchmark.input_sizes:
        if not re.fullmatch(r"[1-9][0-9]?x([1-9]|[12][0-9]|30)", size):
            yield (
                f"benchmark.input_sizes: {size} is not <demonstrations>x<side of the grids>, such as 2x30 "
                "(sides are 1 to 30)"
            )
    keys = [text.partition("=")[0] for text in benchmark.vary]
    for text, key in zip(benchmark.vary, keys, strict=True):
        if not re.fullmatch(r"[a-z_0-9.]+=[\w./~:+-]+(,[\w./~:+-]+)*", text):
            yield f"benchmark.vary: {text!r} is not <key>=<value>,<value>, such as model.attention=sdpa,eager"
        elif keys.count(key) > 1:
            yield f"benchmark.vary names {key} twice: all its values in one entry"
        else:
            yield from _check_key(config, key)


def _check_lists(benchmark: Benchmark) -> Iterator[str]:
    for name in LISTS:
        values = getattr(benchmark, name)
        if name in NEEDED and not values:
            yield f"benchmark.{name}=[] leaves nothing to measure: one value at least"
        if len(set(values)) < len(values):
            yield f"benchmark.{name}={values} names a value twice"
        if name in LEAST and any(value < LEAST[name] for value in values):
            yield f"benchmark.{name}={values} holds a value that is too small: at least {LEAST[name]}"
    if not benchmark.lengths and not benchmark.input_sizes:
        yield "benchmark.lengths=[] and benchmark.input_sizes=[] leave no rows to train on: name some of either"


def _check_key(config: Config, key: str) -> Iterator[str]:
    """Whether the key can be varied."""
    if key in SET_BY:
        yield f"benchmark.vary: {key} is set by the measurement, what says how is {SET_BY[key]}"
        return
    value: Any = config
    for name in key.split("."):
        inner = vars(value) if dataclasses.is_dataclass(value) else value
        if not isinstance(inner, dict) or name not in inner:
            yield f"benchmark.vary: {key}: there is no such key in this composition"
            return
        value = inner[name]
    if dataclasses.is_dataclass(value) or isinstance(value, dict):
        yield (
            f"benchmark.vary: {key} is a group of keys: vary single ones, such as model.attention, or compare whole "
            f"groups by a sweep: --multirun job=benchmark {key}=..."
        )
