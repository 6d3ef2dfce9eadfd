"""Plan the cells of a benchmark, run them, and collect their results as benchmark.json.

    plan(run.yaml) -> cells -> `python -m arc_experiments.benchmarking.measure <folder>` -> result.json
    results -> benchmark.json, benchmark.md, benchmark.svg

A cell is one measurement: a process with a folder and a composition of its own.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.composing.naming import slug
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.schema import Benchmark, Config, typed
from arc_experiments.runs.cores_and_gpus import count_processes
from arc_experiments.runs.folder import RunFolder

HORIZON = 100_000  # steps of a schedule; no measurement reaches its end
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One measurement.

    Attributes:
        measure: the part of the benchmark; the key of its result in benchmark.json.
        shape: arguments of the measurement.
        changes: dotted key -> value where the cell's composition differs from the job's.
        row: distinguishes this result from others of the same part; also in the result of a failed cell.
    """

    folder: RunFolder
    measure: str
    shape: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None before there is one."""
        written = (self.folder / "result.json").exists()
        return self.row | self.folder.read_json("result.json") if written else None

    @property
    def outcome(self) -> str | None:
        """Either "measured", "out_of_memory" or "failed"; None before there is a result."""
        if self.result is None:
            return None
        error = self.result.get("error")
        if error is None:
            return "measured"
        return "out_of_memory" if error.startswith(OUT_OF_MEMORY) else "failed"


def plan(folder: RunFolder, config: Config) -> list[Cell]:
    """List all cells in order: many for training, for every other part one, of one process."""
    cells: list[Cell] = []
    for part in config.benchmark.parts:
        if part == "training":
            cells += _training(config, folder / "cells")
            continue
        changes = _endless(config.optim.log_steps) | _processes(config, 1)
        own = RunFolder(folder / "cells" / part)
        cells.append(Cell(folder=own, measure=part, changes=changes))
    return cells


def _training(config: Config, folder: Path) -> Iterator[Cell]:
    """Yield every batch size with every length and input size, for every combination of varied values."""
    benchmark = config.benchmark
    shapes: list[dict[str, Any]] = [
        {"length": length, "packing": packing}
        for length in benchmark.lengths
        for packing in benchmark.packing
    ]
    shapes += [{"input_size": size, "packing": False} for size in benchmark.input_sizes]
    for varied, shape, size in itertools.product(_varied(benchmark), shapes, benchmark.batch_sizes):
        processes = varied.get("hardware.num_processes") or count_processes(config.hardware)
        words = [f"{key}_{value}" for key, value in ({"batch": size} | shape | varied).items()]
        vocabulary = varied.get("model.vocabulary", config.model.vocabulary)
        sizes = {
            "hardware.per_device_batch_size": size,
            "optim.batch_size": size * benchmark.accumulation * processes,
        }
        endless = _endless(varied.get("optim.log_steps", config.optim.log_steps))
        yield Cell(
            folder=RunFolder(folder / "-".join(["training", *map(slug, words)])),
            measure="training",
            shape=shape,
            changes=varied | endless | sizes | _processes(config, processes),
            row={"per_device_batch_size": size, **shape, "vocabulary": vocabulary, "num_processes": processes}
            | varied,
        )


def _varied(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return every combination of the values of `benchmark.vary`, as dotted key -> value."""
    keys = [text.partition("=")[0] for text in benchmark.vary]
    values = [map(yaml.safe_load, text.partition("=")[2].split(",")) for text in benchmark.vary]
    return [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values)]


def _processes(config: Config, number: int) -> dict[str, Any]:
    """Return the changes for that number of processes, which use the first of the GPUs named."""
    gpus = config.hardware.gpu_ids
    if gpus is not None and config.hardware.parallelism != "split":  # which is one process over all of them
        gpus = gpus[:number]
    return {"hardware.num_processes": number, "hardware.gpu_ids": gpus}


def _endless(log_steps: int) -> dict[str, Any]:
    """The changes for a training that the clock stops: no end, no checkpoint."""
    return {"optim.max_steps": HORIZON, "optim.save_steps": HORIZON * log_steps, "optim.stop_after": None}


def freeze_cells(cells: Sequence[Cell], config: Config) -> None:
    """Write each cell's composition and request into its folder, which is emptied.

    Raises:
        ConfigError: a cell's changes give an invalid composition.
    """
    for cell in cells:
        own = typed(asdict(config))
        for key, value in cell.changes.items():
            try:
                OmegaConf.update(own, key, value)
            except OmegaConfBaseException as error:
                raise ConfigError([f"benchmark.vary: {key}: {str(error).splitlines()[0]}"]) from error
        check(own)
        shutil.rmtree(cell.folder.path, ignore_errors=True)
        cell.folder.path.mkdir(parents=True)
        cell.folder.write("run.yaml", OmegaConf.to_yaml(own, resolve=True))
        request = {"measure": cell.measure, "shape": cell.shape, "job_pid": os.getpid()}
        cell.folder.write_json("cell.json", request)


def run_cell(cell: Cell, max_seconds: float) -> None:
    """Measure in a process of its own; a result is written however it ends.

    Args:
        max_seconds: the process is killed and marked after this time.
    """
    module, folder = "arc_experiments.benchmarking.measure", str(cell.folder.path)
    several = cell.changes.get("hardware.num_processes", 1) > 1
    modules = ["arc_experiments.launching.torchrun", folder, module] if several else [module, folder]
    with (cell.folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *modules], stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            start_new_session=True,  # its children can then be killed with it
        )  # fmt: skip
        try:
            process.wait(max_seconds)
        except subprocess.TimeoutExpired:
            cell.folder.write_json("result.json", {"error": f"not done after {max_seconds:.0f} s"})
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if cell.result is None:
        error = cell.folder.status.get("error")  # written by the starter of several processes
        cell.folder.write_json("result.json", {"error": _death(error, process.returncode)})
    shutil.rmtree(cell.folder / "checkpoints", ignore_errors=True)


def _death(error: str | None, code: int) -> str:
    """Say why there is no result. Linux kills processes by signal 9 when memory runs out."""
    how = error or (f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}")
    return f"{OUT_OF_MEMORY} ({how})" if "killed by signal 9" in how else how


def collect(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return benchmark.json: counts, machines, and the results by part.

    Parts with several cells, and results with several `rows`, become lists.
    """
    outcomes = [cell.outcome for cell in cells]
    counts = {f"num_{name}": outcomes.count(name) for name in ("measured", "out_of_memory", "failed")}
    results: dict[str, Any] = {"num_cells": len(cells), **counts, "machines": []}
    for cell in cells:
        result = cell.result
        if result is None:
            continue
        machine, rows = result.pop("machine", None), result.pop("rows", None)
        if machine is not None and machine not in results["machines"]:
            results["machines"].append(machine)
        if cell.row:
            results.setdefault(cell.measure, []).append(result)
        else:
            results[cell.measure] = result if rows is None else [result | row for row in rows]
    return results
