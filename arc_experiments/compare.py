"""`python -m arc_experiments.compare <folders or patterns>`: which config is better, and can these runs tell?

Groups finished runs of the same config over seeds and partitions, and compares every group with a baseline on
the same tasks.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from arc_experiments.comparison.formats import csv_text, latex, markdown, show
from arc_experiments.comparison.page import charts_of, render
from arc_experiments.comparison.result import ComparedRuns, compare
from arc_experiments.comparison.runs import find_folders, read_result
from arc_experiments.report.figures import write_charts
from arc_experiments.report.templates import write_page
from arc_experiments.report.wording import plural


def main(arguments: list[str] | None = None) -> int:
    """Show the comparison and write the files asked for; returns the exit code (2: a mistake of the user)."""
    options = _options(arguments)
    try:
        found = compare(
            [read_result(folder) for folder in find_folders(options.folders)],
            metric=options.metric,
            baseline=options.baseline,
            anyway=options.anyway,
            by_seed=options.by_seed,
        )
        show(found, Console(soft_wrap=False, highlight=False))
        for path, text in (
            (options.markdown, markdown),
            (options.csv, csv_text),
            (options.latex, latex),
            (options.html, render),
        ):
            _write(path, text, found)
        if options.figures is not None:
            written = write_charts(charts_of(found), options.figures)
            print(f"{options.figures}: {plural(len(written), 'file')}")  # noqa: T201
    except (ValueError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)  # noqa: T201 (this is a command)
        return 2
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m arc_experiments.compare", description=__doc__)
    parser.add_argument(
        "folders", nargs="+", help="run folders, folders that hold some (a sweep's), or patterns of them"
    )
    parser.add_argument(
        "--metric", default="score.pass_at_2", help="a number of metrics.json (default: %(default)s)"
    )
    parser.add_argument(
        "--baseline",
        metavar="KEY=VALUE",
        help="the group to compare the others with; the first, if left out",
    )
    parser.add_argument(
        "--by-seed",
        action="store_true",
        help="pair runs of the same seeds, which share their samples",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="compare runs whose tasks, metrics or leak settings differ, and say so",
    )
    for name in ("html", "markdown", "csv", "latex"):
        parser.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"write the comparison as {name} there"
        )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write the charts there, as SVG, PDF and PNG"
    )
    return parser.parse_args(arguments)


def _write(path: Path | None, text: Callable[[ComparedRuns], str], found: ComparedRuns) -> None:
    if path is not None:
        print(write_page(path, text(found)))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
