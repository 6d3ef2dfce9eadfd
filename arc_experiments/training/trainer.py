"""TRL's SFTTrainer around the stream.

What it adds: counts of what was trained on (kept with each checkpoint, so that a resumed run has them too),
the time spent waiting for data, a stop before non-finite gradients touch the weights, checkpoints with a mark
of completeness, and a schedule whose horizon is `max_steps` wherever the run stops.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from arc_experiments.config import Hardware, Optim
from arc_experiments.processes import PATIENCE
from arc_experiments.training.checkpoints import last_complete, mark_complete, remove_torn, step_of
from arc_experiments.training.dataset import COUNTED, Collator

COUNTS_FILE = "counts.json"


class NonFiniteGradients(RuntimeError):
    """Gradients that are not numbers; the weights are those of the step before."""


@dataclass
class Counts:
    """What the optimizer has seen since step 0, over all ranks."""

    samples: int = 0
    tokens: int = 0
    samples_shrunk: int = 0
    samples_redrawn: int = 0
    by_source: dict[str, int] = field(default_factory=dict)  # samples

    def plus(self, marks: list[int], part_names: Sequence[str]) -> "Counts":
        """With the summed marks of more rows, see `make_row`."""
        values = {name: getattr(self, name) + more for name, more in zip(COUNTED, marks, strict=False)}
        by_source = {
            name: self.by_source.get(name, 0) + more
            for name, more in zip(part_names, marks[len(COUNTED) :], strict=True)
        }
        return Counts(**values, by_source=by_source)


class StreamTrainer(SFTTrainer):
    """SFTTrainer that counts its samples and times its waiting.

    Args:
        part_names: of the stream's parts, in its order.
        stop_after: the step to stop after, if not `max_steps`.
    """

    def __init__(self, *, part_names: Sequence[str], stop_after: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._part_names, self._stop_after = part_names, stop_after
        self.counts = Counts()
        self.session_counts = Counts()  # since this process began, for speeds
        self.data_wait_seconds = 0.0

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of one optimizer step, with the waiting timed and the samples counted."""
        start = time.perf_counter()
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.data_wait_seconds += time.perf_counter() - start
        mine = torch.stack([batch.pop("marks").sum(0) for batch in batches]).sum(0).to(device)
        all_ranks = self.accelerator.reduce(mine, reduction="sum").tolist()
        self.counts = self.counts.plus(all_ranks, self._part_names)
        self.session_counts = self.session_counts.plus(all_ranks, self._part_names)
        return batches, num_items

    def get_train_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        """An IterableDataset gives this rank's rows from the right one on: accelerate must not share them out again."""
        if not isinstance(self.train_dataset, IterableDataset):
            loader: DataLoader = super().get_train_dataloader()  # type: ignore[type-arg]
            return loader
        return DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            num_workers=self.args.dataloader_num_workers,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator(),  # the global one is the dropout's
        )

    def resume_or_start(self) -> None:
        """Train to the end (or to where it is to stop), from the last whole checkpoint where there is one."""
        if self.is_world_process_zero():
            remove_torn(Path(self.args.output_dir))
        self.accelerator.wait_for_everyone()
        checkpoint = last_complete(Path(self.args.output_dir))
        if checkpoint is not None:
            self.counts = Counts(**json.loads((checkpoint / COUNTS_FILE).read_text()))
            if step_of(checkpoint) >= (
                self._stop_after or self.args.max_steps
            ):  # killed when all was trained
                self._load_from_checkpoint(str(checkpoint))
                self.state.global_step = step_of(checkpoint)
                return
        if self._stop_after is not None:
            self.add_callback(_StopAfter(self._stop_after))
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


class _StopAfter(TrainerCallback):
    """Stops after a step, with a checkpoint; the schedule knows nothing of it."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step >= self._step:
            control.should_save = control.should_training_stop = True


class Guard(TrainerCallback):
    """Stops before gradients that are not numbers do harm, and marks checkpoints whole."""

    def __init__(self) -> None:
        self.trainer: StreamTrainer | None = None  # set once the trainer is there

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raises NonFiniteGradients before the optimizer sees them (fp16's scaler skips such steps itself)."""
        if args.fp16:
            return
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        if not bool(torch.isfinite(norms).all()):
            raise NonFiniteGradients(
                f"the gradients of step {state.global_step + 1} are not finite; the checkpoints before it are "
                "whole. Try a smaller optim.learning_rate, or model.dtype=float32"
            )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self.trainer is not None:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (checkpoint / COUNTS_FILE).write_text(json.dumps(asdict(self.trainer.counts)))
            mark_complete(checkpoint)


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
        # transformers' own "constant" takes no warm-up, and says nothing about it
        lr_scheduler_type="constant_with_warmup" if optim.schedule == "constant" else optim.schedule,
        warmup_steps=optim.warmup if optim.warmup < 1 else int(optim.warmup),
        optim=optim.name,
        weight_decay=optim.weight_decay,
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
        dataloader_pin_memory=device.type == "cuda",
        activation_checkpointing=gradient_checkpointing,
        torch_compile=compile,
        train_sampling_strategy="sequential",  # the stream is shuffled already
        ignore_data_skip=iterable,  # it begins where it is to go on
        ddp_timeout=int(PATIENCE.total_seconds()),
        ddp_find_unused_parameters=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,  # samples fit when they come: nothing is cut unseen
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def make_trainer(
    model: Any,
    tokenizer: Any,
    dataset: Dataset | IterableDataset,
    arguments: SFTConfig,
    *,
    pad_id: int,
    part_names: Sequence[str],
    stop_after: int | None,
    callbacks: list[TrainerCallback],
) -> StreamTrainer:
    """The trainer, ready to start or to go on."""
    guard = Guard()
    trainer = StreamTrainer(
        part_names=part_names,
        stop_after=stop_after,
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=Collator(pad_id),
        processing_class=tokenizer,
        callbacks=[guard, *callbacks],
    )
    guard.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # the terminal is the job's
    for parameter in model.parameters():
        if (
            parameter.requires_grad
        ):  # SFTTrainer makes a quantised model's adapter bfloat16; loaded it is float32
            parameter.data = parameter.data.float()
    return trainer
