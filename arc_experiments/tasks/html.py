"""Grids as HTML, for notebooks and pages."""

from collections.abc import Iterable
from html import escape

from arc_experiments.tasks.grids import Grid, to_svg

PICTURE_SIDE = 132  # pixels of a picture's longer side, as far as its cells stay between 4 and 16 pixels


def picture(grid: Grid) -> str:
    """The grid as SVG text of a size that suits a page."""
    return to_svg(grid, cell=min(16, max(4, PICTURE_SIDE // max(grid.shape))))


def row(named: Iterable[tuple[str, Grid | None]], heading: str = "") -> str:
    """Pictures side by side, each below its name; a grid that is not known is a question mark."""
    figures = "".join(
        f'<figure style="margin:0"><figcaption style="color:gray">{escape(name)}</figcaption>'
        f"{'?' if grid is None else picture(grid)}</figure>"
        for name, grid in named
    )
    title = f"<div><b>{escape(heading)}</b></div>" if heading else ""
    return (
        f'<div style="margin:8px 0">{title}'
        f'<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:start">{figures}</div></div>'
    )
