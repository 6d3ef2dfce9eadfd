"""Our fields as those of TRL's SFTConfig."""

from pathlib import Path

import torch
from trl import SFTConfig

from arc_experiments.config.schema import Hardware, Optim
from arc_experiments.runs.machine import PATIENCE
from arc_experiments.training.schedules import schedule_arguments


def make_arguments(
    optim: Optim,
    hardware: Hardware,
    *,
    output_dir: Path,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    gradient_checkpointing: bool,
    per_device_batch_size: int,
    accumulation: int,
    iterable: bool,
    compile: bool,
) -> SFTConfig:
    """Our fields as SFTConfig's. Evaluation and logging are ours, so the Trainer's are off."""
    return SFTConfig(
        output_dir=str(output_dir),
        max_steps=optim.max_steps,
        per_device_train_batch_size=per_device_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=optim.learning_rate,
        **schedule_arguments(optim),
        optim=optim.name,
        weight_decay=optim.weight_decay,
        neftune_noise_alpha=optim.neftune_alpha,
        max_grad_norm=optim.max_grad_norm,
        logging_steps=optim.log_steps,
        logging_nan_inf_filter=False,  # it would report a loss of 0 for NaN and train on
        save_steps=optim.save_steps,
        save_total_limit=2,  # the one before stays until the new one is marked
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=device.type == "cpu",
        seed=seed,
        dataloader_num_workers=hardware.num_workers,
        dataloader_pin_memory=False,  # knows tensors only, and batches come as arrays
        activation_checkpointing=gradient_checkpointing,
        torch_compile=compile,
        train_sampling_strategy="sequential",  # the stream is shuffled already
        ignore_data_skip=iterable,  # it begins where it is to go on
        ddp_timeout=int(PATIENCE.total_seconds()),
        ddp_find_unused_parameters=False,
        fsdp=True if hardware.parallelism == "fsdp" else None,
        fsdp_config={"version": 2, "state_dict_type": "SHARDED_STATE_DICT"},  # of checkpoints
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,  # samples fit when they come: nothing is cut unseen
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
