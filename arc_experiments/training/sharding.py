"""Training with the weights sharded over the processes (FSDP2): what is other than with a whole model in each.

transformers and accelerate do the work, told so by `SFTConfig.fsdp`. Here is what they leave open: CPUs, precision,
best weights, what a checkpoint of the other kind means, and how the trained weights become whole again.
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
    """What cannot be sharded, or gone on with so; the message names the key and the remedy."""


@contextmanager
def sharding(arguments: SFTConfig, model: torch.nn.Module) -> Iterator[None]:
    """Make the trainer in this context: it then shards, if its arguments say so.

    accelerate takes FSDP on for accelerators alone (`AcceleratorState.__init__`), and on CPUs trains data-parallel
    without a word; so these are called accelerators meanwhile.

    Raises:
        ShardingError: there is nothing to shard over, float16, or an adapter that trains embedding or LM head.
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
        processes.distributed_type = real  # how they talk with each other


def _check(arguments: SFTConfig, model: torch.nn.Module) -> None:
    """What only the model and the device tell."""
    if isinstance(model, PeftModel) and any(_trains(layer) for layer in _vocabulary_layers(model)):
        raise ShardingError(
            "hardware.parallelism=fsdp does not train an adapter's embedding or LM head (tied ones cannot be sharded so, "
            "and the LM head's gradients are wrong): leave them out, or take hardware.parallelism=data"
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
    """Raises ShardingError where the checkpoint is that of the other kind of training."""
    was_sharded = (checkpoint / SHARDED_WEIGHTS).exists()
    if was_sharded != is_sharded:
        before, now = ("fsdp", "data") if was_sharded else ("data", "fsdp")
        raise ShardingError(
            f"{checkpoint} was written with hardware.parallelism={before} and cannot be gone on with under {now}: take "
            f"hardware.parallelism={before}, or start beside it with resume=false"
        )


def save_shards(trainer: Trainer, folder: Path) -> None:
    """What is trained, each process its part, as in a checkpoint; all must call this."""
    accelerator = trainer.accelerator
    save_fsdp_model(accelerator.state.fsdp_plugin, accelerator, trainer.model, str(folder), adapter_only=True)


def gather_trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained weights, whole, in the first process; all must call this, and the others get nothing."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    state = get_model_state_dict(model, options=options)
    for tied in getattr(model, "all_tied_weights_keys", ()):  # here a copy of its own, which no file has
        state.pop(tied, None)
    # cloned: on a CPU they may be still on their way
    return {name: value.clone() for name, value in state.items() if isinstance(value, torch.Tensor)}


def load_whole(load: Callable[[], Any], folder: Path) -> Any:
    """The trained model, whole in each process, in place of its shards.

    Args:
        load: gives it.
        folder: of the run, for the message.

    Raises:
        ShardingError: it is too large for the GPU.
    """
    gc.collect()  # the trainer and its callbacks hold each other, and the shards
    torch.cuda.empty_cache()
    try:
        return load()
    except torch.OutOfMemoryError:
        raise ShardingError(
            "The training is finished and its weights are saved, but the whole model does not fit one GPU. Answer "
            f"with it spread over the GPUs: job=evaluate from_run={folder} hardware=split_model"
        ) from None
