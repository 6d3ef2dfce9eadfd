"""`python -m arc_experiments.report <run folder> ...` makes the page of finished runs again."""

import argparse
import sys
from pathlib import Path

from arc_experiments.report.page import write_report


def main(arguments: list[str] | None = None) -> int:
    """Write the report of every folder named; returns the exit code (2: a mistake of the user)."""
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.report", description="Write report.html."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="folder", help="a run folder")
    folders: list[Path] = parser.parse_args(arguments).folders
    for folder in folders:
        try:
            if not folder.is_dir():
                raise ValueError("there is no such folder; name one that a run has written")
            # Here, because the run object stands over all stages.
            from arc_experiments.run import load_run

            print(write_report(folder, load_run(folder).predicted_tasks()))  # noqa: T201 (this is a command)
        except (ValueError, FileNotFoundError) as error:
            print(f"{folder}: {error}", file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
