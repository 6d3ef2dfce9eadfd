"""One measurement in its own process: `python -m arc_experiments.benchmarking.cell <folder of the cell>`.

The folder holds run.yaml (what is measured) and cell.json (how: `{"measure": "training", "options": {...}}`);
result.json joins them. So peak memory is the cell's own, and running out of it ends the cell alone.
"""

import importlib
import logging
import os
import sys
import threading
import time
from pathlib import Path

import torch

from arc_experiments.environment import describe, make_repeatable, quieten_libraries
from arc_experiments.run import Run
from arc_experiments.run_folder import RunFolder

OUT_OF_MEMORY = "out of memory"


def main(folder: RunFolder) -> None:
    """Measure and write the result; an error is a result, too."""
    logging.basicConfig(level=logging.INFO)
    try:
        quieten_libraries()
        run = Run(folder)
        make_repeatable(run.config.hardware)
        request = folder.read_json("cell.json")
        module = importlib.import_module(f"arc_experiments.benchmarking.{request['measure']}")
        result = {**module.measure(run, **request["options"]), "machine": describe(run.device)}
    except Exception as error:
        logging.exception("the cell failed")
        RunFolder(folder.path).write_json("result.json", {"error": explain(error)})
        raise SystemExit(1) from error  # so that other processes of this cell are stopped
    folder.write_json("result.json", result)


def explain(error: Exception) -> str:
    """The error in a line; every way of running out of memory in the same words."""
    text = str(error) or type(error).__name__
    # torch's CPU allocator raises a plain RuntimeError
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        return OUT_OF_MEMORY
    return text.splitlines()[0][:300]


def _die_with(job_pid: int) -> None:
    """End when the job has been killed: its next attempt is not to share the machine with this one."""
    while Path(f"/proc/{job_pid}").exists():
        time.sleep(0.5)
    os._exit(1)


def _start(folder: RunFolder) -> None:
    """Run as the cell's process, or as one of several."""
    # If memory runs out, the system is to take this process, not the job.
    Path("/proc/self/oom_score_adj").write_text("1000")
    job_pid = folder.read_json("cell.json")["job_pid"]
    threading.Thread(target=_die_with, args=(job_pid,), daemon=True).start()
    main(folder)


if __name__ == "__main__":
    _start(RunFolder(Path(sys.argv[1]), read_only=os.environ.get("RANK", "0") != "0"))
