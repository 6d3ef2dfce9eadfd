"""Draw a comparison: scores with intervals, scores against time, validation losses.

In: `ComparedRuns`. Out: charts in which each group keeps its colour; None if there is nothing to draw.
"""

from collections.abc import Sequence

import pandas as pd

from arc_experiments.comparison.result import ComparedRuns
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.scaling import Scaling
from arc_experiments.comparison.tables import MetricFormat
from arc_experiments.report.chart_kinds import (
    Dots,
    Line,
    colours,
    interval_chart,
    line_chart,
    scatter_chart,
)
from arc_experiments.report.run_charts import STEP, read_points
from arc_experiments.report.svg import SERIES, Chart
from arc_experiments.report.wording import duration


def scores_chart(compared: ComparedRuns, words: MetricFormat) -> Chart:
    """A row a group: its runs, its mean, the interval for new seeds thick and the one for new tasks thin."""
    rows = [
        Dots(
            name=row.group,
            mean=(row.value, 0, f"{row.group}: mean {words.value(row.value)}"),
            runs=[
                (run.value, 0, f"{run.name}: {words.value(run.value)}")
                for run in _runs(compared, row.group).itertuples()
            ],
            thin=words.ends(row, "new_tasks"),
            thick=words.ends(row, "new_seeds"),
        )
        for _, row in compared.groups.iterrows()
    ]
    return interval_chart(rows, x_label=compared.metric, word=words.value)


def cost_chart(compared: ComparedRuns, words: MetricFormat) -> Chart | None:
    """Runs and means of groups by the time they took and their score; None if no run knows its time."""
    longest = compared.runs.seconds.max()
    if pd.isna(longest):
        return None
    size, unit = (1, "s") if longest < 300 else (60, "min") if longest < 5 * 3600 else (3600, "h")
    groups = []
    for group in compared.groups.group:
        known = _runs(compared, group).dropna(subset="seconds")
        seconds, value = known.seconds.mean(), known.value.mean()
        mean = f"{group}: mean {words.value(value)}, {duration(seconds)}" if len(known) else ""
        groups.append(
            Dots(
                name=group,
                mean=(seconds / size, value, mean) if len(known) else None,
                runs=[
                    (run.seconds / size, run.value, f"{run.name}: {words.value(run.value)}")
                    for run in known.itertuples()
                ],
            )
        )
    return scatter_chart(groups, x_label=f"time a run, {unit}", y_label=compared.metric, word=words.value)


def losses_chart(compared: ComparedRuns) -> Chart | None:
    """Validation loss: the mean of each group's runs in a band from the lowest to the highest.

    None if no group has two steps that all of its runs know.
    """
    lines = []
    for group, colour in zip(compared.groups.group, colours(len(compared.groups)), strict=True):
        losses = validation_losses(list(_runs(compared, group).result))
        if len(losses) > 1:
            means = losses.mean(axis="columns")
            lines.append(
                Line(
                    name=group,
                    points=list(means.items()),
                    band=list(zip(losses.min(axis="columns"), losses.max(axis="columns"), strict=True)),
                    colour=colour,
                    words=lambda point, group=group: f"{group}, step {point[0]:g}: {point[1]:.4f}",  # type: ignore[misc]
                )
            )
    return line_chart(lines, x_label=STEP, y_label="validation loss per token") if lines else None


def law_chart(scaling: Scaling, *, metric: str, of: str) -> Chart:
    """Means by size, and the law in its band, as far as it is known."""
    words = MetricFormat(metric=metric)
    means = Line(
        name="mean of the runs",
        points=[(point.size, point.value) for point in scaling.measured],
        style="" if scaling.curve else "-",
        words=lambda point: f"{point[0]:g} {of}: {words.value(point[1])}",
    )
    law = Line(
        name="power law with floor, with its 95% band",
        points=[(point.size, point.value) for point in scaling.curve],
        band=[
            (point.low, point.high)
            for point in scaling.curve
            if point.low is not None and point.high is not None
        ],
        colour=SERIES[1],
        style="--",
    )
    ahead = [] if scaling.ahead is None else [scaling.ahead.size]
    marks = [(size, f"{size:,g}") for size in (*(point.size for point in scaling.measured), *ahead)]
    lines = [law, means] if scaling.curve else [means]
    return line_chart(lines, x_label=of, y_label=metric, x_marks=marks, log_x=True)


def _runs(compared: ComparedRuns, group: str) -> pd.DataFrame:
    return compared.runs[compared.runs.group == group]


def validation_losses(runs: Sequence[RunResult]) -> pd.DataFrame:
    """A row a step that all runs know, a column a run."""
    curves = [pd.Series(dict(read_points(run.log, "validation_loss")), dtype=float) for run in runs]
    return pd.concat(curves, axis="columns", join="inner").sort_index()
