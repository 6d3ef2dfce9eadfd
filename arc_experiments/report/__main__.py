"""`python -m arc_experiments.report <run folder> ...` makes the page of finished runs again.

With `--against <run folder>` each run gets a page beside it that compares it with that one, task by task;
with `--figures <folder>` its charts and its answered tasks become files there, for a paper.
"""

import argparse
import sys
from pathlib import Path

from arc_experiments.report.figures import write_figures
from arc_experiments.report.page import write_report
from arc_experiments.report.versus import write_versus
from arc_experiments.report.wording import plural
from arc_experiments.tasks.task import TaskSet


def main(arguments: list[str] | None = None) -> int:
    """Write the report of every folder named; returns the exit code (2: a mistake of the user)."""
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.report",
        description="Write report.html, a page that compares two runs task by task, or figures for a paper.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="folder", help="a run folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="write the charts and a picture of each answered task there, as SVG, PDF and PNG",
    )
    what.add_argument(
        "--against",
        type=Path,
        metavar="FOLDER",
        help="compare with the run in FOLDER: what was won and lost from there (against-<its name>.html)",
    )
    options = parser.parse_args(arguments)
    for folder in options.folders:
        try:
            if options.figures is None:
                print(_write(folder, options.against))  # noqa: T201 (this is a command)
                continue
            place = options.figures if len(options.folders) == 1 else options.figures / folder.resolve().name
            written = write_figures(folder, _tasks(folder), place)
            print(f"{place}: {plural(len(written), 'file')}")  # noqa: T201
        except (ValueError, FileNotFoundError) as error:
            print(f"{folder}: {error}", file=sys.stderr)  # noqa: T201
            return 2
    return 0


def _write(folder: Path, against: Path | None) -> Path:
    tasks = _tasks(folder)
    if against is None:
        return write_report(folder, tasks)
    return write_versus(folder, tasks, against, _tasks(against))


def _tasks(folder: Path) -> TaskSet:
    """The tasks a run was asked."""
    if not folder.is_dir():
        raise ValueError("there is no such folder; name one that a run wrote")
    # Here, because it needs all rooms below and slows the start.
    from arc_experiments.run import load_run

    return load_run(folder).predicted_tasks()


if __name__ == "__main__":
    sys.exit(main())
