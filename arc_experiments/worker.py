"""Runs, or goes on with, a frozen run folder: `python -m arc_experiments.worker <run folder>`.

The one place that turns how a job ended into a status, an exit code and a message:
0 done, 1 failed, 2 a mistake of the user, 3 another process has the folder, 130 stopped (to be gone on with).
"""

import importlib
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType

from rich.console import Console

from arc_experiments.checking import check
from arc_experiments.config import Hardware
from arc_experiments.places import own_gpu
from arc_experiments.run_folder import FolderError, FolderTaken, RunFolder

DONE, FAILED, MISTAKE, TAKEN, STOPPED = 0, 1, 2, 3, 130

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
    try:
        folder.read_config()
        with folder.worked_on():
            return _work(folder, console)
    except FolderError as error:
        console.print(str(error), markup=False)
        return TAKEN if isinstance(error, FolderTaken) else MISTAKE


def _work(folder: RunFolder, console: Console) -> int:
    """Run the job; every end of it is entered in the status."""
    _quieten(folder)
    signal.signal(signal.SIGTERM, _stop)
    try:
        _run_job(folder, console)
    except KeyboardInterrupt:
        if folder.status.get("state") != "failed":  # another process's failure stopped this one
            folder.end("paused")
        console.print(f"Stopped. The same command goes on from the last checkpoint: {folder}")
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
        show_gpus(config.hardware)
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    job = importlib.import_module(f"arc_experiments.jobs.{config.job.name}")
    log.info("the job is imported")
    job.main(folder, console)


def show_gpus(hardware: Hardware) -> None:
    """Let CUDA see the GPUs named, else all of several processes or of a split model, else this job's own."""
    if hardware.gpu_ids is not None:
        visible = ",".join(map(str, hardware.gpu_ids))
    elif hardware.num_processes != 1 or hardware.parallelism == "split" or "RANK" in os.environ:
        return
    else:
        visible = own_gpu()
    os.environ["CUDA_VISIBLE_DEVICES"] = visible


def _fail(folder: RunFolder, console: Console, message: str, code: int) -> int:
    log.error("%s", traceback.format_exc())
    if folder.status.get("state") == "failed":  # another process's failure, which brings this one down, too
        return code
    if folder.read_only:  # not the first of several processes, which writes and talks otherwise
        folder, console = RunFolder(folder.path), Console(soft_wrap=True, highlight=False)
        message = f"process {os.environ['RANK']}: {message}"
    folder.end("failed", message)
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


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
