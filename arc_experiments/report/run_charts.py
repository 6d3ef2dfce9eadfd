"""Charts of one run: losses and learning rate over optimizer steps, scores over numbers of predictions.

In: the records of `train_log.jsonl`, `score.by_num_predictions` or `score.programs`. Out: charts, or None,
which `page.py` hands to `page.html.j2`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from arc_experiments.report.chart_kinds import Line, Point, line_chart
from arc_experiments.report.svg import SERIES, Chart
from arc_experiments.scoring.by_program import SHARES

MAX_POINTS = 600  # more cannot be distinguished at the width of a chart
STEP = "optimizer step"
LEAST_PERCENT = 10  # up to which an axis of scores goes, that of a run without any right answer as well
SCORES = ("pass_at_2", "pass_at_n", "vote_1", "vote_2")
STYLES = ("-", "--", "-", ":")


def loss_chart(log: Sequence[dict[str, Any]], initial_loss: float | None = None) -> Chart | None:
    """Draw training loss, logged and smoothed, and validation loss, starting at `initial_loss` if given."""
    training = read_points(log, "loss")
    validation = read_points(log, "validation_loss")
    if initial_loss is not None and not any(step == 0 for step, _ in validation):
        validation = [(0.0, initial_loss), *validation]
    span = max(5, len(training) // 20)
    lines = [Line(name=_thinned_name(training), points=thin(training), width=1, opacity=0.4)]
    if len(training) > 2 * span:
        name = f"training loss, smoothed over {span} points"
        lines.append(Line(name=name, points=thin(smooth(training, span))))
    name = "validation loss per token"
    lines.append(
        Line(
            name=name, points=validation, colour=SERIES[1], style="--", width=1.5,
            words=lambda point: f"step {point[0]:g}: {name} {point[1]:.4f}",
        )
    )  # fmt: skip
    return _chart(lines, x_label=STEP, y_label="nats per token", aligned_over=_steps(log))


def learning_rate_chart(log: Sequence[dict[str, Any]]) -> Chart | None:
    """Draw the learning rate."""
    lines = [Line(name="learning rate", points=thin(read_points(log, "learning_rate")))]
    options = {"height": 150, "from_zero": True, "aligned_over": _steps(log)}
    return _chart(lines, x_label=STEP, y_label="learning rate", **options)


def predictions_chart(rows: Sequence[dict[str, Any]]) -> Chart | None:
    """Draw `SCORES` in percent over the number of predictions, whose doublings are equally far apart."""
    return _by_number(rows, "predictions", SCORES, "predictions for a test output", "score, %")


def programs_chart(rows: Sequence[dict[str, Any]]) -> Chart | None:
    """Draw the shares of tasks with a verified and with a right program over the number sampled."""
    return _by_number(rows, "sampled", SHARES, "programs sampled for a task", "tasks, %")


def search_chart(searches: Mapping[str, dict[str, Any]]) -> Chart | None:
    """Draw how many tasks have a verified program against the programs spent on a task.

    Args:
        searches: `score.programs` of each run by its name.
    """
    lines = []
    for (name, programs), colour, style in zip(searches.items(), SERIES, STYLES, strict=False):
        spent = sorted(programs["first_verified"].values())
        steps = [(float(x), float(y)) for place, x in enumerate(spent) for y in (place, place + 1)]
        most, solved = float(programs["most_sampled"]), float(len(spent))
        points = [(0.0, 0.0), *steps, (most, solved)]
        lines.append(Line(name=name, points=points, colour=colour, style=style))
    x_label, y_label = "programs spent on a task", "tasks with a verified program"
    return _chart(lines, x_label=x_label, y_label=y_label, from_zero=True)


def _by_number(
    rows: Sequence[dict[str, Any]], counted: str, names: Sequence[str], x_label: str, y_label: str
) -> Chart | None:
    marks = [(float(place), str(row[counted])) for place, row in enumerate(rows)]
    intervals = [row.get("interval", {}) for row in rows]
    lines = [
        Line(
            name=name, colour=colour, style=style,
            points=[(float(place), 100 * row[name]) for place, row in enumerate(rows)],
            band=[
                (100 * low, 100 * high)
                for row, interval in zip(rows, intervals, strict=True)
                for low, high in [interval.get(name) or (row[name], row[name])]
            ]
            if any(intervals)
            else (),
            words=lambda point: f"{marks[int(point[0])][1]} {counted}: {point[1]:.1f}%",
        )
        for name, style, colour in zip(names, STYLES, SERIES, strict=False)
    ]  # fmt: skip
    options = {"x_marks": marks, "from_zero": True, "least_top": LEAST_PERCENT}
    return _chart(lines, x_label=x_label, y_label=y_label, **options)


def _steps(log: Iterable[dict[str, Any]]) -> Point:
    """The first and the last step of a training."""
    return 0.0, float(max((record["step"] for record in log if "step" in record), default=1))


def read_points(log: Iterable[dict[str, Any]], key: str) -> list[Point]:
    """(step, value) of the records that have this key with a finite value."""
    return [
        (float(record["step"]), float(record[key]))
        for record in log
        if record.get(key) is not None and math.isfinite(record[key])
    ]


def count_not_finite(log: Iterable[dict[str, Any]]) -> int:
    """Count losses that are not finite numbers, which cannot be drawn and must be named."""
    losses = [record.get(key) for record in log for key in ("loss", "validation_loss")]
    return sum(loss is not None and not math.isfinite(loss) for loss in losses)


def smooth(points: Sequence[Point], span: int) -> list[Point]:
    """Means over `span` points around each: fewer at the start, where losses are steep, half at the end."""
    sums = [0.0, *accumulate(y for _, y in points)]
    smoothed = []
    for index, (x, _) in enumerate(points):
        half = min(span // 2, index)
        low, high = index - half, min(index + half + 1, len(points))
        smoothed.append((x, (sums[high] - sums[low]) / (high - low)))
    return smoothed


def thin(points: Sequence[Point]) -> list[Point]:
    """At most MAX_POINTS points: the means of as many neighbours as needed."""
    size = math.ceil(len(points) / MAX_POINTS)
    if size <= 1:
        return list(points)
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in (points[start : start + size] for start in range(0, len(points), size))
    ]


def _thinned_name(training: Sequence[Point]) -> str:
    size = math.ceil(len(training) / MAX_POINTS)
    return "training loss, as logged" if size <= 1 else f"training loss, means of {size} logged values"


def _chart(lines: Sequence[Line], **options: Any) -> Chart | None:
    """A chart of the lines that have points; None where there are none, or all are at x = 0."""
    lines = [line for line in lines if line.points]
    return line_chart(lines, **options) if any(x > 0 for line in lines for x, _ in line.points) else None
