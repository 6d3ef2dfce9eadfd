"""Measure the stream: lengths, what was done to make samples fit, how often each task occurs.

stream, number of rows ──> Counted ──> inspect.json
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arc_experiments.prompts import Prompt
from arc_experiments.stream.samples import Sample, SampleStream
from arc_experiments.tasks import TaskSet

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
MAX_BINS = 24


@dataclass(kw_only=True)
class Lengths:
    """Lengths in tokens of the samples of one origin, and what was done to make them fit.

    Attributes:
        learnt: tokens with a loss.
        num_shrunk: samples that lost demonstrations; `num_dropped` counts the demonstrations.
        num_redrawn: tasks that were drawn and did not fit (for validation: test pairs that do not fit).
    """

    tokens: list[int] = field(default_factory=list)
    learnt: int = 0
    num_shrunk: int = 0
    num_dropped: int = 0
    num_redrawn: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return counts, and percentiles of the lengths (null if there is no sample)."""
        tokens = np.array(self.tokens)
        at = np.percentile(tokens, PERCENTILES, method="inverted_cdf").tolist() if len(tokens) else None
        return {
            "samples": len(tokens),
            "tokens": int(tokens.sum()),
            "tokens_with_loss": self.learnt,
            "length_mean": float(tokens.mean()) if len(tokens) else None,
            "length_percentiles": None if at is None else dict(zip(map(str, PERCENTILES), at, strict=True)),
            "samples_shrunk": self.num_shrunk,
            "demonstrations_dropped": self.num_dropped,
            "samples_redrawn": self.num_redrawn,
        }


@dataclass(kw_only=True)
class SourceCount(Lengths):
    """The samples of one source; `visits` counts how often each training task was drawn, including 0."""

    visits: Counter[str]
    kinds: Counter[str] = field(default_factory=Counter)
    num_left_out: int = 0  # augmentation steps that the programs could not follow

    def add(self, sample: Sample) -> None:
        self.tokens.append(len(sample.encoded))
        self.learnt += int((sample.encoded.labels >= 0).sum())
        self.num_shrunk += sample.num_dropped > 0
        self.num_dropped += sample.num_dropped
        self.num_redrawn += sample.num_redrawn
        self.visits[sample.task.id] += 1
        self.kinds[sample.kind] += 1
        self.num_left_out += sample.num_left_out

    def as_json(self) -> dict[str, Any]:
        """Return the same with the kinds of questions and the visits of each task."""
        counts = sorted(self.visits.values())
        visits = {"fewest": counts[0], "median": counts[len(counts) // 2], "most": counts[-1]}
        never = counts.count(0)
        return {
            **super().as_json(),
            "kinds": dict(sorted(self.kinds.items())),
            "steps_left_out": self.num_left_out,
            "tasks": {"num_tasks": len(counts), "never_drawn": never, **visits},
            "visits": dict(self.visits.most_common()),
        }


@dataclass(frozen=True, kw_only=True)
class Counted:
    """`rows` are the lengths of the trainer's rows: one sample each, or several if packed."""

    rows: list[int]
    by_source: dict[str, SourceCount]


def count(
    stream: SampleStream, num_rows: int, on_progress: Callable[[int], None] = lambda done: None
) -> Counted:
    """Count the first `num_rows` rows of the stream."""
    by_source = {
        part.name: SourceCount(visits=Counter(dict.fromkeys(part.task_ids, 0))) for part in stream.parts
    }
    names, rows = list(by_source), []
    for index in range(num_rows):
        row = stream.row(index)
        for sample in row:
            by_source[names[sample.part]].add(sample)
        rows.append(sum(len(sample.encoded) for sample in row))
        on_progress(index + 1)
    return Counted(rows=rows, by_source=by_source)


def count_validation(tasks: TaskSet, prompt: Prompt) -> Lengths:
    """Count every test pair and ready row as the validation loss sees it: not augmented, with its answer."""
    counted = Lengths()
    for task in tasks:
        for fitted in prompt.fit_whole(task):
            if fitted is None:
                counted.num_redrawn += 1
                continue
            counted.tokens.append(len(fitted.encoded))
            counted.learnt += int((fitted.encoded.labels >= 0).sum())
            counted.num_shrunk += fitted.num_dropped > 0
            counted.num_dropped += fitted.num_dropped
    return counted


def histogram(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return bins of equal, round width over the lengths: from, to (exclusive), count."""
    low, high = min(lengths), max(lengths)
    round_numbers = (factor * 10**power for power in range(8) for factor in (1, 2, 5))
    width = next(number for number in round_numbers if number >= (high - low + 1) / MAX_BINS)
    counts = Counter(length // width for length in lengths)
    return [
        (number * width, (number + 1) * width, counts[number])
        for number in range(low // width, high // width + 1)
    ]
