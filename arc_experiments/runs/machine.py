"""Processes that run at the same time on one machine: which of them this is, its cores and its GPUs.

They are jobs of a sweep, or one job's helpers or ranks, which end when the process does that has started them.
"""

import os
import threading
import time
from pathlib import Path

PLACE, NUM_PLACES = "ARC_EXPERIMENTS_PLACE", "ARC_EXPERIMENTS_NUM_PLACES"
HELPS = "ARC_EXPERIMENTS_HELPS"  # the process that this one was started to help
STARTER = "ARC_EXPERIMENTS_STARTER"  # the process that has started this one as one of several ranks


def environment(place: int, num_places: int) -> dict[str, str]:
    """What tells a job that it has place 0 <= `place` < `num_places`."""
    return {PLACE: str(place), NUM_PLACES: str(num_places)}


def part(number: int, count: int) -> dict[str, str]:
    """What tells process 0 <= `number` < `count` of a job which part it has of the job's place."""
    place, num_places = _own()
    return environment(place * count + number, num_places * count)


def is_alone() -> bool:
    """Whether nothing that shares this machine was started beside this process."""
    return _own()[1] == 1


def _own() -> tuple[int, int]:
    return int(os.environ.get(PLACE, "0")), int(os.environ.get(NUM_PLACES, "1"))


def die_with(process: int) -> None:
    """End this process when another has ended, however it did."""

    def watch() -> None:
        while _is_alive(process):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_alive(process: int) -> bool:
    """Not so one that has ended, but whose parent has not looked yet: it may be waiting for this one's output to end."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()  # 123 (its name) S ...
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def end_with_starter() -> None:
    """Let a helper or a rank end with what has started it: a signal to that one's process group does not reach a rank."""
    for name in (HELPS, STARTER):
        if name in os.environ:
            die_with(int(os.environ[name]))


def share_of_cores() -> int:
    """Threads for one process, of the cores that this machine lets it use."""
    beside = _own()[1] * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // beside)


def own_gpus(count: int | None = 1) -> str:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them: all places take the visible ones in turn.

    Args:
        count: how many each place takes; None: as many as there are for each.
    """
    place, num_places = _own()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and count == 1 and not place:
        return "0"
    if visible is None:
        import torch  # only here: it takes seconds

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")  # hidden on purpose ("", "-1"), they stay so
    count = min(len(gpus), count or max(1, len(gpus) // num_places))
    return ",".join(gpus[(place * count + number) % len(gpus)] for number in range(count))
