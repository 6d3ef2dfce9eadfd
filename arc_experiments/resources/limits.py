"""How much memory and disk there is for a run: of the machine, or of the container or job that it is in."""

import shutil
from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")  # "0::/user.slice/..."


def free_host_memory(groups: Path = CGROUPS, own: Path = OWN_GROUP) -> int:
    """Return the bytes that this process and its children can still take.

    A container or a job of a cluster may have less than the machine: the least that a control group above
    this process has left.
    """
    free = [psutil.virtual_memory().available]
    lines = own.read_text().splitlines() if own.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            free += _left(groups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            old = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            free += _left(groups / "memory", path, *old)
    return int(max(0, min(free)))


def _left(root: Path, path: str, limit: str, used: str, reclaimable: str) -> list[int]:
    """Return what each group from the root down to the path has left, of those with a limit."""
    found = []
    folder = root / path.lstrip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            break
        try:
            most = (group / limit).read_text().strip()
            taken = int((group / used).read_text())
            counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:  # no such group here, as in a container, or none of memory
            continue
        if most != "max":
            found.append(int(most) - taken + int(counts.get(reclaimable, 0)))
    return found


def own_host_memory() -> int:
    """Return the bytes that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def free_gpu_memory(device: torch.device, *, all_gpus: bool = False) -> int:
    """Return the bytes that are left on a GPU, or on all that this process sees."""
    places = range(torch.cuda.device_count()) if all_gpus else (device,)
    return sum(torch.cuda.mem_get_info(place)[0] for place in places)


def free_disk(folder: Path) -> int:
    """Return the bytes that are left where the folder is; it need not exist yet."""
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(place).free
