"""What the trainer does at its checkpoints, and where it stops."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.training.best import Best
from arc_experiments.training.checkpoints import mark_complete


class StopAfter(TrainerCallback):
    """Stops after a step, with a checkpoint; the schedule knows nothing of it."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step >= self._step:
            control.should_save = control.should_training_stop = True


class PauseWhenDue(TrainerCallback):
    """Pauses after a logged step at whose beginning all processes knew that one of them is to, with a checkpoint.

    A logged loss is the mean since the one before, which a checkpoint between two would forget.

    Args:
        is_due: whether they did.
    """

    def __init__(self, is_due: Callable[[], bool]) -> None:
        self.has_paused = False
        self._is_due = is_due

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        is_logged = state.global_step % args.logging_steps == 0
        if is_logged and self._is_due() and not control.should_training_stop:
            self.has_paused = control.should_save = control.should_training_stop = True


class StopAtTime(TrainerCallback):
    """Stops after the step in which the time ran out, with the weights as they are then.

    Args:
        is_over: whether it has.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self.has_stopped = False
        self._is_over = is_over

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step < args.max_steps and self._is_over():
            self.has_stopped = control.should_training_stop = True


class Checkpoints(TrainerCallback):
    """Completes each checkpoint and marks it whole.

    Args:
        own_state: what else belongs into one, by the names of its JSON files.
        best: forgets bettered weights once a whole checkpoint knows better ones.
    """

    def __init__(
        self, accelerator: Accelerator, own_state: Callable[[], dict[str, Any]], best: Best | None
    ) -> None:
        self._accelerator, self._own_state, self._best = accelerator, own_state, best

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._accelerator.wait_for_everyone()  # each rank writes a part
        if not state.is_world_process_zero:
            return
        checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        for name, value in self._own_state().items():
            (checkpoint / name).write_text(json.dumps(value))
        mark_complete(checkpoint)
        if self._best is not None:
            self._best.remove_others()
