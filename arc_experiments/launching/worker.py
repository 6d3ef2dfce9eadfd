"""Run or resume a frozen run folder: `python -m arc_experiments.launching.worker <run folder>`.

A folder that another process works on is refused, unless its job shares its work: then this process helps.

The one place that turns how a job ended into a status, an exit code and a message:
0 done, 1 failed, 2 a mistake of the user, 3 another process has the folder, 130 stopped (to be resumed).
"""

import importlib
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from arc_experiments.composing.freezing import check_code
from arc_experiments.composing.recorded_code import find_code
from arc_experiments.config.check import check
from arc_experiments.config.job_kinds import job_kind
from arc_experiments.config.schema import Config
from arc_experiments.config.user_code.files import code_files, error_in
from arc_experiments.launching.lasting_output import lasting_console
from arc_experiments.launching.quick_imports import quick_imports
from arc_experiments.launching.tables import show_line
from arc_experiments.runs import cores_and_gpus, pausing
from arc_experiments.runs.folder import FolderError, FolderTaken, RunFolder

DONE, FAILED, MISTAKE, TAKEN, STOPPED = 0, 1, 2, 3, 130

LOOK_SECONDS = 1.0  # between two looks at the folder that another process holds

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
    console = lasting_console(quiet=not is_main)
    folder = RunFolder(Path(arguments[0]), read_only=not is_main)
    cores_and_gpus.end_with_starter()
    try:
        node = folder.read_config()
        while True:
            try:
                with folder.worked_on():
                    _show_labels(node, console)
                    return _work(folder, node, console)
            except FolderTaken:
                if not job_kind(node.job.name).shares_folder:
                    raise
            code = _help(folder, node, console)
            if code != DONE or folder.is_done or cores_and_gpus.HELPS in os.environ:
                return code  # else the process that held it has died: do what is left
    except FolderError as error:
        console.print(str(error), markup=False)
        return TAKEN if isinstance(error, FolderTaken) else MISTAKE


def _show_labels(node: DictConfig, console: Console) -> None:
    """Show at once what the run is called, and the note on it."""
    for key in ("name", "note"):
        if node[key]:
            show_line(console, key, node[key])


def _help(folder: RunFolder, node: DictConfig, console: Console) -> int:
    """Work on a folder that another process holds, until nothing is left to do or that process is gone."""
    helper = RunFolder(folder.path, read_only=True)
    console.print(f"Helping process {folder.status.get('pid')}, which has {folder}.", markup=False)
    code = _work(helper, node, console)
    try:
        while code == DONE and not folder.is_done and cores_and_gpus.HELPS not in os.environ:
            with folder.locked() as is_free:
                if is_free:
                    break
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return STOPPED
    return code


def _work(folder: RunFolder, node: DictConfig, console: Console) -> int:
    """Run the job; record in the status how it ended."""
    _log_to_file(folder)
    pausing.watch_signals()
    try:
        find_code(folder.path)
    except FolderError as error:
        return _fail(folder, console, str(error), MISTAKE)
    try:
        check_code(folder, node)
        _run_job(folder, check(node), console)
    except KeyboardInterrupt as interrupt:
        if folder.status.get("state") != "failed":  # another process's failure stopped this one
            folder.update_status(signalled=pausing.is_signalled())
            folder.end("paused")
        how = str(interrupt) or "Stopped. The same command goes on from what is saved"
        console.print(f"{how}: {folder}", markup=False)
        return STOPPED
    except Exception as error:  # noqa: BLE001 (every end is recorded in the status)
        theirs = error_in(code_files(node), error)
        if theirs is not None or isinstance(error, ValueError):
            return _fail(folder, console, theirs or str(error), MISTAKE)
        return _fail(folder, console, f"{type(error).__name__}: {error}", FAILED)
    folder.end("done")
    return DONE


def _run_job(folder: RunFolder, config: Config, console: Console) -> None:
    if job_kind(config.job.name).assigns_gpus:
        cores_and_gpus.show_gpus(config.hardware)
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    with quick_imports(config):  # now, since libraries read the environment when they are imported
        from arc_experiments.run import Run

        job = importlib.import_module(f"arc_experiments.jobs.{config.job.name}")
    job.main(Run(folder, config), console)


def _fail(folder: RunFolder, console: Console, message: str, code: int) -> int:
    log.error("%s", traceback.format_exc())
    if folder.status.get("state") == "failed":  # another process's failure, which brings this one down, too
        return code
    if "RANK" in os.environ and folder.read_only:  # not the first, which writes and talks otherwise
        folder, console = RunFolder(folder.path), lasting_console()
        message = f"process {os.environ['RANK']}: {message}"
    folder.end("failed", message)  # a helper's end is not the folder's: nothing is written then
    console.print("[bold red]Failed:[/] ", end="")
    console.print(message, markup=False)
    console.print(f"Details: {folder}/run.log", markup=False)
    return code


def _log_to_file(folder: RunFolder) -> None:
    """Send what libraries log and warn to run.log; the terminal is the job's."""
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
