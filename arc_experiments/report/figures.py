"""The charts of a page, and pictures of answered tasks, as files for a paper.

    figures/losses.svg   learning_rate.svg   predictions.svg   ...   task-0a1b2c3d.svg

In: a run folder, or charts by name. Out: the files' paths. Each is written as SVG, PDF and PNG.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from arc_experiments.composing.naming import slug
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.gallery import TaskCard
from arc_experiments.report.page import cards_of, charts_of
from arc_experiments.report.svg import INK, Chart
from arc_experiments.report.thumbnail import COLOURS
from arc_experiments.tasks.grids import PALETTE, Grid
from arc_experiments.tasks.task import TaskSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("svg", "pdf", "png")
ROW = 130  # pixels of a row of grids, its captions included
LINE_WIDTH = 0.4
MOST_IN_A_ROW = 6


def write_figures(run: Path, tasks: TaskSet, folder: Path) -> list[Path]:
    """Write the charts of a run's page, and a picture of each task that was answered.

    Args:
        tasks: those that were predicted, as for `write_report`.
        folder: made if it is missing.

    Raises:
        ValueError: no run folder, a file in it that cannot be read, or there is nothing to draw.
    """
    files = read_run(run)
    charts: dict[str, Chart | None] = {**charts_of(files), **dict(_tasks(files, tasks))}
    return write_charts(charts, folder)


def write_charts(charts: Mapping[str, Chart | None], folder: Path) -> list[Path]:
    """Write charts by name in every kind of `KINDS`; those that are None are left out.

    Raises:
        ValueError: there is none.
    """
    drawn = {name: chart for name, chart in charts.items() if chart is not None}
    if not drawn:
        raise ValueError("there is nothing to draw yet: no log, no scores, no answers")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for name in drawn for kind in KINDS]
    for path in paths:
        drawn[path.stem].save(path)
    return paths


def task_picture(card: TaskCard) -> Chart:
    """Draw a task: its demonstrations, then of each test output a row: input, solution if known, attempts."""
    pairs = [(pair.input, pair.output) for pair in card.demonstrations]
    rows = [
        [(grid, name, INK) for pair in pairs[start : start + MOST_IN_A_ROW // 2]
         for grid, name in zip(pair, ("input", "output"), strict=True) if grid is not None]
        for start in range(0, len(pairs), MOST_IN_A_ROW // 2)
    ]  # fmt: skip
    for test in card.tests:
        expected = [] if test.expected is None else [(test.expected, "solution", INK)]
        attempts = [
            (one.grid, f"attempt {number}" + (f": {one.verdict}" if one.verdict != "unknown" else ""),
             COLOURS[one.verdict])
            for number, one in enumerate(test.attempts, 1)
        ]  # fmt: skip
        rows.append([(test.input, test.heading.lower(), INK), *expected, *attempts])

    def draw(figure: "Figure") -> None:
        all_axes = figure.subplots(len(rows), MOST_IN_A_ROW, squeeze=False)
        for axes_of_row, row in zip(all_axes, rows, strict=True):
            for axes in axes_of_row[len(row) :]:
                axes.set_axis_off()
            for axes, shown in zip(axes_of_row, row, strict=False):
                _draw_grid(axes, *shown)

    return Chart(label=f"task {card.id}", height=ROW * len(rows), draw=draw)


def _tasks(files: RunFiles, tasks: TaskSet) -> Iterator[tuple[str, Chart]]:
    names: set[str] = set()
    for card in cards_of(files, tasks):
        if card.predicted:
            name = f"task-{slug(card.id)}"
            name = f"{name}-{card.anchor}" if name in names else name
            names.add(name)
            yield name, task_picture(card)


def _draw_grid(axes: "Axes", grid: Grid, caption: str, colour: str) -> None:
    """Draw a grid in the official colours with its caption, framed in the caption's colour."""
    from matplotlib.colors import ListedColormap

    num_rows, num_columns = grid.shape
    axes.pcolormesh(
        grid, cmap=ListedColormap(PALETTE), vmin=-0.5, vmax=len(PALETTE) - 0.5,
        edgecolor="#666666", linewidth=LINE_WIDTH,
    )  # fmt: skip
    axes.set(xlim=(0, num_columns), ylim=(num_rows, 0), xticks=[], yticks=[], aspect="equal")
    axes.grid(visible=False)
    axes.set_title(caption, color=colour)
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1 if colour == INK else 2)
