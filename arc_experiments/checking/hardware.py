"""The checks of `hardware`: processes, GPUs, and how a batch is shared out among them."""

from collections.abc import Iterator

from arc_experiments.config import Hardware


def check_hardware(hardware: Hardware, batch_size: int) -> Iterator[str]:
    """A line for each mistake; `batch_size` is that of an optimizer step."""
    size, processes, gpus = hardware.per_device_batch_size, hardware.num_processes, hardware.gpu_ids
    if size != "auto" and (not isinstance(size, int) or size < 1):
        yield f"hardware.per_device_batch_size={size} is neither a number of rows, from 1, nor auto"
    else:
        try:
            split_batch(batch_size, processes or 1, 1 if size == "auto" else size)
        except ValueError as error:
            yield str(error)
    if hardware.parallelism == "split" and processes != 1:
        yield f"hardware.parallelism=split spreads one process over the GPUs: hardware.num_processes={processes} must be 1"
    if gpus is None:
        return
    if hardware.device == "cpu":
        yield "hardware.gpu_ids is set, but hardware.device=cpu"
    if not gpus or len(set(gpus)) != len(gpus):
        yield f"hardware.gpu_ids={gpus} must name different GPUs"
    elif hardware.parallelism != "split" and processes is not None and len(gpus) != processes:
        yield (
            f"hardware.gpu_ids={gpus} names {len(gpus)} GPUs for hardware.num_processes={processes}: each process "
            "uses one (null: as many processes as GPUs)"
        )


def split_batch(batch_size: int, num_processes: int, per_device_batch_size: int) -> int:
    """How many micro-batches of each process make one optimizer step.

    Raises:
        ValueError: they do not divide; with the numbers that would.
    """
    at_once = num_processes * per_device_batch_size
    if batch_size % at_once:
        raise ValueError(
            f"optim.batch_size={batch_size} does not divide into hardware.num_processes={num_processes} x "
            f"hardware.per_device_batch_size={per_device_batch_size}: choose a multiple of {at_once}, or a smaller "
            "hardware.per_device_batch_size"
        )
    return batch_size // at_once
