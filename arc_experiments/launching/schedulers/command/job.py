"""One job that `launch.command` submitted.

    python -m arc_experiments.launching.schedulers.command.job <run folder> <number> [<seconds>]

`number` is the job's place in the run's chain, from 1. After so many seconds the run is asked to pause,
since a time limit is near. Exit codes: 0 the run is done, 75 it is unfinished and another job would resume
it, 1 it has failed for good.
"""

import contextlib
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.schedulers import templates
from arc_experiments.launching.schedulers.command.queue_record import Submitted
from arc_experiments.launching.schedulers.job import run_job, wait_for
from arc_experiments.launching.schedulers.scheduler import ClusterError
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import FolderError, RunFolder

UNFINISHED = 75  # what sysexits.h calls a temporary failure


def main(arguments: list[str]) -> int:
    """Run or resume the folder; returns the exit code."""
    folder, number = RunFolder(Path(arguments[0])), int(arguments[1])
    if len(arguments) > 2:
        timer = threading.Timer(float(arguments[2]), pausing.ask, [folder.path])
        timer.daemon = True
        timer.start()
    environment = worker_environment() | {"PYTHONUNBUFFERED": "1"}
    next_starts = run_job(
        folder,
        lambda: wait_for(subprocess.Popen(worker_command(folder), env=environment)),
        lambda: _cancel_rest(folder, number),
    )
    if folder.is_done:
        return 0
    return UNFINISHED if next_starts else 1


def _cancel_rest(folder: RunFolder, number: int) -> None:
    """Cancel the run's jobs after this one; a job that stays all the same ends as soon as it begins."""
    try:
        record = Submitted.read(folder)
    except FolderError:  # removed, or another program's
        return
    rest = record.jobs[number:]
    if not rest:
        return
    replace(record, jobs=record.jobs[:number]).write(folder)
    for job in rest if record.cancel else ():
        with contextlib.suppress(ClusterError, OSError):  # there may be no such command on this machine
            words = templates.render_command("launch.command.cancel", record.cancel or "", {"job": job})
            subprocess.run(words, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
