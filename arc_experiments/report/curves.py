"""Curves as SVG text: losses and learning rate over optimizer steps, scores over numbers of predictions.

In: the records of `train_log.jsonl`, or of `score.by_num_predictions`. Out: SVG elements whose colours come from the page's style sheet, so
that they follow light and dark mode. (Written by hand: no plotting library gives the same bytes on every
machine, and a page of three lines needs none.)
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup, escape

Point = tuple[float, float]
Place = Callable[[Point], str]
"""From a point to its coordinates in the SVG, "x y"."""

WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 80, 14, 10, 40  # margins around the plotted area
MAX_POINTS = 600  # more cannot be told apart at this width


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The horizontal axis: what it is, from 0 to `last`, and its marks with their words."""

    label: str
    last: float
    marks: tuple[tuple[float, str], ...]

    def word(self, x: float) -> str:
        return dict(self.marks).get(x, f"{x:g}")


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points (x ascending) with a class of the style sheet: `faint`, `line`, `dots`, `second` or `third`."""

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its legend: (style, words) of each series that has points."""

    svg: Markup
    legend: tuple[tuple[str, str], ...]


def loss_figure(log: Sequence[dict[str, Any]], initial_loss: float | None = None) -> Figure | None:
    """Training loss as logged and smoothed, validation loss; `initial_loss` stands at step 0."""
    training = read_points(log, "loss")
    validation = read_points(log, "validation_loss")
    if initial_loss is not None and not any(step == 0 for step, _ in validation):
        validation = [(0.0, initial_loss), *validation]
    span = max(5, len(training) // 20)
    series = [Series(name=_thinned_name(training), style="faint", points=thin(training))]
    if len(training) > 2 * span:
        name = f"training loss, smoothed over {span} points"
        series.append(Series(name=name, style="line", points=thin(smooth(training, span))))
    series.append(Series(name="validation loss (token mean)", style="dots", points=validation))
    return _figure(series, height=290, y_label="loss in nats a token", axis=_steps(log))


def learning_rate_figure(log: Sequence[dict[str, Any]]) -> Figure | None:
    """The learning rate, on the same horizontal axis as the losses."""
    points = thin(read_points(log, "learning_rate"))
    series = [Series(name="learning rate", style="line", points=points)]
    return _figure(series, height=120, y_label="learning rate", axis=_steps(log), from_zero=True)


def predictions_figure(rows: Sequence[dict[str, Any]], names: Mapping[str, str]) -> Figure | None:
    """Scores in percent over the number of predictions, whose doublings are equally far apart.

    Args:
        names: by the style of its line, the score that it shows.
    """
    marks = tuple((float(place), str(row["predictions"])) for place, row in enumerate(rows))
    series = [
        Series(
            name=name, style=style, points=[(float(place), 100 * row[name]) for place, row in enumerate(rows)]
        )
        for style, name in names.items()
    ]
    axis = Axis(label="predictions for a test output", last=float(len(rows) - 1), marks=marks)
    return _figure(series, height=250, y_label="score, %", axis=axis, from_zero=True)


def read_points(log: Iterable[dict[str, Any]], key: str) -> list[Point]:
    """(step, value) of the records that have this key with a finite value."""
    return [
        (float(record["step"]), float(record[key]))
        for record in log
        if record.get(key) is not None and math.isfinite(record[key])
    ]


def count_not_finite(log: Iterable[dict[str, Any]]) -> int:
    """Losses that are not finite numbers: they cannot be drawn and must be said."""
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


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within low..high, at most about `most`."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _thinned_name(training: Sequence[Point]) -> str:
    size = math.ceil(len(training) / MAX_POINTS)
    return "training loss, as logged" if size <= 1 else f"training loss, means of {size} logged values"


def _steps(log: Sequence[dict[str, Any]]) -> Axis:
    last = max((float(record["step"]) for record in log), default=0.0)
    whole = [value for value in ticks(0.0, last, 8) if value == int(value)] if last > 0 else []
    return Axis(label="step", last=last, marks=tuple((value, str(int(value))) for value in whole))


def _figure(
    series: Sequence[Series], *, height: int, y_label: str, axis: Axis, from_zero: bool = False
) -> Figure | None:
    series = [one for one in series if one.points]
    if not series or axis.last <= 0:
        return None
    values = [y for one in series for _, y in one.points]
    low, high = (0.0 if from_zero else min(values)), max(values)
    pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = (low if from_zero else max(low - pad, min(0.0, low))), high + pad

    def place(point: Point) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * point[0] / axis.last
        y = TOP + (height - TOP - BOTTOM) * (high - point[1]) / (high - low)
        return f"{x:.1f} {y:.1f}"

    parts = [_axes(place, low, high, axis, height, y_label)]
    parts += [_dots(one, axis, place) if one.style == "dots" else _line(one, place) for one in series]
    over = "optimizer steps" if axis.label == "step" else axis.label
    svg = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(y_label)} over'
        f' {escape(over)}">{"".join(parts)}</svg>'
    )
    return Figure(svg=Markup(svg), legend=tuple((one.style, one.name) for one in series))


def _axes(place: Place, low: float, high: float, axis: Axis, height: int, y_label: str) -> str:
    parts = []
    for value in ticks(low, high, max(2, height // 40)):
        x, y = place((0.0, value)).split()
        parts.append(f'<path class="rule" d="M{x} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    bottom = height - BOTTOM
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
    for value, word in axis.marks:
        x = place((value, low)).split()[0]
        anchor = "end" if float(x) > WIDTH - RIGHT - 12 else "middle"
        parts.append(f'<path class="axis" d="M{x} {bottom}v4"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="{anchor}">{word}</text>')
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{height - 4}" text-anchor="middle">{escape(axis.label)}</text>'
    )
    parts.append(
        f'<text transform="translate(13 {middle:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _line(series: Series, place: Place) -> str:
    return f'<path class="{series.style}" d="M{"L".join(place(point) for point in series.points)}"/>'


def _dots(series: Series, axis: Axis, place: Place) -> str:
    dots = []
    for point in series.points:
        x, y = place(point).split()
        words = f"{axis.label} {axis.word(point[0])}: {escape(series.name)} {point[1]:.4f}"
        dots.append(f'<circle class="dot" cx="{x}" cy="{y}" r="4"><title>{words}</title></circle>')
    return _line(series, place) + "".join(dots)
