"""Runs, or goes on with, a frozen run folder: `python -m arc_experiments.launching.worker <run folder>`.

A folder that another process works on is refused, but for jobs whose work is shared out: there this one helps.

The one place that turns how a job ended into a status, an exit code and a message:
0 done, 1 failed, 2 a mistake of the user, 3 another process has the folder, 130 stopped (to be gone on with).
"""

import importlib
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

from rich.console import Console

from arc_experiments.config.check import check
from arc_experiments.runs import machine as places
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import FolderError, FolderTaken, RunFolder

DONE, FAILED, MISTAKE, TAKEN, STOPPED = 0, 1, 2, 3, 130

LOOK_SECONDS = 1.0  # how often a process that waits for another looks whether it still has to
SHARED_JOBS = ("adapt",)  # several workers may be at one folder, the first of which holds it

ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_SILENT": "true",
    "WANDB_LOG_MODEL": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # repeatable matrix products on GPUs
    "FLASH_ATTENTION_DETERMINISTIC": "1",  # and gradients of flash attention
}

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run the folder named, alone or as one of several processes; returns the exit code."""
    is_main = os.environ.get("RANK", "0") == "0"
    console = Console(soft_wrap=True, highlight=False, quiet=not is_main)
    folder = RunFolder(Path(arguments[0]), read_only=not is_main)
    places.end_with_starter()
    try:
        is_shared = folder.read_config().job.name in SHARED_JOBS
        while True:
            try:
                with folder.worked_on():
                    return _work(folder, console)
            except FolderTaken:
                if not is_shared:
                    raise
            code = _help(folder, console)
            if code != DONE or folder.is_done or places.HELPS in os.environ:
                return code  # else the process that held it has died: on with what is left to do
    except FolderError as error:
        console.print(str(error), markup=False)
        return TAKEN if isinstance(error, FolderTaken) else MISTAKE


def _help(folder: RunFolder, console: Console) -> int:
    """Work on a folder that another process holds, until there is nothing left to do or that one is gone."""
    helper = RunFolder(folder.path, read_only=True)
    console.print(f"Helping process {folder.status.get('pid')}, which has {folder}.")
    code = _work(helper, console)
    try:
        while code == DONE and not folder.is_done and places.HELPS not in os.environ:
            with folder.locked() as is_free:
                if is_free:
                    break
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return STOPPED
    return code


def _work(folder: RunFolder, console: Console) -> int:
    """Run the job; every end of it is entered in the status."""
    _quieten(folder)
    pausing.watch_signals()
    try:
        _run_job(folder, console)
    except KeyboardInterrupt as interrupt:
        if folder.status.get("state") != "failed":  # another process's failure stopped this one
            folder.update_status(signalled=pausing.is_signalled())
            folder.end("paused")
        how = str(interrupt) or "Stopped. The same command goes on from the last checkpoint"
        console.print(f"{how}: {folder}", markup=False)
        return STOPPED
    except ValueError as error:
        return _fail(folder, console, str(error), MISTAKE)
    except Exception as error:  # noqa: BLE001 (every end is entered in the status)
        return _fail(folder, console, f"{type(error).__name__}: {error}", FAILED)
    folder.end("done")
    return DONE


def _run_job(folder: RunFolder, console: Console) -> None:
    config = check(folder.read_config())
    if config.job.name != "benchmark":  # which measures in processes of its own, each with its own GPUs
        places.show_gpus(config.hardware)
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    job = importlib.import_module(f"arc_experiments.jobs.{config.job.name}")
    log.info("the job is imported")
    job.main(folder, console)


def _fail(folder: RunFolder, console: Console, message: str, code: int) -> int:
    log.error("%s", traceback.format_exc())
    if folder.status.get("state") == "failed":  # another process's failure, which brings this one down, too
        return code
    if "RANK" in os.environ and folder.read_only:  # not the first, which writes and talks otherwise
        folder, console = RunFolder(folder.path), Console(soft_wrap=True, highlight=False)
        message = f"process {os.environ['RANK']}: {message}"
    folder.end("failed", message)  # a helper's end is not the folder's: nothing is written then
    console.print("[bold red]Failed:[/] ", end="")
    console.print(message, markup=False)
    console.print(f"Details: {folder}/run.log")
    return code


def _quieten(folder: RunFolder) -> None:
    """What libraries log and warn goes to run.log; the terminal is the job's."""
    logging.basicConfig(
        filename=folder / "run.log",
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.captureWarnings(True)
    warnings.simplefilter("default")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
