"""One measurement in its own process: `python -m arc_experiments.benchmarking.measure <folder of the cell>`.

The folder holds run.yaml (what is measured, how long) and cell.json (by which module of this package, called
with which shape: `{"measure": "training", "shape": {"length": 512}}`); result.json joins them. So peak memory is
the cell's own, and running out of it ends the cell alone.
"""

import importlib
import logging
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from arc_experiments.benchmarking.plan import OUT_OF_MEMORY
from arc_experiments.config.check import check
from arc_experiments.config.schema import Config
from arc_experiments.run import Run
from arc_experiments.runs import machine as places
from arc_experiments.runs.environment import describe, make_repeatable, quieten_libraries
from arc_experiments.runs.folder import RunFolder


def main(folder: RunFolder, config: Config) -> None:
    """Measure and write the result; an error is a result, too."""
    logging.basicConfig(level=logging.INFO)
    try:
        quieten_libraries()
        run = Run(folder, config)
        make_repeatable(run.config.hardware)
        request = folder.read_json("cell.json")
        module = importlib.import_module(f"arc_experiments.benchmarking.{request['measure']}")
        result = module.measure(run, **request["shape"])
        result = result | _machine(run.device) | result  # some have threads of their own
    except Exception as error:
        logging.exception("the cell failed")
        RunFolder(folder.path).write_json("result.json", {"error": explain(error)})
        raise SystemExit(1) from error  # so that other processes of this cell are stopped
    folder.write_json("result.json", result)


def _machine(device: torch.device) -> dict[str, Any]:
    """The machine, and the threads of this cell beside it: several processes share its cores."""
    machine = describe(device)
    threads = machine.pop("threads")
    if device.type == "cpu":
        machine["device"] = "cpu"
    return {"threads": threads, "machine": machine}


def explain(error: BaseException) -> str:
    """The error in a line; every way of running out of memory in the same words."""
    text = str(error) or type(error).__name__
    # torch's CPU allocator raises a plain RuntimeError
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        return OUT_OF_MEMORY
    return text.splitlines()[0][:300]


def summary(name: str, values: Sequence[float]) -> dict[str, Any]:
    """`{name: median, name_range: [lowest, highest]}` of what the rounds gave."""
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _be_expendable(job_pid: int) -> None:
    """If memory runs out the system is to take this process, not the job; and it ends when the job, or its starter, does.

    The job's next attempt is not to share the machine with it.
    """
    Path("/proc/self/oom_score_adj").write_text("1000")
    places.die_with(job_pid)
    places.end_with_starter()


def _start(folder: RunFolder) -> None:
    """Run as the cell's process, or as one of several, which are shown theirs by what starts them."""
    config = check(folder.read_config())
    if "RANK" not in os.environ:
        places.show_gpus(config.hardware)
    main(folder, config)


if __name__ == "__main__":
    FOLDER = RunFolder(Path(sys.argv[1]), read_only=os.environ.get("RANK", "0") != "0")
    _be_expendable(FOLDER.read_json("cell.json")["job_pid"])
    _start(FOLDER)
