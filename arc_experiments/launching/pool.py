"""A sweep's jobs, each in a process of its own, some of them at a time."""

import csv
import io
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from rich.console import Console
from rich.table import Table

from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.run_folder import RunFolder
from arc_experiments.worker import STOPPED, TAKEN

# What a sweep's table shows: heading and place in metrics.json.
COLUMNS = {
    "loss": ("validation", "loss", "token_mean"),
    "pass@1": ("score", "pass_at_1"),
    "pass@2": ("score", "pass_at_2"),
    "pass@n": ("score", "pass_at_n"),
    "seconds": ("seconds", "total"),
}


def run_sweep(
    folders: Sequence[RunFolder], sweep_folder: Path, *, max_parallel: int, console: Console
) -> int:
    """Run each unfinished job in a process of its own; write and show the table; exit code 1 if any failed."""
    waiting = [folder for folder in folders if not folder.is_done]
    finished = len(folders) - len(waiting)
    console.print(
        f"{len(folders)} jobs, {finished} finished already, {max_parallel} at a time: {sweep_folder}"
    )

    free: SimpleQueue[int] = SimpleQueue()
    for place in range(max_parallel):
        free.put(place)
    running: set[subprocess.Popen[bytes]] = set()

    def work(folder: RunFolder) -> None:
        start, place = time.monotonic(), free.get()
        console.print(f"  {folder.path.name}: started, its output goes to {folder}/output.log")
        with (folder / "output.log").open("ab") as output:
            worker = subprocess.Popen(
                worker_command(folder),
                env=worker_environment(place=place, num_places=min(max_parallel, len(waiting))),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            running.add(worker)
            code = worker.wait()
            running.discard(worker)
        free.put(place)
        if not folder.is_done:
            _note_death(folder, code)
        console.print(f"  {folder.path.name}: {_state(folder)} after {time.monotonic() - start:.0f} s")

    def stop(number: int, frame: FrameType | None) -> None:
        for worker in list(running):
            worker.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    pool = ThreadPoolExecutor(max_parallel)
    try:
        list(pool.map(work, waiting))
    except KeyboardInterrupt:
        # The terminal, or `stop`, has told the running jobs, too: they stop and keep their place.
        console.print("Stopping. The same command goes on from here.")
        pool.shutdown(cancel_futures=True)
        return STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
        _write_table(folders, sweep_folder, console)
    return 0 if all(folder.is_done for folder in folders) else 1


def _note_death(folder: RunFolder, code: int) -> None:
    """A worker that could not say how it ended (killed, out of memory) is entered as failed."""
    if code == TAKEN:  # the status is that of another process, which works on the folder
        return
    if folder.status.get("state", "running") == "running":
        reason = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        folder.end("failed", reason)


def _state(folder: RunFolder) -> str:
    status = folder.status
    error = str(status.get("error") or "").splitlines()
    return f"{status.get('state', 'waiting')}{f' ({error[0]})' if error else ''}"


def _write_table(folders: Sequence[RunFolder], sweep_folder: Path, console: Console) -> None:
    table = Table("job", "state", *COLUMNS)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["job", "state", *COLUMNS, "error", "folder"])
    for folder in folders:
        values = _row(folder)
        state = str(folder.status.get("state", "waiting"))
        shown = ["" if value is None else f"{value:.4g}" for value in values]
        table.add_row(folder.path.name, state, *shown)
        plain = ["" if value is None else value for value in values]
        rows.writerow([folder.path.name, state, *plain, folder.status.get("error") or "", folder])
    RunFolder(sweep_folder).write("sweep.csv", text.getvalue())
    console.print(table)
    for folder in folders:
        if not folder.is_done:
            console.print(f"not finished: {folder.path.name}: {_state(folder)}; see {folder}/output.log")
    console.print(f"table: {RunFolder(sweep_folder)}/sweep.csv")


def _row(folder: RunFolder) -> list[float | None]:
    if not (folder / "metrics.json").exists():
        return [None] * len(COLUMNS)
    metrics = folder.read_json("metrics.json")
    values = []
    for place in COLUMNS.values():
        value = metrics
        for key in place:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        values.append(value if isinstance(value, int | float) else None)
    return values
