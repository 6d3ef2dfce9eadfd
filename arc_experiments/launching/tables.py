"""What a sweep shows: a live table while it runs, and a table of its results, which is also written."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import DIED, DONE, FAILED, PAUSED, RUNNING, WAITING, RunState, duration
from arc_experiments.scoring.metrics import in_todays_terms

StateOf = Callable[[RunFolder], RunState]

# What the table of results shows: heading and place in metrics.json.
COLUMNS = {
    "loss": ("validation", "loss", "token_mean"),
    "pass@1": ("score", "pass_at_1"),
    "pass@2": ("score", "pass_at_2"),
    "pass@n": ("score", "pass_at_n"),
    "seconds": ("seconds", "total"),
}
SHOWN_FIRST = (RUNNING, FAILED, DIED, PAUSED, WAITING, DONE)  # where not all jobs fit
STYLES = {RUNNING: "bold", FAILED: "red", DIED: "red", DONE: "green", WAITING: "dim", PAUSED: "yellow"}
REFRESHES_PER_SECOND = 2


@contextmanager
def live_table(
    folders: Sequence[RunFolder], state_of: StateOf, console: Console
) -> Iterator[Callable[[], None]]:
    """A table of the jobs in a terminal, brought up to date by what is yielded; elsewhere nothing."""
    if not console.is_terminal:
        yield lambda: None
        return
    done: dict[Path, RunState] = {}  # which need not be read again

    def table() -> Group:
        states = {folder.path: done.get(folder.path) or state_of(folder) for folder in folders}
        done.update({path: state for path, state in states.items() if state.name == DONE})
        return progress_table(states, max_rows=max(4, console.size.height - 8))

    with Live(table(), console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True) as live:
        yield lambda: live.update(table())


def progress_table(states: dict[Path, RunState], *, max_rows: int) -> Group:
    """Job, state, step of steps, loss and time left, with a line that counts them; those that run come first."""
    order = sorted(states, key=lambda path: SHOWN_FIRST.index(states[path].name))
    shown = set(order[:max_rows])
    table = Table("job", "state", "step", "loss", "left", caption_justify="left")
    for path, state in states.items():
        if path in shown:
            table.add_row(path.name, f"[{STYLES[state.name]}]{state.name}", *progress_cells(state))
    counts = Counter(state.name for state in states.values())
    line = ", ".join(f"{counts[name]} {name}" for name in SHOWN_FIRST if counts[name])
    return Group(table, f"{len(states)} jobs: {line}")


def progress_cells(state: RunState) -> tuple[str, str, str]:
    """Step of steps, loss, time left."""
    step = "" if state.step is None else f"{state.step}/{state.max_steps}"
    loss = "" if state.loss is None else f"{state.loss:.4f}"
    return step, loss, "" if state.seconds_left is None else duration(state.seconds_left)


def show_table(folders: Sequence[RunFolder], sweep_folder: Path, state_of: StateOf, console: Console) -> None:
    """Show the results of all jobs, write them to sweep.csv, and say which are missing and why."""
    table = Table("job", "state", *COLUMNS)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["job", "state", *COLUMNS, "error", "folder"])
    for folder in folders:
        values, state = _row(folder), state_of(folder)
        shown = ["" if value is None else f"{value:.4g}" for value in values]
        table.add_row(folder.path.name, state.name, *shown)
        plain = ["" if value is None else value for value in values]
        rows.writerow([folder.path.name, state.name, *plain, state.error, folder])
    console.print(table)
    for folder in folders:
        state = state_of(folder)
        if state.name != DONE:
            console.print(
                f"not finished: {folder.path.name}: {state.text}; see {folder}/output.log", markup=False
            )
    try:
        RunFolder(sweep_folder).write("sweep.csv", text.getvalue())
    except OSError as error:
        console.print(f"the table could not be written: {error}", markup=False)
    else:
        console.print(f"table: {RunFolder(sweep_folder)}/sweep.csv", markup=False)


def _row(folder: RunFolder) -> list[float | None]:
    try:
        metrics = in_todays_terms(folder.read_json("metrics.json"))
    except (OSError, ValueError):  # it is not there, or not ours
        metrics = {}
    return [number_at(metrics, place) for place in COLUMNS.values()]


def number_at(metrics: object, place: Sequence[str]) -> float | None:
    """The number at a place in metrics.json; None where there is none."""
    for key in place:
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics if isinstance(metrics, int | float) else None
