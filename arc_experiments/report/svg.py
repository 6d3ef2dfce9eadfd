"""Turn what matplotlib draws into SVG for a page, or into a file.

In: a function that fills a figure. Out: a `Chart`. In a template, `{{ chart }}` becomes inline SVG that
follows the fonts and the light or dark colours of the page, once for wide and once for narrow screens;
`chart.save("loss.pdf")` writes a file for a paper.

Matplotlib is imported when a chart is drawn, never before, so that no command waits for it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

WIDE, NARROW = 860, 370  # pixels; page.css says which screens see which
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
    "svg.fonttype": "none", "savefig.dpi": 200, "text.parse_math": False,
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
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var({name})")
    return svg.replace("<svg", f'<svg class="chart {style}"', 1).replace(f" {FONT}", "", 1)
