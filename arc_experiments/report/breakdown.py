"""Break scores down by kind of task and by number of predictions, and list what the answers cost.

In: the `score` and `cost` parts of metrics.json. Out: rows of text and a chart, as far as a run wrote them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arc_experiments.report.charts import Chart
from arc_experiments.report.curves import SCORES, predictions_chart
from arc_experiments.report.format import NO_VALUE, duration, memory, percent, percent_range

# What tasks are grouped by.
KINDS = {
    "output_cells": "cells of the test output",
    "demonstrations": "number of demonstrations",
    "concept": "concept (folder)",
    "source": "source",
}
TOKENS = {
    "prompt": "of prompts",
    "generated": "generated",
    "compared": "of answers compared",
    "training": "trained on",
}
COLUMNS = ("pass_at_1", *SCORES)


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """One group: name, number of tasks and test outputs, pass@2 in words and as a fraction, interval."""

    name: str
    num_tasks: int
    num_test_outputs: int
    value: str
    fraction: float
    interval: str


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All groups of one kind."""

    title: str
    rows: tuple[GroupRow, ...]


@dataclass(frozen=True, kw_only=True)
class ByNumber:
    """Scores against the number of predictions; `rows` hold the number and the values of `columns`."""

    chart: Chart | None
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def groups(score: dict[str, Any]) -> Iterator[Groups]:
    """The kinds of groups that were scored."""
    for kind, found in score.get("by_group", {}).items():
        rows = tuple(
            GroupRow(
                name=name,
                num_tasks=group["num_tasks"],
                num_test_outputs=group["num_test_outputs"],
                value=percent(group["pass_at_2"]),
                fraction=group["pass_at_2"],
                interval=NO_VALUE if group["interval"] is None else percent_range(*group["interval"]),
            )
            for name, group in found.items()
        )
        yield Groups(title=KINDS[kind], rows=rows)


def by_number(score: dict[str, Any]) -> ByNumber | None:
    """None where there was one prediction a test output."""
    rows = score.get("by_num_predictions", [])
    if len(rows) < 2:
        return None
    return ByNumber(
        chart=predictions_chart(rows),
        columns=COLUMNS,
        rows=tuple((str(row["predictions"]), *(percent(row[name]) for name in COLUMNS)) for row in rows),
    )


def cost_rows(cost: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Seconds, tokens and memory behind the scores."""
    if not cost:
        return
    processes = "" if cost["num_processes"] < 2 else f", {cost['num_processes']} processes"
    yield "device", f"{cost['device']}{processes}"
    yield "time at work a task", duration(cost["device_seconds_per_task"])
    yield "in all (every attempt and process)", duration(cost["device_seconds"])
    for kind, words in TOKENS.items():
        if cost.get(f"{kind}_tokens"):
            yield f"tokens {words}", f"{cost[f'{kind}_tokens']:,}"
    yield "memory at its peak", memory(cost["peak_memory_bytes"])
