"""The checks of `hardware`: processes, GPUs, and how a batch is shared out among them."""

import os
from collections.abc import Iterator

from arc_experiments.config.rules.exclusions import excluded
from arc_experiments.config.rules.model import VOCABULARY_LAYERS
from arc_experiments.config.schema import Config, Hardware

SHARDABLE_OPTIMIZERS = (
    "adamw_torch",
    "adamw_torch_fused",
    "adagrad",
    "rmsprop",
    "sgd",
)  # seen to step on shards


def check_hardware(hardware: Hardware, batch_size: int, *, shares_batch: bool = True) -> Iterator[str]:
    """A line for each mistake.

    Args:
        batch_size: samples of an optimizer step.
        shares_batch: the processes train together, each on a part of it.
    """
    size, processes, gpus = hardware.per_device_batch_size, hardware.num_processes, hardware.gpu_ids
    if size != "auto" and (not isinstance(size, int) or size < 1):
        yield f"hardware.per_device_batch_size={size} is neither a number of rows, from 1, nor auto"
    else:
        try:
            split_batch(batch_size, (processes or 1) if shares_batch else 1, 1 if size == "auto" else size)
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


def check_sharding(config: Config) -> Iterator[str]:
    """What hardware.parallelism=fsdp excludes, a line each. The model itself is looked at when it is there."""
    hardware, model, optim = config.hardware, config.model, config.optim
    if hardware.parallelism != "fsdp":
        return
    saved = [name for name in (model.lora.modules_to_save if model.lora else ()) if name in VOCABULARY_LAYERS]
    unsharded = {
        # torchrun says the number where it started this process
        "hardware.num_processes=1": (
            hardware.num_processes == 1 and "RANK" not in os.environ,
            "there is nothing to shard over. Set 2 or more, or null for one a GPU",
        ),
        "hardware.per_device_batch_size=auto": (
            hardware.per_device_batch_size == "auto",
            "it is tried on a whole model. Name a number",
        ),
        f"model.quantisation={model.quantisation}": (
            model.quantisation != "none",
            "quantised weights are not sharded. Take none, or hardware.parallelism=data",
        ),
        "model.dtype=float16": (model.dtype == "float16", "take bfloat16 or float32"),
        "model.compile=true": (
            model.compile,
            "the shards of a compiled model cannot be told apart. Take false",
        ),
        "model.lora.initialisation=eva": (
            model.lora is not None and model.adapter is None and model.lora.initialisation == "eva",
            "it runs the whole model before it is sharded. Take another",
        ),
        f"model.lora.modules_to_save={saved}": (
            bool(saved),
            "embedding and LM head are not trained beside a sharded LoRA. Leave them out",
        ),
        f"optim.name={optim.name}": (
            optim.name not in SHARDABLE_OPTIMIZERS,
            f"it does not step on shards. Take one of {', '.join(SHARDABLE_OPTIMIZERS)}",
        ),
        f"optim.load_state={optim.load_state}": (
            optim.load_state is not None,
            "moments are not taken over into shards. Take null",
        ),
        "optim.best_by=pass_at_2": (
            optim.best_by == "pass_at_2",
            "processes answer at their own pace, which a sharded model does not allow. Take validation_loss",
        ),
        "job=benchmark": (
            config.job.name == "benchmark",
            "it is not measured. Take another hardware.parallelism",
        ),
    }
    yield from excluded("hardware.parallelism=fsdp", unsharded)


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
