"""What is printed: titled lines and tables; of a sweep a live one, then its results, also in sweep.csv."""

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table

from arc_experiments.config.plurals import plural
from arc_experiments.runs.folder import RunFolder, read_object
from arc_experiments.runs.run_state import DIED, DONE, FAILED, PAUSED, RUNNING, WAITING, RunState, duration

StateOf = Callable[[RunFolder], RunState]

TRAINING_LOSS = "training loss"
# The columns of the table of results: the key of each in metrics.json, and how its numbers are shown.
COLUMNS = {
    "validation loss per token": ("validation.loss.token_mean", "{:.4f}"),
    "pass@1": ("score.pass_at_1", "{:.1%}"),
    "pass@2": ("score.pass_at_2", "{:.1%}"),
    "pass@n": ("score.pass_at_n", "{:.1%}"),
    "seconds": ("seconds.total", "{:.1f}"),
}
SHOWN_FIRST = (RUNNING, FAILED, DIED, PAUSED, WAITING, DONE)  # if the terminal is too small for all jobs
STYLES = {RUNNING: "bold", FAILED: "red", DIED: "red", DONE: "green", WAITING: "dim", PAUSED: "yellow"}
REFRESHES_PER_SECOND = 2


def plain_table(*headings: str, **options: Any) -> Table:
    """Make a table of which nothing is lost in a narrow terminal: what is too long goes to the next line."""
    return Table(*(Column(heading, overflow="fold") for heading in headings), **options)


def show_line(console: Console, title: str, text: str, style: str = "bold") -> None:
    """Print a line that begins with a title; what looks like rich's markup in the text stays as it is."""
    console.print(f"[{style}]{title:13}[/]", end="")
    console.print(text, markup=False)


@contextlib.contextmanager
def live_table(
    folders: Sequence[RunFolder], state_of: StateOf, console: Console
) -> Iterator[Callable[[], None]]:
    """Show a table of the jobs and yield a function that updates it; outside a terminal show nothing."""
    if not console.is_terminal:
        yield lambda: None
        return

    def table() -> Group:
        states = {folder.path: state_of(folder) for folder in folders}
        return progress_table(states, max_rows=max(4, console.size.height - 8))

    with Live(table(), console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True) as live:
        yield lambda: live.update(table())


def progress_table(states: dict[Path, RunState], *, max_rows: int) -> Group:
    """Job, state, step of steps, training loss, time left, running jobs first; a line counts the states."""
    order = sorted(states, key=lambda path: SHOWN_FIRST.index(states[path].name))
    shown = set(order[:max_rows])
    table = plain_table("job", "state", "step", TRAINING_LOSS, "left", caption_justify="left")
    for path, state in states.items():
        if path in shown:
            table.add_row(path.name, f"[{STYLES[state.name]}]{state.name}", *progress_cells(state))
    counts = Counter(state.name for state in states.values())
    line = ", ".join(f"{counts[name]} {name}" for name in SHOWN_FIRST if counts[name])
    return Group(table, f"{plural(len(states), 'job')}: {line}")


def progress_cells(state: RunState) -> tuple[str, str, str]:
    """Step of steps, training loss, time left."""
    step = "" if state.step is None else f"{state.step}/{state.max_steps}"
    loss = "" if state.loss is None else f"{state.loss:.4f}"
    return step, loss, "" if state.seconds_left is None else duration(state.seconds_left)


def show_table(folders: Sequence[RunFolder], sweep_folder: Path, state_of: StateOf, console: Console) -> None:
    """Print the results of all jobs, write them to sweep.csv, and say which jobs are missing and why.

    Columns that no job fills are left out of what is printed.
    """
    results = [(folder, state_of(folder), *_results(folder)) for folder in folders]
    # Scores of a part must not look like scores of all tasks.
    parts = ["asked"] if any(asked for *_, asked in results) else []
    filled = [any(values[place] is not None for _, _, values, _ in results) for place in range(len(COLUMNS))]
    table = plain_table("job", "state", *compress(COLUMNS, filled), *parts)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["job", "state", *COLUMNS, "asked", "error", "folder"])
    missing = []
    for folder, state, values, asked in results:
        name = folder.path.name
        cells = [
            "" if value is None else shown.format(value)
            for value, (_, shown) in zip(values, COLUMNS.values(), strict=True)
        ]
        table.add_row(name, state.name, *compress(cells, filled), *([asked] if parts else []))
        rows.writerow([name, state.name, *values, asked, state.error, folder])
        if state.name != DONE:
            output = f"; see {folder}/output.log" if (folder / "output.log").exists() else ""
            missing.append(f"not finished: {name}: {state.text}{output}")
    console.print(table)
    for line in missing:
        console.print(line, markup=False)
    try:
        RunFolder(sweep_folder).write("sweep.csv", text.getvalue())
    except OSError as error:
        console.print(f"the table could not be written: {error}", markup=False)
    else:
        console.print(f"table: {RunFolder(sweep_folder)}/sweep.csv", markup=False)


def _results(folder: RunFolder) -> tuple[list[float | None], str]:
    """A value for each of `COLUMNS`, and `16 of 100 tasks` if not all were asked."""
    from arc_experiments.scoring.metrics import (  # loads numpy, which `status` does not need
        in_todays_terms,
        tasks_asked,
    )

    try:
        metrics = in_todays_terms(read_object(folder / "metrics.json"))
    except (OSError, ValueError):  # damaged
        metrics = {}
    return [number_at(metrics, key) for key, _ in COLUMNS.values()], tasks_asked(metrics).removesuffix(
        " asked"
    )


def number_at(metrics: object, dotted: str) -> float | None:
    """The number at a dotted key of metrics.json; None if there is none."""
    for key in dotted.split("."):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics if isinstance(metrics, int | float) else None
