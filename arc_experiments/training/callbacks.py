"""What the trainer does at its checkpoints, and where it stops."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.training import optimizers
from arc_experiments.training.checkpoints import mark_complete

if TYPE_CHECKING:
    from arc_experiments.training.trainer import StreamTrainer

COUNTS_FILE = "counts.json"
BEST_FILE = "best.json"


class StopAfter(TrainerCallback):
    """Stops after a step, with a checkpoint; the schedule knows nothing of it."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step >= self._step:
            control.should_save = control.should_training_stop = True


class Checkpoints(TrainerCallback):
    """Completes each checkpoint and marks it whole."""

    def __init__(self, trainer: "StreamTrainer") -> None:
        self._trainer = trainer

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer.accelerator.wait_for_everyone()  # each rank writes a part
        if not state.is_world_process_zero:
            return
        checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self._write_own_state(checkpoint)
        mark_complete(checkpoint)
        if self._trainer.best is not None:
            self._trainer.best.remove_others()

    def _write_own_state(self, checkpoint: Path) -> None:
        trainer = self._trainer
        (checkpoint / COUNTS_FILE).write_text(json.dumps(asdict(trainer.counts)))
        if not trainer.is_fsdp_enabled:  # its optimizer is stored in pieces that have no names
            parameters = optimizers.describe(trainer.optimizer, trainer.model, trainer.args.optim.value)
            (checkpoint / optimizers.PARAMETERS_FILE).write_text(json.dumps(parameters))
        if trainer.best is not None:
            (checkpoint / BEST_FILE).write_text(json.dumps(trainer.best.stored()))
