"""The list of runs on the terminal, in 80 columns or more."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from arc_experiments.launching.tables import STYLES, progress_cells
from arc_experiments.overview.listed import ListedRun
from arc_experiments.report.wording import duration
from arc_experiments.runs.run_state import DONE


def runs_table(runs: Sequence[ListedRun]) -> Table:
    """Date, name with folder, options and note, state, loss, pass@2 with its interval, time of each run."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("date", width=10)
    table.add_column("run", ratio=1, overflow="fold")
    table.add_column("state", width=9, overflow="fold")
    table.add_column("loss", width=6)
    table.add_column("pass@2", width=11)
    table.add_column("time", width=11)
    for run in runs:
        time = "" if run.seconds is None else duration(run.seconds)
        table.add_row(
            f"{run.date:%Y-%m-%d}\n{run.date:%H:%M}", _named(run), _state(run),
            "" if run.loss is None else f"{run.loss:.4f}",
            _lines((run.score, ""), (run.interval, "dim"), (run.asked, "dim")), time,
        )  # fmt: skip
    return table


def _named(run: ListedRun) -> Text:
    return _lines(
        (run.labels.name, "bold"),
        (str(run.folder), ""),
        (" ".join(run.options), "cyan"),
        (run.labels.note, "italic"),
        *((problem, "red") for problem in run.problems),
        (run.state.headline, "red"),
    )


def _state(run: ListedRun) -> Text:
    step, _, left = progress_cells(run.state)
    progress = "" if run.state.name == DONE else step
    return _lines(
        (run.state.name, STYLES[run.state.name]), (progress, ""), (f"{left} left" if left else "", "")
    )


def _lines(*parts: tuple[str, str]) -> Text:
    """The parts that say something, each on lines of its own in its style."""
    return Text("\n").join(Text(text, style) for text, style in parts if text)
