"""Build the trainer of a composition: rows, arguments, loss, guard, best weights, sharding."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import IterableDataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig

from arc_experiments.config.rules import split_batch
from arc_experiments.config.schema import Config
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.runs.cores_and_gpus import PATIENCE
from arc_experiments.stream.samples import JoinedStreams, SampleStream
from arc_experiments.training import optimizers
from arc_experiments.training.best import Best
from arc_experiments.training.dataset import Collator, training_rows
from arc_experiments.training.divergence import Guard
from arc_experiments.training.losses import suits_labelled_positions
from arc_experiments.training.schedules import own_shares, schedule_arguments
from arc_experiments.training.sharding import sharding
from arc_experiments.training.trainer import StreamTrainer


def make_trainer(
    model: Any,
    tokenizer: Any,
    stream: SampleStream | JoinedStreams,
    config: Config,
    *,
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    processes: PartialState,
    seed: int,
    per_device_batch_size: int,
    gradient_checkpointing: bool,
    pad_id: int,
    pictures: PictureInputs | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    is_pause_due: Callable[[int], bool] = lambda step: False,
    kind: Callable[..., StreamTrainer] = StreamTrainer,
) -> StreamTrainer:
    """Build a trainer, ready to start or to resume.

    Args:
        stream: what to train on; joined streams train in steps and batches as if each were alone.
        folder: for checkpoints and the best weights.
        seed: of the dropout.
        per_device_batch_size: rows of one forward pass in one process, of each joined stream.
        gradient_checkpointing: recompute activations in the backward pass.
        pictures: makes what the model needs of the samples' pictures; None for text alone.
        is_pause_due: whether this process should pause at the end of a step, numbered from 1; then all do.
        kind: makes the trainer, from StreamTrainer's arguments.

    Raises:
        ValueError: the batch does not divide among the processes.
        OptimizerError: the optimizer needs a package that is not installed.
        ShardingError: the model cannot be sharded.
    """
    optim = config.optim
    rows = training_rows(stream, config, folder=folder, batch_size=per_device_batch_size, processes=processes)
    num_rows = per_device_batch_size * stream.num_joined  # of a forward pass
    arguments = _arguments(
        config,
        folder=folder,
        dtype=dtype,
        device=device,
        seed=seed,
        num_rows=num_rows,
        accumulation=split_batch(optim.batch_size, processes.num_processes, per_device_batch_size),
        gradient_checkpointing=gradient_checkpointing,
        is_iterable=isinstance(rows, IterableDataset),
    )
    most_tokens = num_rows * (optim.pack_length or config.prompt.max_length)
    optimizers.check_available(arguments)
    best = Best(by=optim.best_by, patience=optim.patience, min_delta=optim.min_delta, folder=folder)
    with sharding(arguments, model):
        trainer = kind(
            part_names=[part.name for part in stream.parts],
            guard=Guard(
                max_skipped_steps=optim.max_skipped_steps,
                spike_factor=optim.spike_factor,
                stop_on_spike=optim.stop_on_spike,
            ),
            stop_after=optim.stop_after,
            embedding_learning_rate=optim.embedding_learning_rate,
            load_state=None if optim.load_state is None else Path(optim.load_state).expanduser(),
            label_smoothing=optim.label_smoothing,
            # SFTTrainer's own loss knows models of text alone, whose LM head is where their inputs are.
            loss_at_labels=pictures is not None
            or config.hardware.parallelism == "split"
            or suits_labelled_positions(model, device, most_tokens),
            attends_by_sample=device.type == "cpu"
            and optim.pack_length is not None
            and not config.model.compile,
            shares=own_shares(optim),
            best=best if optim.best_by != "none" else None,
            is_pause_due=is_pause_due,
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=Collator(pad_id, pictures),
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
    trainer.remove_callback(PrinterCallback)  # jobs print their own progress
    for parameter in model.parameters():
        if parameter.requires_grad:  # float16's is; a quantised model's adapter SFTTrainer made bfloat16
            parameter.data = parameter.data.float()
    return trainer


def _arguments(
    config: Config,
    *,
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    num_rows: int,
    accumulation: int,
    gradient_checkpointing: bool,
    is_iterable: bool,
) -> SFTConfig:
    """Our keys as SFTConfig's. Validation and logging are ours, so the Trainer's are off."""
    optim, hardware = config.optim, config.hardware
    return SFTConfig(
        output_dir=str(folder),
        max_steps=optim.max_steps,
        per_device_train_batch_size=num_rows,
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
        dataloader_pin_memory=False,  # it pins tensors only, and batches come as arrays
        activation_checkpointing=gradient_checkpointing,
        torch_compile=config.model.compile,
        train_sampling_strategy="sequential",  # the stream is shuffled already
        ignore_data_skip=is_iterable,  # it starts at the row to resume from
        ddp_timeout=int(PATIENCE.total_seconds()),
        ddp_find_unused_parameters=False,
        fsdp=True if hardware.parallelism == "fsdp" else None,
        fsdp_config={"version": 2, "state_dict_type": "SHARDED_STATE_DICT"},  # of checkpoints
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,  # samples fit when they come: nothing is cut silently
        eval_strategy="no",  # validation and the log are ours
        report_to="none",
        disable_tqdm=True,
    )
