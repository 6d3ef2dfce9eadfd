"""Which cores and GPUs a process gets, and which other processes it works with.

    jobs of a sweep        run in parallel, each at a place (0, 1, ...); places take cores and GPUs in turn
    helpers of one job     (job=adapt) divide the job's place into smaller ones
    ranks of one job       (torchrun) share the GPUs of their job, rank i using the i-th
    a job of a cluster     divides only what the cluster has allocated, whatever `hardware.gpu_ids` says

The process that starts others sets the variables below; each process reads its own share from them.
"""

import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from arc_experiments.config.schema import Hardware

if TYPE_CHECKING:  # loading torch takes seconds
    import torch
    from accelerate import PartialState

PLACE, NUM_PLACES = "ARC_EXPERIMENTS_PLACE", "ARC_EXPERIMENTS_NUM_PLACES"
HELPS = "ARC_EXPERIMENTS_HELPS"  # id of the process that this helper was started by
NUM_SHARING = "ARC_EXPERIMENTS_NUM_SHARING"  # processes that share the work of one job
STARTER = "ARC_EXPERIMENTS_STARTER"  # id of the process that started this rank
CLUSTER_JOB = "ARC_EXPERIMENTS_CLUSTER_JOB"  # set in a job that launch.command submitted
CORES = "ARC_EXPERIMENTS_CORES"  # for which such a job asked
# One process may write or draw samples for long while the others wait; whoever started them notices a death.
PATIENCE = timedelta(hours=24)


def environment(place: int, num_places: int) -> dict[str, str]:
    """Environment variables that give a job its place, 0 <= `place` < `num_places`."""
    return {PLACE: str(place), NUM_PLACES: str(num_places)}


def part(number: int, count: int) -> dict[str, str]:
    """Environment variables that give process 0 <= `number` < `count` its share of this job's place."""
    place, num_places = _own()
    return {**environment(place * count + number, num_places * count), NUM_SHARING: str(count)}


def num_sharing() -> int:
    """Number of processes that share this job's work, as far as they were started together."""
    return int(os.environ.get(NUM_SHARING, "1"))


def _own() -> tuple[int, int]:
    return int(os.environ.get(PLACE, "0")), int(os.environ.get(NUM_PLACES, "1"))


def share_of_cores() -> int:
    """Number of threads for this process: its share of the cores that it may run on."""
    neighbours = _own()[1] * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(os.environ.get(CORES, cores))) // neighbours)


def show_gpus(hardware: Hardware) -> None:
    """Make visible to CUDA the GPUs in `hardware.gpu_ids`, else this job's share of the visible ones.

    The share is one GPU, or as many as the job's processes or its split model take.
    """
    is_shown = "RANK" in os.environ or HELPS in os.environ  # by the process that started this one
    takes_several = hardware.num_processes != 1 or hardware.parallelism == "split"
    allocated = "SLURM_JOB_ID" in os.environ or CLUSTER_JOB in os.environ
    if hardware.gpu_ids is not None and not allocated:
        visible = ",".join(map(str, hardware.gpu_ids))
    elif is_shown or (_own()[1] == 1 and takes_several):
        return
    else:
        visible = own_gpus(None if hardware.parallelism == "split" else hardware.num_processes)
    os.environ["CUDA_VISIBLE_DEVICES"] = visible


def own_gpus(count: int | None = 1) -> str:
    """This process's GPUs, as CUDA_VISIBLE_DEVICES names them: the places take the visible ones in turn.

    Args:
        count: GPUs per place; None divides the visible ones evenly.
    """
    place, num_places = _own()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and count == 1 and not place:
        return "0"
    if visible is None:
        import torch

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")  # "" and "-1" hide all GPUs, and stay as they are
    count = min(len(gpus), count or max(1, len(gpus) // num_places))
    return ",".join(gpus[(place * count + number) % len(gpus)] for number in range(count))


def count_processes(hardware: Hardware) -> int:
    """`hardware.num_processes`, or one process per GPU that this run may use (one on a CPU)."""
    if hardware.num_processes is not None:
        return hardware.num_processes
    import torch

    if hardware.device == "cpu":
        return 1
    return len(hardware.gpu_ids or ()) or max(1, torch.cuda.device_count())


def join_processes(device: "torch.device") -> "PartialState":
    """Join the processes that torchrun or accelerate started for this run; this process alone if none did."""
    from accelerate import PartialState

    on_cpu = device.type == "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return PartialState(cpu=on_cpu)
    return PartialState(cpu=on_cpu, timeout=PATIENCE)


def end_with_starter() -> None:
    """End this helper or rank with the process that started it, whose signals do not reach it."""
    for name in (HELPS, STARTER):
        if name in os.environ:
            die_with(int(os.environ[name]))


def die_with(process: int) -> None:
    """End this process within a second of the end of another, however that ended."""

    def watch() -> None:
        while is_alive(process):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs. A zombie does not: its parent may wait for this output."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()  # 123 (its name) S ...
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
