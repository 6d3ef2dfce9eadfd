"""The plan of a benchmark: which cells there are, running them, and their results as benchmark.json."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.checking import ConfigError, check
from arc_experiments.config import Benchmark, Config
from arc_experiments.launching import worker_environment
from arc_experiments.ranks import count_processes
from arc_experiments.run_folder import RunFolder, slug

HORIZON = 100_000  # steps of a schedule that no measurement comes to the end of


@dataclass(frozen=True, eq=False)
class Cell:
    """One measurement.

    Attributes:
        path: its folder.
        place: where its result stands in benchmark.json; a place that ends in [] is a list of rows.
        measure: the module of `benchmarking` that measures, and `options` what it is called with.
        changes: dotted key -> value, where the cell's composition differs from the job's.
        row: what tells this row from others; it stands in the result, also in that of a failed cell.
    """

    path: Path
    place: str
    measure: str
    options: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def result(self) -> dict[str, Any] | None:
        """None while it is not measured."""
        written = (self.folder / "result.json").exists()
        return self.row | self.folder.read_json("result.json") if written else None


def plan(folder: RunFolder, config: Config, overrides: Sequence[str]) -> list[Cell]:
    """All cells in order.

    Args:
        overrides: what was typed to compose this; the start-up is measured with them.
    """
    benchmark, cells = config.benchmark, folder / "cells"
    timed = {"rounds": benchmark.rounds, "max_seconds": benchmark.max_seconds}
    workers = {"workers": benchmark.workers, "max_seconds": benchmark.max_seconds}
    consumer = {"consumer_tokens_per_second": benchmark.consumer_tokens_per_second}
    sizes = {"prompts": benchmark.prompts, "new_tokens": benchmark.new_tokens}
    starts = {"rounds": benchmark.rounds, "overrides": list(overrides)}
    alone = _processes(config, 1)
    parts = {
        "stream": [
            Cell(cells / "stream", "stream", "sampling", timed | {"samples": benchmark.samples}, alone),
            Cell(cells / "loading", "loading", "loading", workers | consumer, alone),
        ],
        "training": [
            Cell(cells / "waiting", "waiting", "waiting", workers, alone | _endless(config)),
            *_training(config, cells, timed),
        ],
        "generation": [Cell(cells / "generation", "generation", "generation", timed | sizes, alone)],
        "startup": [Cell(cells / "startup", "startup", "startup", starts, alone)],
    }
    return [cell for name, chosen in parts.items() if name in benchmark.parts for cell in chosen]


def _training(config: Config, cells: Path, timed: dict[str, Any]) -> Iterator[Cell]:
    """Every batch size with every length and input size, for every combination of what is varied."""
    benchmark = config.benchmark
    shapes: list[dict[str, Any]] = [
        {"length": length, "packing": packing}
        for length in benchmark.lengths
        for packing in benchmark.packing
    ]
    shapes += [{"input_size": size, "packing": False} for size in benchmark.input_sizes]
    for varied, shape, size in itertools.product(_varied(benchmark), shapes, benchmark.batch_sizes):
        processes = varied.get("hardware.num_processes", count_processes(config.hardware))
        batch = {
            "hardware.per_device_batch_size": size,
            "optim.batch_size": size * benchmark.accumulation * processes,
        }
        changes = _processes(config, processes) | _endless(config) | batch | varied
        row = {
            "per_device_batch_size": size,
            **shape,
            "vocabulary": varied.get("model.vocabulary", config.model.vocabulary),
            "num_processes": processes,
            **varied,
        }
        words = [f"{key}_{value}" for key, value in ({"batch": size} | shape | varied).items()]
        path = cells / "-".join(["training", *map(slug, words)])
        yield Cell(path, "training[]", "training", timed | shape, changes, row)


def _processes(config: Config, number: int) -> dict[str, Any]:
    """The changes that make it so many processes, on the first of the GPUs named."""
    gpus = config.hardware.gpu_ids
    split = config.hardware.parallelism == "split"  # one process over all of them
    return {
        "hardware.num_processes": number,
        "hardware.gpu_ids": gpus if gpus is None or split else gpus[:number],
    }


def _varied(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Every combination of the values of `benchmark.vary`, as dotted key -> value."""
    keys = [text.partition("=")[0] for text in benchmark.vary]
    values = [map(yaml.safe_load, text.partition("=")[2].split(",")) for text in benchmark.vary]
    return [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values)]


def _endless(config: Config) -> dict[str, Any]:
    """The changes for a training that the clock stops: no end, no checkpoint."""
    return {
        "optim.max_steps": HORIZON,
        "optim.save_steps": HORIZON * config.optim.log_steps,
        "optim.stop_after": None,
    }


def freeze_cells(cells: Sequence[Cell], node: DictConfig) -> None:
    """Write each cell's composition and request into its folder.

    Raises:
        ConfigError: a cell's changes make no right composition.
    """
    for cell in cells:
        own = node.copy()
        for key, value in cell.changes.items():
            try:
                OmegaConf.update(own, key, value)
            except OmegaConfBaseException as error:
                raise ConfigError([f"benchmark.vary: {key}: {str(error).splitlines()[0]}"]) from error
        check(own)
        cell.path.mkdir(parents=True, exist_ok=True)
        cell.folder.write("run.yaml", OmegaConf.to_yaml(own, resolve=True))
        request = {"measure": cell.measure, "options": cell.options, "job_pid": os.getpid()}
        cell.folder.write_json("cell.json", request)


def run_cell(cell: Cell, max_seconds: float) -> None:
    """Measure in a process of its own; however it ends there is a result.

    Args:
        max_seconds: it is ended and marked after this.
    """
    module, folder = "arc_experiments.benchmarking.cell", str(cell.path)
    several = cell.changes.get("hardware.num_processes", 1) > 1
    command = [
        sys.executable,
        "-m",
        *(["arc_experiments.ranks", folder, module] if several else [module, folder]),
    ]
    with (cell.folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            command, env=worker_environment(), stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts can be ended with it
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
        # Of several processes the one that starts them says which ended how.
        error = cell.folder.status.get("error") or _death(process.returncode)
        cell.folder.write_json("result.json", {"error": error})
    shutil.rmtree(cell.folder / "checkpoints", ignore_errors=True)


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed (signal 9), most often for memory"
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def collect(cells: Sequence[Cell]) -> dict[str, Any]:
    """benchmark.json: every measured cell's result at its place, and the machines they were measured on."""
    results: dict[str, Any] = {"machines": [], "num_cells": len(cells), "num_measured": 0}
    for cell in cells:
        result = cell.result
        if result is None:
            continue
        results["num_measured"] += 1
        machine = result.pop("machine", None)
        if machine is not None and machine not in results["machines"]:
            results["machines"].append(machine)
        if cell.place.endswith("[]"):
            results.setdefault(cell.place.removesuffix("[]"), []).append(result)
        else:
            results[cell.place] = result
    return results
