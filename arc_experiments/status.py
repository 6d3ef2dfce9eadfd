"""Show how far runs are, here and on a cluster: `python -m arc_experiments.status [<folders or globs>]`.

A folder is a run's, a sweep's, or holds some of these. Imports no torch, so it answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from textwrap import shorten

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from arc_experiments.launching.schedulers.known import queued
from arc_experiments.launching.tables import STYLES, TRAINING_LOSS, plain_table, progress_cells
from arc_experiments.runs.folder import EVERYTHING, RunFolder, find_runs
from arc_experiments.runs.labels import read_labels
from arc_experiments.runs.run_state import DIED, FAILED

QUEUE_SECONDS = 5.0  # for which a scheduler may think about what is in its queue
LONGEST_ERROR = 100  # characters of its first line; its log has all
QUEUE = "in the queue"
EXIT_NONE = 2


def main(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.status", description="Show how far runs are, and how they ended."
    )
    parser.add_argument(
        "folders",
        nargs="*",
        default=EVERYTHING,
        help="folders of runs or sweeps, or globs (default: outputs/* and multirun/*)",
    )
    asked = parser.parse_args(arguments).folders
    console = Console(soft_wrap=True, highlight=False)
    folders = find_runs(asked)
    if not folders:
        console.print(f"no runs in {' '.join(asked)} (a run's folder holds a run.yaml)", markup=False)
        return EXIT_NONE
    console.print(status_table(folders))
    return 0


def status_table(folders: Sequence[RunFolder]) -> Table:
    """Run with why it failed, state, step of steps, training loss, time left, jobs of a cluster if any.

    A folder's name is never broken, so that it can be copied; a narrow terminal is exceeded for it.
    """
    queues = [str(queue) for queue in queued(folders, QUEUE_SECONDS)]
    headings = [
        "run",
        "state",
        "step",
        TRAINING_LOSS.replace(" ", "\n"),
        "left",
        *([QUEUE] if any(queues) else []),
    ]
    table = plain_table(*headings)
    table.columns[0].min_width = max(len(str(folder)) for folder in folders)
    for folder, queue in zip(folders, queues, strict=True):
        state = folder.state
        resumed = f", start {state.attempt}" if state.attempt > 1 else ""
        labels = read_labels(folder.path)
        lines = [Text(line) for line in (str(folder), labels.name, labels.note) if line]
        if state.name in (FAILED, DIED):
            error = shorten(state.headline, LONGEST_ERROR, placeholder=" ...")
            lines.append(Text(f"{error} (see {_log(folder)})", STYLES[state.name]))
        cells = [f"[{STYLES[state.name]}]{state.name}[/]{resumed}", *progress_cells(state)]
        if QUEUE in headings:
            cells.append(escape(queue))
        table.add_row(Text("\n").join(lines), *cells)
    return table


def _log(folder: RunFolder) -> str:
    """The log that says most: all output of a sweep's job, or the notes of a single run."""
    return "output.log" if (folder / "output.log").exists() else "run.log"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
