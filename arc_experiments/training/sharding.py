"""Train with the weights sharded over the processes (FSDP2): what differs from a whole model in each.

transformers and accelerate do the work, asked by `SFTConfig.fsdp`. This file adds what they lack: CPUs,
precision, best weights, refusing a checkpoint of the other kind, and making the trained weights whole again.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from accelerate.utils import save_fsdp_model
from peft import PeftModel
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer
from trl import SFTConfig

SHARDED_WEIGHTS = "pytorch_model_fsdp_0"  # a folder; accelerate's name


class ShardingError(ValueError):
    """What cannot be sharded, or resumed sharded; the message names the key and the remedy."""


@contextmanager
def sharding(arguments: SFTConfig, model: torch.nn.Module) -> Iterator[None]:
    """Make the trainer in this context, so that it shards if its arguments say so.

    accelerate uses FSDP only on accelerators (`AcceleratorState.__init__`) and silently trains data-parallel
    on CPUs, so CPUs are declared accelerators meanwhile.

    Raises:
        ShardingError: there is nothing to shard over, float16, or an adapter that trains embedding or LM
            head.
    """
    if not arguments.fsdp:
        yield
        return
    _check(arguments, model)
    if arguments.bf16:  # accelerate's policy rounds sums of gradients, and the loss, to bfloat16 as well
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        arguments.fsdp_plugin_args["mixed_precision_policy"] = policy
    processes = PartialState()
    real = processes.distributed_type
    if real == DistributedType.MULTI_CPU:
        processes.distributed_type = DistributedType.MULTI_GPU
    try:
        yield
    finally:
        processes.distributed_type = real  # which decides how they communicate


def _check(arguments: SFTConfig, model: torch.nn.Module) -> None:
    """Check what only the model and the device can tell."""
    if isinstance(model, PeftModel) and any(_trains(layer) for layer in _vocabulary_layers(model)):
        raise ShardingError(
            "hardware.parallelism=fsdp does not train an adapter's embedding or LM head (tied ones cannot be "
            "sharded so, and the LM head's gradients are wrong): leave them out, or take "
            "hardware.parallelism=data"
        )
    if PartialState().num_processes == 1:
        raise ShardingError(
            "hardware.parallelism=fsdp shards the weights over several processes, and there is one: set "
            "hardware.num_processes, or take hardware.parallelism=data"
        )
    if arguments.fp16:
        raise ShardingError(
            "hardware.parallelism=fsdp does not train in float16: take model.dtype=bfloat16 or float32, or "
            "hardware.parallelism=data"
        )


def _vocabulary_layers(model: PeftModel) -> list[torch.nn.Module]:
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return [layer for layer in layers if layer is not None]


def _trains(layer: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters())


def check_checkpoint(checkpoint: Path, *, is_sharded: bool) -> None:
    """Raise ShardingError if the checkpoint was written by the other kind of training."""
    was_sharded = (checkpoint / SHARDED_WEIGHTS).exists()
    if was_sharded != is_sharded:
        before, now = ("fsdp", "data") if was_sharded else ("data", "fsdp")
        raise ShardingError(
            f"{checkpoint} was written with hardware.parallelism={before} and cannot be resumed with {now}: "
            f"set hardware.parallelism={before}, or start a new folder with resume=false"
        )


def save_shards(trainer: Trainer, folder: Path) -> None:
    """Save what is trained, each process its part, as in a checkpoint. All processes must call this."""
    accelerator = trainer.accelerator
    save_fsdp_model(accelerator.state.fsdp_plugin, accelerator, trainer.model, str(folder), adapter_only=True)


def gather_trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the trained weights, whole, in the first process; {} in others. All processes must call this."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    state = get_model_state_dict(model, options=options)
    for tied in getattr(model, "all_tied_weights_keys", ()):  # a copy, which no file has
        state.pop(tied, None)
    # cloned: on a CPU they may still be in transit
    return {name: value.clone() for name, value in state.items() if isinstance(value, torch.Tensor)}


def load_whole(load: Callable[[], Any], folder: Path) -> Any:
    """Load the trained model, whole in each process, in place of its shards.

    Args:
        load: loads and returns it.
        folder: of the run, for the message.

    Raises:
        ShardingError: it is too large for the GPU.
    """
    gc.collect()  # the trainer and its callbacks are a cycle that holds the shards
    torch.cuda.empty_cache()
    try:
        return load()
    except torch.OutOfMemoryError:
        raise ShardingError(
            "The training is finished and its weights are saved, but the whole model does not fit on one "
            f"GPU. Spread it over the GPUs to answer: job=evaluate from_run={folder} hardware=split_model"
        ) from None
