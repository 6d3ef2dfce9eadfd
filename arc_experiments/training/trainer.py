"""TRL's SFTTrainer around the stream.

What it adds: counts of what was trained on (kept with each checkpoint, so that a resumed run has them too),
the time spent waiting for data, guards, checkpoints with a mark of completeness, the best validation's weights,
a start from another run's moments, and a schedule whose horizon is `max_steps` wherever the run stops.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from arc_experiments.models.packed_attention import by_sample
from arc_experiments.training import optimizers
from arc_experiments.training.best import Best
from arc_experiments.training.callbacks import PauseWhenDue, StopAfter
from arc_experiments.training.checkpoints import last_complete, remove_torn, step_of
from arc_experiments.training.dataset import COUNTED, as_tensors
from arc_experiments.training.losses import MAX_LOGITS, labelled_positions, summed_loss, takes_positions
from arc_experiments.training.prefetching import Ahead
from arc_experiments.training.schedules import cyclic_schedule
from arc_experiments.training.sharding import check_checkpoint

COUNTS_FILE = "counts.json"
BEST_FILE = "best.json"
STEPS_AHEAD = 2  # optimizer steps whose batches are made while one is computed


@dataclass
class Counts:
    """What the optimizer has seen since step 0, over all ranks."""

    samples: int = 0
    tokens: int = 0
    samples_shrunk: int = 0
    samples_redrawn: int = 0
    pairs_redrawn: int = 0  # by generators
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
        embedding_learning_rate: of trained embeddings, if not that of the rest.
        load_state: a run folder whose optimizer's moments a new training begins with.
        label_smoothing: share of each target that goes to the whole vocabulary.
        attends_by_sample: of packed rows each sample by itself, where there is no flash attention for it (a CPU).
        cycles: of the cyclic schedule; None for the schedule that the arguments name.
        best: keeps the weights of the best validation.
        is_pause_due: whether this process is to pause at the end of a step, numbered from 1; then all do.
    """

    def __init__(
        self,
        *,
        part_names: Sequence[str],
        stop_after: int | None = None,
        embedding_learning_rate: float | None = None,
        load_state: Path | None = None,
        label_smoothing: float = 0.0,
        attends_by_sample: bool = False,
        cycles: int | None = None,
        best: Best | None = None,
        is_pause_due: Callable[[int], bool] = lambda step: False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._part_names, self._stop_after, self._load_state = part_names, stop_after, load_state
        self._embedding_learning_rate, self._cycles = embedding_learning_rate, cycles
        self._attends_by_sample = attends_by_sample
        self._label_smoothing, self._takes_positions = label_smoothing, takes_positions(self.model)
        self._is_ours = bool(label_smoothing)  # the loss of this step, from logits at labelled positions
        self.best = best
        self.counts = Counts()
        self.session_counts = Counts()  # since this process began, for speeds
        self.data_wait_seconds = 0.0
        self._earlier_seconds, self._began = 0.0, time.perf_counter()
        self._ahead: Ahead | None = None
        self._is_pause_due, self._all_know_of_pause = is_pause_due, False
        self._pausing = PauseWhenDue(lambda: self._all_know_of_pause)
        self.add_callback(self._pausing)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of one optimizer step, with the waiting timed and the samples counted.

        Along with the counts the processes tell each other whether one of them is to pause after it, and whether the loss
        of all of them can be ours: SFTTrainer's has them wait for each other, where ours does not.
        """
        start = time.perf_counter()
        if self._ahead is None or self._ahead.batches is not epoch_iterator:
            self._end_ahead()
            self._ahead = Ahead(epoch_iterator, depth=STEPS_AHEAD * num_batches)
        batches, num_items = super().get_batch_samples(map(as_tensors, self._ahead), num_batches, device)
        self.data_wait_seconds += time.perf_counter() - start
        marks = self._take_marks(batches)
        flags = [
            self._is_pause_due(self.state.global_step + 1),
            not all(self._is_better_ours(batch["labels"]) for batch in batches),
        ]
        mine = torch.cat([marks, torch.tensor(flags, dtype=marks.dtype)]).to(device)
        *all_ranks, pausing, theirs = self.accelerator.reduce(mine, reduction="sum").tolist()
        self._all_know_of_pause = pausing > 0
        self._is_ours = bool(self._label_smoothing) or theirs == 0
        self.counts = self.counts.plus(all_ranks, self._part_names)
        self.session_counts = self.session_counts.plus(all_ranks, self._part_names)
        return batches, num_items

    def _take_marks(self, batches: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Take what is counted off the batches: summed over their rows, see `make_row`."""
        return torch.stack([batch.pop("marks").sum(0) for batch in batches]).sum(0)

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

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
            generator=torch.Generator(),  # the global one is the dropout's
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimizer that the name means, with our groups and, at the start of a second stage, another run's moments."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self._embedding_learning_rate is not None:
            optimizers.split_embeddings(optimizer, self.model, self._embedding_learning_rate)
        if is_new and self._load_state is not None:
            now = optimizers.describe(optimizer, self.model, self.args.optim.value)
            optimizers.load_moments(optimizer, now, self._load_state)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule that the name means, or the cyclic one that it lacks."""
        if self._cycles is not None and self.lr_scheduler is None:
            self.lr_scheduler: Any = cyclic_schedule(
                optimizer or self.optimizer,
                warmup_steps=self.args.get_warmup_steps(num_training_steps),
                max_steps=num_training_steps,
                cycles=self._cycles,
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """SFTTrainer's loss, or ours from the logits at labelled positions (see `losses`)."""
        if not self._is_ours:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs, logits, targets = self._at_labels(model, inputs)
        loss = summed_loss(logits, targets, self._label_smoothing)
        # DDP averages the gradients, and the count is that of all ranks.
        loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def _at_labels(self, model: Any, inputs: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """The model's outputs, its logits at the labelled positions, and the tokens that come after those."""
        positions = labelled_positions(inputs["labels"])
        given = {name: value for name, value in inputs.items() if name != "labels"}
        if self._takes_positions:
            outputs = model(**given, use_cache=False, logits_to_keep=positions)
            logits = outputs.logits
        else:
            outputs = model(**given, use_cache=False)
            logits = outputs.logits[:, positions]
        return outputs, logits, inputs["labels"][:, positions + 1]

    def _is_better_ours(self, labels: torch.Tensor) -> bool:
        """Whether the loss of such a batch is better made from logits at labelled positions."""
        if self.args.device.type != "cpu" or not self._takes_positions or self.aux_loss_enabled:
            return False
        vocabulary: int = self.model.config.get_text_config().vocab_size
        return len(labels) * len(labelled_positions(labels)) * vocabulary <= MAX_LOGITS

    @property
    def seconds(self) -> float:
        """Seconds of training since step 0, those of earlier attempts up to their checkpoints included."""
        return self._earlier_seconds + time.perf_counter() - self._began

    def resume_or_start(self) -> None:
        """Train to the end (or to where it is to stop), from the last whole checkpoint where there is one."""
        self._began = time.perf_counter()
        folder = Path(self.args.output_dir)
        if self.is_world_process_zero():
            remove_torn(folder)
        self.accelerator.wait_for_everyone()
        checkpoint = last_complete(folder)
        if checkpoint is not None:
            check_checkpoint(checkpoint, is_sharded=self.is_fsdp_enabled)
            self._load_state = None
            self.take_own_state(checkpoint)
            all_trained = step_of(checkpoint) >= (self._stop_after or self.args.max_steps)
            if all_trained or self.is_given_up:  # killed after that
                if self.is_fsdp_enabled:  # shards the model first
                    self._prepare_for_training(self.args.max_steps, None, str(checkpoint))
                else:
                    self._load_from_checkpoint(str(checkpoint))
                stored = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
                self.state.global_step, self.state.log_history = stored.global_step, stored.log_history
                return
        if self._stop_after is not None:
            self.add_callback(StopAfter(self._stop_after))
        try:
            with by_sample() if self._attends_by_sample else nullcontext():
                self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            self._end_ahead()

    def own_state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the Trainer's files, by file name."""
        state: dict[str, Any] = {COUNTS_FILE: {**asdict(self.counts), "seconds": self.seconds}}
        if not self.is_fsdp_enabled:  # its optimizer is stored in pieces that have no names
            state[optimizers.PARAMETERS_FILE] = optimizers.describe(
                self.optimizer, self.model, self.args.optim.value
            )
        if self.best is not None:
            state[BEST_FILE] = self.best.stored()
        return state

    def take_own_state(self, checkpoint: Path) -> None:
        """Go on from `own_state` as a checkpoint holds it."""
        counts = json.loads((checkpoint / COUNTS_FILE).read_text())
        self._earlier_seconds = counts.pop("seconds")
        self.counts = Counts(**counts)
        if self.best is not None:
            self.best.restore(json.loads((checkpoint / BEST_FILE).read_text()))

    @property
    def has_paused(self) -> bool:
        """Whether it has left the rest of the training to a later start."""
        return self._pausing.has_paused

    @property
    def is_given_up(self) -> bool:
        """Whether validation has not become better for as long as the patience lasts."""
        return self.best is not None and self.best.is_given_up
