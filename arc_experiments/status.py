"""How far runs are: `python -m arc_experiments.status [<folders or globs>]`, on this machine and on SLURM.

A folder is a run's, a sweep's, or holds some of them. Imports no torch: it answers at once, also while they run.
"""

import argparse
import glob
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from arc_experiments.launching.cluster import JOBS_FILE
from arc_experiments.launching.tables import STYLES, progress_cells
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import DIED, FAILED, run_state

EVERYTHING = ("outputs/*", "multirun/*")
DEPTHS = ("run.yaml", "*/run.yaml", "*/*/run.yaml")  # of a run, a sweep, a folder of sweeps
SLURM_SECONDS = 5.0  # that squeue may take
EXIT_NONE = 2


def main(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.status", description="How far runs are, and what has become of them."
    )
    parser.add_argument(
        "folders",
        nargs="*",
        default=EVERYTHING,
        help="of runs or sweeps; globs; outputs/* and multirun/* if none",
    )
    asked = parser.parse_args(arguments).folders
    console = Console(soft_wrap=True, highlight=False)
    folders = find_runs(asked)
    if not folders:
        console.print(f"no runs in {' '.join(asked)} (a run's folder holds a run.yaml)", markup=False)
        return EXIT_NONE
    console.print(status_table(folders))
    return 0


def find_runs(patterns: Sequence[str]) -> list[RunFolder]:
    """The run folders that are meant, each once, in order."""
    found = {}
    for pattern in patterns:
        for path in sorted(map(Path, glob.glob(str(Path(pattern).expanduser())))) or [Path(pattern)]:
            for depth in DEPTHS:
                for file in sorted(path.glob(depth)):
                    found[file.parent.absolute()] = RunFolder(file.parent)
    return list(found.values())


def status_table(folders: Sequence[RunFolder]) -> Table:
    """Run, state, step of steps, loss, time left, its SLURM jobs if there are any, and where to read on."""
    jobs = {folder.path: slurm_jobs(folder) for folder in folders}
    in_queue = squeue(sorted({job for each in jobs.values() for job in each}))
    headings = ["run", "state", "step", "loss", "left", *(["SLURM"] if any(jobs.values()) else []), ""]
    table = Table(*headings)
    table.columns[0].overflow = "fold"  # a path is of use whole
    for folder in folders:
        state = run_state(folder.path)
        cells = [str(folder), f"[{STYLES[state.name]}]{state.name}", *progress_cells(state)]
        if "SLURM" in headings:
            cells.append(_in_queue(jobs[folder.path], in_queue))
        error = state.error.partition("\n")[0].replace("[", r"\[")
        table.add_row(*cells, f"{error} (see {_log(folder)})" if state.name in (FAILED, DIED) else "")
    return table


def _in_queue(jobs: Sequence[str], in_queue: dict[str, str]) -> str:
    """`123 RUNNING, 124_1 PENDING`; 124 stands for all elements of its array."""
    return ", ".join(
        f"{known} {state}"
        for known, state in in_queue.items()
        if any(known == job or known.startswith(f"{job}_") for job in jobs)
    )


def _log(folder: RunFolder) -> str:
    """The log that tells most: all that a job of a sweep has said, or what a single run has noted."""
    return "output.log" if (folder / "output.log").exists() else "run.log"


def slurm_jobs(folder: RunFolder) -> list[str]:
    """The SLURM jobs that were sent for this run, from its slurm.json: `{"jobs": ["123", "124_1"]}`."""
    try:
        return [str(job) for job in folder.read_json(JOBS_FILE)["jobs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def squeue(jobs: Sequence[str]) -> dict[str, str]:
    """The states of those jobs that SLURM still has: `{"123": "PENDING"}`; nothing without SLURM."""
    if not jobs:
        return {}
    command = ["squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SLURM_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
