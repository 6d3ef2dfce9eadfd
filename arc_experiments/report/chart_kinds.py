"""Kinds of charts in one look, for the report, a comparison and the benchmark.

In: numbers and words. Out: a `Chart`. The charts of a run are in `run_charts.py`, others with their page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Literal

from arc_experiments.report.svg import CARD, INK, NUM_COLOURS, SERIES, TITLE, WIDE, Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

Point = tuple[float, float]

LETTER = 6.5  # pixels, about
LEFT, RIGHT = 78, 16  # pixels beside axes that are aligned, for marks and label


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes:
        points: x ascending.
        band: the lowest and the highest y at each point.
        style: of the line: "-", "--", ":" as matplotlib has them; "": dots alone.
        words: tooltip of the dot at a point; no dots without.
    """

    name: str
    points: Sequence[Point]
    colour: str = SERIES[0]
    style: str = "-"
    width: float = 2
    opacity: float = 1
    band: Sequence[Point] = ()
    words: Callable[[Point], str] | None = None


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A mean and the values behind it, in one colour; tooltips are words.

    Attributes:
        mean: x, y and words; None where there is none.
        runs: x, y and words of each value.
        thin, thick: intervals of x around the mean.
    """

    name: str
    mean: tuple[float, float, str] | None
    runs: Sequence[tuple[float, float, str]]
    thin: Point | None = None
    thick: Point | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar with its value in words."""

    name: str
    value: float
    words: str
    colour: str


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    height: float = 300,
    from_zero: bool = False,
    least_top: float | None = None,
    x_marks: Sequence[tuple[float, str]] = (),
    log_x: bool = False,
    aligned_over: Point | None = None,
) -> Chart:
    """Lines over a common x with a legend.

    Args:
        least_top: the y up to which the axis goes at least.
        x_marks: the only marks of the x axis, if there are any.
        aligned_over: the ends of the x axis, for charts that stand above each other: their axes are aligned.
    """

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import NullLocator

        axes = _axes(figure, x_label, y_label)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.locator_params(axis="x", integer=True)
        for line in lines:
            _draw_line(axes, line)
        low = min(y for line in lines for y in (*(y for _, y in line.points), *(low for low, _ in line.band)))
        if from_zero or axes.get_ylim()[0] < 0 <= low:
            axes.set_ylim(bottom=0)
        if least_top is not None:
            axes.set_ylim(top=max(least_top, axes.get_ylim()[1]))
        if x_marks:
            axes.set_xticks(*zip(*x_marks, strict=True))
        _add_legend(figure, axes)
        if aligned_over is not None:
            _align(figure, axes, aligned_over)

    return Chart(label=f"{y_label} over {x_label}", height=height, draw=draw)


def interval_chart(rows: Sequence[Dots], *, x_label: str, word: Callable[[float], str]) -> Chart:
    """A row each: its name, its mean with intervals, and below them its runs (whose y is not used)."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure, x_label, "", grid="x")
        axes.xaxis.set_major_formatter(lambda value, _: word(value))
        axes.set(yticks=[], ylim=(len(rows) - 0.45, -0.6))
        for y, (row, colour) in enumerate(zip(rows, colours(len(rows)), strict=True)):
            for ends, width, opacity in ((row.thin, 1.5, 1), (row.thick, 6, 0.4)):
                if ends is not None:
                    axes.plot(ends, (y, y), color=colour, linewidth=width, alpha=opacity)
            for x, _, words in row.runs:
                _dot(axes, (x, y + 0.22), colour, words, ring=True)
            if row.mean is not None:
                _dot(axes, (row.mean[0], y), colour, row.mean[2], size=10)
            name = fill(row.name, int(figure.get_figwidth() * 72 / LETTER))
            axes.annotate(name, (0, y - 0.2), xycoords=("axes fraction", "data"), color=INK, va="bottom")
        _show_zero(axes.xaxis)

    return Chart(label=f"{x_label} of each group with its intervals", height=60 + 58 * len(rows), draw=draw)


def scatter_chart(
    groups: Sequence[Dots], *, x_label: str, y_label: str, word: Callable[[float], str], height: float = 320
) -> Chart:
    """The runs of each group as rings and its mean as a dot, x from 0; `word` writes y."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure, x_label, y_label, grid="both")
        axes.yaxis.set_major_formatter(lambda value, _: word(value))
        for group, colour in zip(groups, colours(len(groups)), strict=True):
            for x, y, words in group.runs:
                _dot(axes, (x, y), colour, words, ring=True)
            if group.mean is not None:
                x, y, words = group.mean
                _dot(axes, (x, y), colour, words, size=11, label=group.name)
        axes.set_xlim(left=0)
        _show_zero(axes.yaxis)
        _add_legend(figure, axes)

    return Chart(label=f"{y_label} against {x_label}", height=height, draw=draw)


def bar_chart(label: str, panels: Sequence[tuple[str, Sequence[Bar]]]) -> Chart:
    """Horizontal bars in panels, each with its heading and a scale of its own."""

    def draw(figure: Figure) -> None:
        if not panels:
            return
        heights = [len(bars) + 1 for _, bars in panels]
        grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
        for axes, (heading, bars) in zip(grid[:, 0], panels, strict=True):
            places, values = range(len(bars)), [bar.value for bar in bars]
            drawn = axes.barh(places, values, height=0.72, color=[bar.colour for bar in bars])
            axes.bar_label(drawn, [bar.words for bar in bars], padding=6, color=INK)
            axes.set_title(heading, loc="left", color=INK, fontweight="bold")
            axes.set_yticks(places, [bar.name for bar in bars], color=INK)
            axes.set(xticks=[], ylim=(len(bars) - 0.4, -0.6), xlim=(0, 1.12 * max(values) or 1))
            axes.grid(visible=False)
            axes.spines["bottom"].set_visible(False)

    height = sum(22 * len(bars) + 44 for _, bars in panels)
    return Chart(label=label, height=max(1, height), draw=draw)


def histogram_chart(bins: Sequence[tuple[float, float, int]], *, x_label: str, unit: str) -> Chart:
    """Columns from `start` to `end`, as high as `count`."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure, x_label, "")
        for start, end, count in bins:
            column = axes.bar(start, count, end - start, align="edge", color=SERIES[0], edgecolor=CARD)
            column[0].set_gid(f"{TITLE}{start:g} to {end - 1:g} {unit}: {count}")
        axes.locator_params(axis="y", integer=True)

    return Chart(label=f"histogram of {x_label}", height=230, draw=draw)


def colours(count: int) -> list[str]:
    """A colour for each group; the colours repeat if there are more groups than colours."""
    return [SERIES[number % NUM_COLOURS] for number in range(count)]


def _axes(figure: Figure, x_label: str, y_label: str, grid: Literal["x", "y", "both"] = "y") -> Axes:
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid)
    width, height = (inches * 72 for inches in figure.get_size_inches())
    axes.set(xlabel=_lines(x_label, width), ylabel=_lines(y_label, height))
    if width < WIDE:
        axes.locator_params(axis="x", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\N{MINUS SIGN}"))
    return axes


def _align(figure: Figure, axes: Axes, ends: Point) -> None:
    """Give the x axis these ends, and the same place as in every other chart of this width."""
    low, high = ends
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    figure.draw_without_rendering()  # finds room for the legend
    figure.set_layout_engine("none")
    room, place = figure.get_figwidth() * 72, axes.get_position()
    axes.set_position((LEFT / room, place.y0, 1 - (LEFT + RIGHT) / room, place.height))


def _show_zero(axis: XAxis | YAxis) -> None:
    """Begin at 0 and end at 1 if all is 0: the ends that are found otherwise are tiny, and on both sides."""
    low, high = axis.get_data_interval()
    if low == high == 0:
        axis.axes.set(**{f"{axis.axis_name}lim": (0, 1)})


def _lines(label: str, room: float) -> str:
    """An axis label in as many lines as it needs, beside the room that marks and the other axis take."""
    return fill(label, max(10, int((room - 60) / LETTER)))


def _draw_line(axes: Axes, line: Line) -> None:
    x, y = zip(*line.points, strict=True)
    if line.band:
        low, high = zip(*line.band, strict=True)
        axes.fill_between(x, low, high, color=line.colour, alpha=0.16, linewidth=0)
    if line.style:
        (drawn,) = axes.plot(x, y, color=line.colour, label=line.name, alpha=line.opacity)
        drawn.set(linestyle=line.style, linewidth=line.width)
    for number, point in enumerate(line.points if line.words else ()):
        assert line.words is not None
        label = line.name if not line.style and number == 0 else None
        _dot(axes, point, line.colour, line.words(point), label=label)


def _dot(
    axes: Axes,
    point: Point,
    colour: str,
    words: str,
    *,
    size: float = 6,
    ring: bool = False,
    label: str | None = None,
) -> None:
    """A dot, or a ring, with a tooltip, also where the axes end."""
    (dot,) = axes.plot(
        *([value] for value in point),
        marker="o", markersize=size, linestyle="", label=label, clip_on=False,
        markerfacecolor="none" if ring else colour, markeredgecolor=colour if ring else CARD,
    )  # fmt: skip
    dot.set_gid(f"{TITLE}{words}")


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, in as many columns as there is room for; none if the axis says it all."""
    handles, names = axes.get_legend_handles_labels()
    if names == [axes.get_ylabel()]:
        return
    room = figure.get_figwidth() * 72 / LETTER
    columns = max(1, int(room / (max(map(len, names)) + 6)))
    figure.legend(
        handles, [fill(name, int(room) - 8) for name in names],
        loc="outside upper left", ncols=min(columns, len(names)), borderpad=0, labelspacing=0.25,
    )  # fmt: skip
