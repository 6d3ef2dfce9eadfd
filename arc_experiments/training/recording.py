"""train_log.jsonl: a line for each logged step and for each validation, as they happen.

{"step": 10, "loss": 1.23, "learning_rate": 0.0001, "grad_norm": 0.5, "samples_per_second": 12.0, ...}
{"step": 50, "validation_loss": 1.1, "validation_task_mean": 1.2}   (and pass_at_2, where optim.best_by asks for it)
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.training.trainer import Counts, StreamTrainer
from arc_experiments.training.validation import ValidationLoss

Line = dict[str, float]


class Recorder(TrainerCallback):
    """Writes the log, runs the validation when it is due, and hands every line on.

    Args:
        evaluate: gives the validation loss of the model as it is; None where nothing can be measured.
        evaluate_untrained: the same, before the first step.
        score: gives what is to be logged beside the validation loss during training; None for nothing.
        eval_steps: every so many steps; None for never during training.
        on_line: called with each line after it is written.
        is_main: of several processes, which all validate, one writes.
    """

    def __init__(
        self,
        log: Path,
        *,
        evaluate: Callable[[], ValidationLoss | None],
        evaluate_untrained: Callable[[], ValidationLoss | None],
        score: Callable[[], dict[str, float]] | None = None,
        eval_steps: int | None,
        on_line: Callable[[Line], None],
        is_main: bool = True,
    ) -> None:
        self.trainer: StreamTrainer | None = None  # set once the trainer is there
        self.validations: dict[int, ValidationLoss | None] = {}
        self._evaluate, self._evaluate_untrained, self._score = evaluate, evaluate_untrained, score
        self._log, self._eval_steps, self._on_line = log, eval_steps, on_line
        self._since, self._waited = time.perf_counter(), 0.0
        self._counts, self._is_main = Counts(), is_main

    def write(self, line: Line) -> None:
        if not self._is_main:
            return
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._on_line(line)

    def validate(self, step: int) -> ValidationLoss | None:
        """The validation loss at this step, computed and written once; without one nothing is written."""
        if step not in self.validations:
            start = time.perf_counter()
            loss = self.validations[step] = self._evaluate() if step else self._evaluate_untrained()
            if loss is None:
                return None
            line = {"step": step, "validation_loss": loss.token_mean, "validation_task_mean": loss.task_mean}
            if len(loss.by_source) > 1:
                line |= {f"validation_loss.{name}": part.token_mean for name, part in loss.by_source.items()}
            if step and self._score is not None:
                line |= self._score()
            self._write_once(line)
            if step and self.trainer is not None and self.trainer.best is not None:
                self.trainer.best.consider(step, line, self.trainer)
            self._since += time.perf_counter() - start  # not training time
        return self.validations[step]

    def _write_once(self, line: Line) -> None:
        """Write it unless an attempt that was killed after it has."""
        if self._is_main and not (self._log.exists() and line in read_log(self._log)):
            self.write(line)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.trainer is not None
        if self.trainer.is_fsdp_enabled and state.global_step == 0:  # now it is sharded, and not before
            self.validate(0)
        self._since, self._counts = time.perf_counter(), self.trainer.counts

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._eval_steps is not None and state.global_step % self._eval_steps == 0:
            self.validate(state.global_step)
            if self.trainer is not None and self.trainer.is_given_up:
                control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "loss" not in logs or self.trainer is None or not state.is_world_process_zero:
            return
        now, counts = time.perf_counter(), self.trainer.counts
        seconds = now - self._since
        line = {"step": state.global_step} | {
            name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm") if name in logs
        }
        line["samples_per_second"] = (counts.samples - self._counts.samples) / seconds
        line["tokens_per_second"] = (counts.tokens - self._counts.tokens) / seconds
        line["data_wait_fraction"] = (self.trainer.data_wait_seconds - self._waited) / seconds
        self._since, self._counts, self._waited = now, counts, self.trainer.data_wait_seconds
        self.write(line)


def read_log(log: Path) -> list[Line]:
    """All lines of a train_log.jsonl; one that is being written, or that a kill has torn, is none yet."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
