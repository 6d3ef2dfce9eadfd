"""One measurement in its own process: `python -m arc_experiments.benchmarking.cell <folder of the cell>`.

The folder holds run.yaml (what is measured) and cell.json (how: `{"measure": "training", ...}`); result.json
joins them. So peak memory is the cell's own, and running out of it ends the cell alone.
"""

import importlib
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from arc_experiments.environment import describe, make_repeatable, quieten_libraries
from arc_experiments.run import Run
from arc_experiments.run_folder import RunFolder

OUT_OF_MEMORY = "out of memory"


def main(folder: RunFolder) -> None:
    """Measure and write the result; an error is a result, too."""
    request = folder.read_json("cell.json")
    logging.basicConfig(level=logging.INFO)
    try:
        quieten_libraries()
        run = Run(folder)
        make_repeatable(run.config.hardware)
        result = measure(run, request)
        result["machine"] = describe(run.device)
    except Exception as error:
        logging.exception("the cell failed")
        result = {"error": explain(error)}
    folder.write_json("result.json", result)


def measure(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    """What the module named by the request measures."""
    options = {name: value for name, value in request.items() if name != "measure"}
    module = importlib.import_module(f"arc_experiments.benchmarking.{request['measure']}")
    result: dict[str, Any] = module.measure(run, **options)
    return result


def explain(error: Exception) -> str:
    """The error in a line; every way of running out of memory in the same words."""
    text = str(error) or type(error).__name__
    # torch's CPU allocator raises a plain RuntimeError
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        return OUT_OF_MEMORY
    return text.splitlines()[0][:300]


def _die_with(parent: int) -> None:
    """End when the job has been killed: its next attempt is not to share the machine with this one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    # If memory runs out, the system is to take this process, not the job.
    Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    main(RunFolder(Path(sys.argv[1])))
