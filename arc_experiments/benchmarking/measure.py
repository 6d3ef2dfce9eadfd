"""Make one measurement: `python -m arc_experiments.benchmarking.measure <folder of the cell>`.

The folder holds run.yaml (what is measured, and for how long) and cell.json (which part, with which
arguments: `{"measure": "training", "shape": {"length": 512}}`); result.json joins them. The peak memory is
therefore the cell's own, and running out of memory ends this cell alone.
"""

import importlib
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from arc_experiments.benchmarking.plan import OUT_OF_MEMORY
from arc_experiments.config.check import check
from arc_experiments.config.schema import Config
from arc_experiments.run import Run
from arc_experiments.runs import cores_and_gpus
from arc_experiments.runs.environment import describe, make_repeatable, quieten_libraries
from arc_experiments.runs.folder import RunFolder

# Part of benchmark.json -> the module of this package with its function measure_<part>.
MODULES = {
    "stream": "samples", "loading": "samples", "training": "training", "generation": "answers",
    "scoring": "answers",
}  # fmt: skip
Way = tuple[str, Callable[[int], float]]  # the name of its speed, and what measures that in a given round


def main(folder: RunFolder, config: Config) -> None:
    """Measure and write the result; an error is a result, too."""
    logging.basicConfig(level=logging.INFO)
    try:
        quieten_libraries()
        run = Run(folder, config)
        make_repeatable(run.config.hardware)
        request = folder.read_json("cell.json")
        part = request["measure"]
        module = importlib.import_module(f"arc_experiments.benchmarking.{MODULES[part]}")
        result = getattr(module, f"measure_{part}")(run, **request["shape"])
        result = result | _machine(run.device) | result  # some have threads of their own
    except Exception as error:
        logging.exception("the cell failed")
        RunFolder(folder.path).write_json("result.json", {"error": explain(error)})
        raise SystemExit(1) from error  # stops the other processes of this cell
    folder.write_json("result.json", result)


def _machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine, and beside it the threads of this cell: several processes share its cores."""
    machine = describe(device)
    threads = machine.pop("threads")
    if device.type == "cpu":
        machine["device"] = "cpu"
    return {"threads": threads, "machine": machine}


def explain(error: BaseException) -> str:
    """Return the error in one line; every way of running out of memory in the same words."""
    text = str(error) or type(error).__name__
    # torch's CPU allocator raises a plain RuntimeError
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        return OUT_OF_MEMORY
    return text.splitlines()[0][:300]


def compare_speeds(run: Run, ours: Way, other: Way) -> dict[str, Any]:
    """Measure two ways of doing one thing in turn, so that their ratio means something on a busy machine.

    There are `benchmark.rounds` rounds, fewer once `benchmark.max_seconds` are over.

    Returns:
        Median and range of both speeds and of their ratio (`speedup`), and the number of `rounds`.
    """
    speeds: list[tuple[float, float]] = []
    end = time.perf_counter() + run.config.benchmark.max_seconds
    for number in range(run.config.benchmark.rounds):
        speeds.append((ours[1](number), other[1](number)))
        if time.perf_counter() > end:
            break
    fast, plain = zip(*speeds, strict=True)
    ratios = [one / two for one, two in speeds]
    return {
        **summary(ours[0], fast),
        **summary(other[0], plain),
        **summary("speedup", ratios),
        "rounds": len(speeds),
    }


def summary(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Return `{name: median, name_range: [lowest, highest]}` of the rounds' values."""
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def now(device: torch.device) -> float:
    """Return the clock in seconds, once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _be_expendable(job_pid: int) -> None:
    """Let the system kill this process before the job if memory runs out; end with the job or the starter.

    The job's next attempt must not share the machine with this one.
    """
    Path("/proc/self/oom_score_adj").write_text("1000")
    cores_and_gpus.die_with(job_pid)
    cores_and_gpus.end_with_starter()


def _start(folder: RunFolder) -> None:
    """Run as the cell's only process, or as one of several, whose starter has assigned their GPUs."""
    config = check(folder.read_config())
    if "RANK" not in os.environ:
        cores_and_gpus.show_gpus(config.hardware)
    main(folder, config)


if __name__ == "__main__":
    FOLDER = RunFolder(Path(sys.argv[1]), read_only=os.environ.get("RANK", "0") != "0")
    _be_expendable(FOLDER.read_json("cell.json")["job_pid"])
    _start(FOLDER)
