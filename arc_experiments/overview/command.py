"""Show all runs: `python -m arc_experiments.runs [<folders or globs>]`.

Prints a table and writes a page with search, sorting and comparison of two runs.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from arc_experiments.overview.listed import ListedRun, list_runs
from arc_experiments.overview.page import render
from arc_experiments.overview.table import runs_table
from arc_experiments.report.templates import write_page
from arc_experiments.runs.folder import EVERYTHING
from arc_experiments.runs.run_state import RUNNING

EXIT_MISTAKE, EXIT_STOPPED = 2, 130
WATCH_SECONDS = 5
PATIENCE_SECONDS = 60.0  # in which a run, or the next job of a sweep, may start


def main(arguments: Sequence[str]) -> int:
    """Print the table and write the page; returns the exit code (2: a mistake of the user)."""
    options = _options(arguments)
    console = Console(highlight=False)
    page: Path = options.page
    if options.watch is not None and options.watch < 1:
        return _refuse(console, f"--watch {options.watch}: name a whole number of seconds, at least 1")
    if not page.parent.is_dir():
        return _refuse(console, f"--page {page}: there is no folder {page.parent}; make it first")
    runs = list_runs(options.folders)
    if not runs:
        return _refuse(console, f"no runs in {' '.join(options.folders)} (a run's folder holds a run.yaml)")
    code = 0
    if options.watch is not None:
        try:
            _watch(options.folders, page, options.watch, console)
        except KeyboardInterrupt:
            code = EXIT_STOPPED
        runs = list_runs(options.folders)
    write_page(page, render(runs, page.parent))
    console.print(runs_table(runs))
    console.print(f"page: {page}", markup=False, soft_wrap=True)
    return code


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.runs",
        description="Show all runs in a table and on a page with search, sorting and comparison of two.",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        default=EVERYTHING,
        help="folders of runs or sweeps, or globs (default: outputs/* and multirun/*)",
    )
    parser.add_argument(
        "--page", type=Path, default=Path("runs.html"), metavar="FILE", help="the page (default: %(default)s)"
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=int,
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"write it anew every few seconds ({WATCH_SECONDS}) while runs go on; the page refreshes itself",
    )
    return parser.parse_args(arguments)


def _watch(folders: Sequence[str], page: Path, seconds: int, console: Console) -> None:
    """Write the page and show the table again and again as long as runs go on."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for runs in _looks(folders, seconds):
            write_page(page, render(runs, page.parent, refresh_seconds=seconds))
            live.update(runs_table(runs), refresh=console.is_terminal)


def _looks(folders: Sequence[str], seconds: int) -> Iterator[list[ListedRun]]:
    """Read all runs every few seconds, until none has run for a while."""
    last = time.monotonic()
    while True:
        runs = list_runs(folders)
        if any(run.state.name == RUNNING for run in runs):
            last = time.monotonic()
        elif time.monotonic() - last > PATIENCE_SECONDS:
            return
        yield runs
        time.sleep(seconds)


def _refuse(console: Console, message: str) -> int:
    console.print(message, markup=False, soft_wrap=True)
    return EXIT_MISTAKE
