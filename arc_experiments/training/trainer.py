"""TRL's SFTTrainer on the stream.

It adds counts of what was trained on (kept in each checkpoint, so that a resumed run has them too), the time
spent waiting for data, reasons to stop, the best validation's weights, another run's optimizer moments to
start from, and a schedule whose horizon is `max_steps` wherever the run stops.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from arc_experiments.models.packed_attention import by_sample
from arc_experiments.tasks.task import REFUSALS
from arc_experiments.training import optimizers
from arc_experiments.training.best import Best, BestState
from arc_experiments.training.checkpoints import Checkpoints, last_complete, remove_torn, step_of
from arc_experiments.training.dataset import COUNTED, as_tensors
from arc_experiments.training.losses import labelled_positions, summed_loss, takes_positions
from arc_experiments.training.prefetching import Ahead
from arc_experiments.training.schedules import Shares, schedule_of
from arc_experiments.training.sharding import check_checkpoint

COUNTS_FILE = "counts.json"
BEST_FILE = "best.json"
# torch begins at 65,536 and skips steps until gradients fit: three of the few that a task is fine-tuned with.
FIRST_LOSS_SCALE = 1024.0
STEPS_AHEAD = 2  # optimizer steps whose batches are made while one is computed


@dataclass
class Counts:
    """What the optimizer has seen since step 0, over all ranks."""

    samples: int = 0
    tokens: int = 0
    samples_shrunk: int = 0
    samples_redrawn: int = 0
    steps_left_out: int = 0  # of augmentations, for they could not be carried into a program
    pairs_redrawn: int = 0  # by generators
    pairs_redrawn_by_reason: dict[str, int] = field(default_factory=dict)  # of REFUSALS
    by_source: dict[str, int] = field(default_factory=dict)  # samples

    def plus(self, marks: list[int], part_names: Sequence[str]) -> "Counts":
        """Return the counts with the summed marks of more rows added, see `make_row`."""
        values = {name: getattr(self, name) + more for name, more in zip(COUNTED, marks, strict=False)}
        further = iter(marks[len(COUNTED) :])
        by_reason = {name: self.pairs_redrawn_by_reason.get(name, 0) + next(further) for name in REFUSALS}
        by_source = {name: self.by_source.get(name, 0) + next(further) for name in part_names}
        return Counts(**values, pairs_redrawn_by_reason=by_reason, by_source=by_source)


class StopWhen(TrainerCallback):
    """Stops after the first step at whose end a reason holds, the first of those that do.

    Attributes:
        stopped_by: the reason's name; None before.
    """

    def __init__(self) -> None:
        self.stopped_by: str | None = None
        self._reasons: dict[str, tuple[Callable[[], bool], bool]] = {}

    def add(self, reason: str, holds: Callable[[], bool], *, saves: bool = True) -> None:
        """Add a reason; `saves`: write a checkpoint when it stops the training."""
        self._reasons[reason] = (holds, saves)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for reason, (holds, saves) in self._reasons.items():
            if not control.should_training_stop and holds():
                self.stopped_by, control.should_training_stop = reason, True
                control.should_save = control.should_save or saves


class StreamTrainer(SFTTrainer):
    """SFTTrainer that counts its samples and times its waiting.

    Args:
        part_names: of the stream's parts, in its order.
        guard: a callback that stops a diverging training.
        stop_after: the step to stop after, if not `max_steps`.
        embedding_learning_rate: of trained embeddings, if not that of the rest.
        load_state: a run folder whose optimizer moments a new training starts with.
        label_smoothing: share of each target that goes to the whole vocabulary.
        loss_at_labels: compute the loss from logits at labelled positions, see `losses`; the same in all
            processes.
        attends_by_sample: attend within each sample of packed rows, where flash attention is missing (a CPU).
        shares: a schedule of our own; None for the one that the arguments name.
        best: keeps the weights of the best validation.
        is_pause_due: whether this process should pause at the end of a step, numbered from 1; then all do.

    Attributes:
        attends_by_sample: as given.
        stops: reasons to stop before `max_steps`.
        surrounding: makes a context for the whole training.
        session_counts: what this process has seen since it started, for speeds.
    """

    def __init__(
        self,
        *,
        part_names: Sequence[str],
        guard: TrainerCallback,
        stop_after: int | None = None,
        embedding_learning_rate: float | None = None,
        load_state: Path | None = None,
        label_smoothing: float = 0.0,
        loss_at_labels: bool = False,
        attends_by_sample: bool = False,
        shares: Shares | None = None,
        best: Best | None = None,
        is_pause_due: Callable[[int], bool] = lambda step: False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._part_names, self._stop_after, self._load_state = part_names, stop_after, load_state
        self._embedding_learning_rate, self._shares = embedding_learning_rate, shares
        self.attends_by_sample, self._guard = attends_by_sample, guard
        self._label_smoothing, self._takes_positions = label_smoothing, takes_positions(self.model)
        self._loss_at_labels = bool(label_smoothing) or (loss_at_labels and not self.aux_loss_enabled)
        if self._loss_at_labels:  # divided by the count of labels here, whatever the model's own loss does
            self.model_accepts_loss_kwargs = True
        self.best = best
        self.counts = Counts()
        self.session_counts = Counts()
        self.data_wait_seconds = 0.0
        self._earlier_seconds, self._began = 0.0, time.perf_counter()
        self._ahead: Ahead | None = None
        self._is_pause_due, self._all_know_of_pause = is_pause_due, False
        self.stops = StopWhen()
        self.surrounding: Callable[[], AbstractContextManager[None]] = nullcontext
        self.stops.add("patience", lambda: self.is_given_up)
        self.stops.add("pause", self._may_pause)
        if stop_after is not None:
            self.stops.add("stop_after", lambda: self.state.global_step >= stop_after)

    def create_accelerator_and_postprocess(self) -> None:
        """Let float16 begin with a smaller loss scale, and compute in it on a CPU, as accelerate does not."""
        super().create_accelerator_and_postprocess()
        if self.args.fp16:
            self.accelerator.native_amp = True
            self.accelerator.scaler = torch.amp.GradScaler(
                self.accelerator.device.type, init_scale=FIRST_LOSS_SCALE
            )

    def _may_pause(self) -> bool:
        """Whether all processes knew at this step's start that one must pause, and the step is logged.

        A logged loss is the mean since the one before, which a checkpoint between the two would forget.
        """
        return self._all_know_of_pause and self.state.global_step % self.args.logging_steps == 0

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Return the micro-batches of one optimizer step; time the waiting and count the samples.

        Along with the counts, the processes tell each other whether one of them must pause after this step.
        """
        start = time.perf_counter()
        if self._ahead is None or self._ahead.batches is not epoch_iterator:
            self._end_ahead()
            self._ahead = Ahead(epoch_iterator, depth=STEPS_AHEAD * num_batches, then=self._complete)
        batches, num_items = super().get_batch_samples(self._ahead, num_batches, device)
        self.data_wait_seconds += time.perf_counter() - start
        marks = self._take_marks(batches)
        pauses = torch.tensor([self._is_pause_due(self.state.global_step + 1)], dtype=marks.dtype)
        mine = torch.cat([marks, pauses]).to(device)
        *all_ranks, num_pausing = self.accelerator.reduce(mine, reduction="sum").tolist()
        self._all_know_of_pause = num_pausing > 0
        self.counts = self.counts.plus(all_ranks, self._part_names)
        self.session_counts = self.session_counts.plus(all_ranks, self._part_names)
        return batches, num_items

    def _complete(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return as_tensors(self.data_collator.complete(batch))

    def _take_marks(self, batches: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Take what is counted off the batches: summed over their rows, see `make_row`."""
        return torch.stack([batch.pop("marks").sum(0) for batch in batches]).sum(0)

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def get_train_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        """Load rows. An IterableDataset has this rank's only: accelerate must not share them out again."""
        if not isinstance(self.train_dataset, IterableDataset):
            loader: DataLoader = super().get_train_dataloader()  # type: ignore[type-arg]
            return loader
        return DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            num_workers=self.args.dataloader_num_workers,
            collate_fn=self.data_collator,
            generator=torch.Generator(),  # dropout uses the global one
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the named optimizer with our groups and, in a new second stage, another run's moments."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self._embedding_learning_rate is not None:
            optimizers.split_embeddings(optimizer, self.model, self._embedding_learning_rate)
        if is_new and self._load_state is not None:
            now = optimizers.describe(optimizer, self.model, self.args.optim.value)
            optimizers.load_moments(optimizer, now, self._load_state)
        return optimizer

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card into checkpoints, for which TRL asks wandb."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule that the arguments name, or our own."""
        if self._shares is not None and self.lr_scheduler is None:
            self.lr_scheduler: Any = schedule_of(
                self._shares,
                optimizer or self.optimizer,
                warmup_steps=self.args.get_warmup_steps(num_training_steps),
                max_steps=num_training_steps,
            )
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return SFTTrainer's loss, or the same from logits at labelled positions (see `losses`)."""
        if not self._loss_at_labels:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs, logits, targets = self._at_labels(model, inputs)
        loss = summed_loss(logits, targets, self._label_smoothing)
        # DDP averages the gradients, and the count is that of all ranks.
        loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def _at_labels(self, model: Any, inputs: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Return the model's outputs, its logits at labelled positions, and the tokens that follow those."""
        positions = labelled_positions(inputs["labels"])
        given = {name: value for name, value in inputs.items() if name != "labels"}
        if self._takes_positions:
            outputs = model(**given, use_cache=False, logits_to_keep=positions)
            logits = outputs.logits
        else:
            outputs = model(**given, use_cache=False)
            logits = outputs.logits[:, positions]
        return outputs, logits, inputs["labels"][:, positions + 1]

    @property
    def seconds(self) -> float:
        """Seconds of training since step 0, including earlier attempts up to their checkpoints."""
        return self._earlier_seconds + time.perf_counter() - self._began

    def leave_out(self, seconds: float) -> None:
        """Count the seconds that have just passed as something else than training."""
        self._began += seconds

    @property
    def has_paused(self) -> bool:
        """Whether it left the rest of the training to a later start."""
        return self.stops.stopped_by == "pause"

    @property
    def is_given_up(self) -> bool:
        """Whether validation has not improved for as long as the patience lasts."""
        return self.best is not None and self.best.is_given_up

    def resume_or_start(self) -> None:
        """Train to the end (or to where it must stop), from the last whole checkpoint if there is one."""
        with self.surrounding():
            self._resume_or_start()

    def _resume_or_start(self) -> None:
        self._began = time.perf_counter()
        folder = Path(self.args.output_dir)
        if self.is_world_process_zero():
            remove_torn(folder)
        self.accelerator.wait_for_everyone()
        checkpoint = last_complete(folder)
        if checkpoint is not None:
            check_checkpoint(checkpoint, is_sharded=self.is_fsdp_enabled)
            self._load_state = None
            self.read_state_files(checkpoint)
            all_trained = step_of(checkpoint) >= (self._stop_after or self.args.max_steps)
            if all_trained or self.is_given_up:  # killed after that
                self._load_finished(checkpoint)
                return
        checkpoints = Checkpoints(self.state_files, self.best.remove_others if self.best else None)
        # After the caller's: what a guard stops at is logged first, and a validation may end the patience.
        for callback in (self._guard, checkpoints, self.stops):
            self.add_callback(callback)
        try:
            with by_sample() if self.attends_by_sample else nullcontext():
                self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            self._end_ahead()

    def _load_finished(self, checkpoint: Path) -> None:
        """Load the weights and the log of a training that needs no further step."""
        if self.is_fsdp_enabled:  # shards the model first
            self._prepare_for_training(self.args.max_steps, None, str(checkpoint))
        else:
            self._load_from_checkpoint(str(checkpoint))
        stored = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self.state.global_step, self.state.log_history = stored.global_step, stored.log_history

    def state_files(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the Trainer's files, by the names of its JSON files."""
        state: dict[str, Any] = {COUNTS_FILE: {**asdict(self.counts), "seconds": self.seconds}}
        if not self.is_fsdp_enabled:  # its optimizer is stored in pieces that have no names
            state[optimizers.PARAMETERS_FILE] = optimizers.describe(
                self.optimizer, self.model, self.args.optim.value
            )
        if self.best is not None:
            state[BEST_FILE] = asdict(self.best.state)
        return state

    def read_state_files(self, checkpoint: Path) -> None:
        """Continue from the `state_files` in a checkpoint."""
        counts = json.loads((checkpoint / COUNTS_FILE).read_text())
        self._earlier_seconds = counts.pop("seconds")
        self.counts = Counts(**counts)
        if self.best is not None:
            self.best.state = BestState(**json.loads((checkpoint / BEST_FILE).read_text()))
