"""Draw charts with matplotlib, in one look for the report, a comparison and the benchmark.

In: numbers and words. Out: a `Chart`. In a template, `{{ chart }}` becomes inline SVG that follows the fonts
and the light or dark colours of the page, once for wide and once for narrow screens; `chart.save("loss.pdf")`
writes a file for a paper.

Matplotlib is imported when a chart is drawn, never before, so that no command waits for it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]

WIDE, NARROW = 860, 370  # pixels; page.css says which screens see which
LETTER = 6.5  # pixels, about
# Colours of the light page. Inline, each becomes a variable of page.css.
SERIES = ("#2c62a8", "#c05a0a", "#1a7a3c", "#8a3fa8", "#0d7f8c", "#b3261e", "#7a6a00", "#5c6470")
NUM_COLOURS = len(SERIES)
INK, QUIET, RULE, CARD = "#22252a", "#62676f", "#e2e0db", "#ffffff"
GREY = "#b9bec6"  # of what others are compared with
VARIABLES = {colour: f"--series-{number}" for number, colour in enumerate(SERIES)} | {
    INK: "--ink", QUIET: "--quiet", RULE: "--rule", CARD: "--card",
}  # fmt: skip
STYLE: Any = {
    "font.size": 12, "axes.titlesize": 12, "axes.labelsize": 12, "legend.fontsize": 12,
    "text.color": QUIET, "axes.labelcolor": QUIET, "axes.edgecolor": QUIET, "axes.facecolor": "none",
    "xtick.color": QUIET, "ytick.color": QUIET, "ytick.major.size": 0, "grid.color": RULE,
    "grid.linewidth": 1, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.axisbelow": True, "lines.solid_joinstyle": "round", "legend.frameon": False,
    "svg.fonttype": "none", "savefig.dpi": 200,
}  # fmt: skip
TITLE = "title:"  # marks an id that is a tooltip
FONT = 'font-family="system-ui, sans-serif"'


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, drawn when it is shown or saved.

    Attributes:
        label: what it shows, for readers who cannot see it.
        height: in pixels.
        draw: fills an empty figure; its width is WIDE or NARROW.
    """

    label: str
    height: float
    draw: Callable[[Figure], None]

    def __html__(self) -> str:
        """Inline SVG, which templates insert as it is."""
        return self._inline

    def svg(self) -> str:
        """An SVG file on white, the same bytes for the same numbers."""
        return f"{self._svg(WIDE, background=CARD)}\n"

    def save(self, path: Path | str) -> None:
        """Write a file of the kind that its ending names: .svg, .pdf, .png."""
        if Path(path).suffix == ".svg":
            Path(path).write_text(self.svg(), encoding="utf-8")
            return
        with self._drawn(WIDE) as figure:
            figure.savefig(path)

    @cached_property
    def _inline(self) -> str:
        both = ((WIDE, "on-wide"), (NARROW, "on-narrow"))
        return "".join(_inlined(self._svg(width, background="none"), style) for width, style in both)

    @contextmanager
    def _drawn(self, width: float) -> Iterator[Figure]:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # whatever the user's own style says
            # Ids of markers: the same in every process, different in each chart of a page.
            matplotlib.rcParams.update(STYLE | {"svg.hashsalt": f"{self.label} {width}"})
            figure = Figure(figsize=(width / 72, self.height / 72), layout="constrained")
            self.draw(figure)
            yield figure

    def _svg(self, width: float, background: str) -> str:
        text = io.StringIO()
        with self._drawn(width) as figure:
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(text, format="svg", facecolor=background, metadata=nothing)
        return _cleaned(text.getvalue(), self.label)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes:
        points: x ascending.
        band: the lowest and the highest y at each point.
        style: of the line: "-", "--", ":" as matplotlib has them.
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
    x_marks: Sequence[tuple[float, str]] = (),
) -> Chart:
    """Lines over a common x with a legend; `x_marks` are the only marks of the x axis, if there are any."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure, x_label, y_label)
        axes.locator_params(axis="x", integer=True)
        for line in lines:
            _draw_line(axes, line)
        low = min(
            y for line in lines for _, y in (*line.points, *((0, end) for pair in line.band for end in pair))
        )
        if from_zero or axes.get_ylim()[0] < 0 <= low:
            axes.set_ylim(bottom=0)
        if x_marks:
            axes.set_xticks(*zip(*x_marks, strict=True))
        _add_legend(figure, axes)

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
            drawn = axes.barh(
                range(len(bars)),
                [bar.value for bar in bars],
                height=0.72,
                color=[bar.colour for bar in bars],
            )
            axes.bar_label(drawn, [bar.words for bar in bars], padding=6, color=INK)
            axes.set_title(heading, loc="left", color=INK, fontweight="bold")
            axes.set_yticks(range(len(bars)), [bar.name for bar in bars], color=INK)
            axes.set(xticks=[], ylim=(len(bars) - 0.4, -0.6), xlim=(0, 1.12 * max(bar.value for bar in bars)))
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
    """A colour for each of so many groups; they start again where there are more groups than colours."""
    return [SERIES[number % NUM_COLOURS] for number in range(count)]


def _axes(figure: Figure, x_label: str, y_label: str, grid: Literal["x", "y", "both"] = "y") -> Axes:
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid)
    axes.set(xlabel=x_label, ylabel=y_label)
    if figure.get_figwidth() * 72 < WIDE:
        axes.locator_params(axis="x", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\N{MINUS SIGN}"))
    return axes


def _draw_line(axes: Axes, line: Line) -> None:
    x, y = zip(*line.points, strict=True)
    if line.band:
        low, high = zip(*line.band, strict=True)
        axes.fill_between(x, low, high, color=line.colour, alpha=0.16, linewidth=0)
    axes.plot(
        x,
        y,
        color=line.colour,
        linestyle=line.style,
        linewidth=line.width,
        alpha=line.opacity,
        label=line.name,
    )
    for point in line.points if line.words else ():
        assert line.words is not None
        _dot(axes, point, line.colour, line.words(point))


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


def _cleaned(svg: str, label: str) -> str:
    """Keep what a browser needs, add tooltips, and round numbers to what is the same on every machine."""
    svg = svg[svg.index("<svg") :].replace("xlink:href", "href")
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{TITLE}([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r' id="[\w.]+_\d+"| transform="rotate\(-0 [^"]*\)"| clip-path="[^"]*"', "", svg)
    svg = re.sub(r"<clipPath.*?</clipPath>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', lambda found: _rounded(found[0]), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size[0]} '
        f'role="img" aria-label="{escape(label)}" {FONT} stroke-linejoin="round">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: root, svg, count=1)


def _rounded(numbers: str) -> str:
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers)


def _inlined(svg: str, style: str) -> str:
    """With the colours of the page instead of those of a file."""
    svg = re.sub(
        "#[0-9a-f]{6}",
        lambda found: f"var({VARIABLES[found[0]]})" if found[0] in VARIABLES else found[0],
        svg,
    )
    return svg.replace("<svg", f'<svg class="chart {style}"', 1).replace(
        ' font-family="system-ui, sans-serif"', "", 1
    )
