"""From the command to the first optimizer step: the real command, timed by what it writes into its folder."""

import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from arc_experiments.benchmarking.measure import summary
from arc_experiments.run import Run

# What run.log says when a phase is over, in order.
ENDS = {
    "imports": "the job is imported",
    "data": "the data is there",
    "model": "the model is there",
    "preparation": "the trainer is there",
    "first_validation": "the first validation is done",
    "first_step": "step 1 is done",
}
# What one start here, of one run, is not composed with.
NOT_OF_A_START = re.compile(r"[+~]*(job|benchmark|launch|sweep|halving)\b")
# An experiment's file may choose a cluster, a chain or a sweep, too.
HERE_ONCE = (
    "launch=local", "launch.slurm=null", "launch.dry_run=false", "hydra.mode=RUN",
    "launch.chain={total_jobs:1,steps_per_job:null,seconds_per_job:null}",
)  # fmt: skip


def measure(run: Run, *, overrides: Sequence[str]) -> dict[str, Any]:
    """Median seconds of each phase, and of all together.

    Args:
        overrides: what composes this run on the command line.
    """
    kept = [text for text in overrides if not NOT_OF_A_START.match(text)]
    rounds = run.config.benchmark.rounds
    starts = [_start(run, kept) for _ in range(rounds)]
    result: dict[str, Any] = {}
    for name in starts[0]:
        result |= summary(f"{name}_seconds", [start[name] for start in starts])
    return result | {"rounds": rounds}


def _start(run: Run, overrides: Sequence[str]) -> dict[str, float]:
    """Seconds of each phase of one start.

    Raises:
        RuntimeError: the command failed, in its own words.
    """
    folder = run.folder / "start"
    shutil.rmtree(folder, ignore_errors=True)
    gpus = run.config.hardware.gpu_ids
    ours = [
        "job=finetune", "optim.stop_after=1", "optim.log_steps=1", "inference.limit=0", "tracking.mode=off",
        "optim.best_by=none", "optim.patience=null", "optim.min_delta=0",  # without an answer nothing is best
        "hardware.num_processes=1", f"hardware.gpu_ids={'null' if gpus is None else gpus}",
    ]  # fmt: skip
    words = [*overrides, *ours, *HERE_ONCE, f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "arc_experiments", *words]
    began = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Details")]
        raise RuntimeError(said[-1] if said else f"ended with exit code {done.returncode}")
    ends = {"compose": (folder / "run.yaml").stat().st_mtime, **read_ends(folder / "run.log")}
    shutil.rmtree(folder)
    moments = [began, *ends.values()]
    seconds = [end - start for start, end in itertools.pairwise(moments)]
    return {**dict(zip(ends, seconds, strict=True)), "total": moments[-1] - began}


def read_ends(log: Path) -> dict[str, float]:
    """When each phase ended, in seconds since 1970, from the lines of a run.log.

    2025-11-21 09:30:00,125 INFO arc_experiments.launching.worker: the job is imported

    Raises:
        RuntimeError: a line is missing.
    """
    ends = {}
    lines = log.read_text(encoding="utf-8").splitlines()
    for name, words in ENDS.items():
        line = next((line for line in lines if line.endswith(words)), None)
        if line is None:
            raise RuntimeError(f"{name}: the log of the start has no line that ends with: {words}")
        ends[name] = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    return ends
