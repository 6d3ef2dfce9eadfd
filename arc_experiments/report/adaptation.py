"""Test-time fine-tuning in words and rows, for the terminal and the page: all from metrics.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arc_experiments.report.format import BY_KAGGLE, NO_VALUE, percent, plural

# What became of a task, by the name in metrics.json.
OUTCOMES = {
    "whole": "trained to the end",
    "stopped_by_time": "answered with the weights there were when the time was over",
    "not_begun_in_time": "not adapted: the time was over",
    "too_few_demonstrations": "not adapted: too few demonstrations to leave one out",
    "too_long": "not adapted: too long for prompt.max_length even with one demonstration",
    "diverged": "not adapted: stopped by a guard (see run.log)",
    "out_of_memory": "not adapted: out of memory (see run.log)",
    "cut_off_by_deadline": "not adapted: not finished by the deadline",
}


@dataclass(frozen=True, kw_only=True)
class AdaptationBlock:
    """What a page says: sentences; a row a score: name, before, after, difference, interval; ids of tasks."""

    sentences: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    won: tuple[str, ...]
    lost: tuple[str, ...]


def adaptation_block(metrics: dict[str, Any]) -> AdaptationBlock | None:
    """None where nothing was adapted; only sentences where nothing could be scored."""
    if "adaptation" not in metrics:
        return None
    sentences = tuple(adaptation_sentences(metrics["adaptation"]))
    if "difference" not in metrics:
        return AdaptationBlock(sentences=sentences, rows=(), won=(), lost=())
    before, after, gains = metrics["before"]["score"], metrics["score"], metrics["difference"]
    return AdaptationBlock(
        sentences=sentences,
        rows=tuple(
            (name, percent(before[name]), percent(after[name]), *gain(gains[name]))
            for name in BY_KAGGLE
            if name in gains
        ),
        won=tuple(gains["won"]),
        lost=tuple(gains["lost"]),
    )


def adaptation_sentences(adaptation: dict[str, Any]) -> Iterator[str]:
    """What became of the tasks, what was trained on, and how the loss fell."""
    outcomes = [(OUTCOMES[name], count) for name, count in adaptation["outcomes"].items() if count]
    yield "; ".join(f"{plural(count, 'task')} {words}" for words, count in outcomes)
    if not adaptation["samples"]:
        return
    loss = ""
    if "final_loss" in adaptation:
        loss = f", loss {adaptation['initial_loss']:.3f} to {adaptation['final_loss']:.3f}"
    yield f"{plural(adaptation['samples'], 'sample')} in {plural(adaptation['steps'], 'step')}{loss}"
    if adaptation["samples_shrunk"]:
        yield f"{plural(adaptation['samples_shrunk'], 'sample')} lost demonstrations to fit prompt.max_length"
    if adaptation["samples_redrawn"]:
        yield f"{plural(adaptation['samples_redrawn'], 'sample')} in place of others that did not fit at all"


def gain(found: dict[str, Any]) -> tuple[str, str]:
    """A paired difference and its interval, or a dash where there is none."""
    interval = found["interval"]
    shown = NO_VALUE if interval is None else " to ".join(map(_signed, interval))
    return _signed(found["difference"]), shown


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f}%".replace("-", "\N{MINUS SIGN}")
