"""The checks of `benchmark`: parts and values that can be measured."""

import re
from collections.abc import Iterator

from arc_experiments.config import BENCHMARK_PARTS, Benchmark


def check_benchmark(benchmark: Benchmark) -> Iterator[str]:
    """A line for each mistake."""
    unknown = [part for part in benchmark.parts if part not in BENCHMARK_PARTS]
    if unknown or not benchmark.parts:
        yield f"benchmark.parts={benchmark.parts} must be some of: {', '.join(BENCHMARK_PARTS)}"
    for name, low in (("workers", 0), ("batch_sizes", 1), ("lengths", 2)):
        values = getattr(benchmark, name)
        if any(value < low for value in values):
            yield f"benchmark.{name}={values} holds a value that is too small: at least {low}"
    for size in benchmark.input_sizes:
        if not re.fullmatch(r"[1-9][0-9]?x([1-9]|[12][0-9]|30)", size):
            yield (
                f"benchmark.input_sizes: {size} is not <demonstrations>x<side of the grids>, such as 2x30 "
                "(sides are 1 to 30)"
            )
    for text in benchmark.vary:
        if not re.fullmatch(r"[a-z_0-9.]+=[^,=]+(,[^,=]+)*", text):
            yield f"benchmark.vary: {text!r} is not <key>=<value>,<value>, such as model.attention=sdpa,eager"
