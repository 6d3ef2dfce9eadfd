"""train_log.jsonl: a line for each logged step and for each validation, written as they happen.

{"step": 10, "loss": 1.23, "learning_rate": 0.0001, "grad_norm": 0.5, "samples_per_second": 12.0, ...}
{"step": 50, "validation_loss": 1.1, "validation_task_mean": 1.2}   (and pass_at_2 if optim.best_by names it)
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.runs.folder import write_whole
from arc_experiments.training.trainer import StreamTrainer
from arc_experiments.training.validation import ValidationLoss

Line = dict[str, float]


class Recorder(TrainerCallback):
    """Writes the log, validates when it is due, and passes every line on. Adds itself to the trainer.

    Args:
        evaluate: returns the validation loss of the current model; None if nothing can be measured.
        evaluate_untrained: the same of the untrained model.
        untrained_waits: whether that can be measured after the first step too; then it is, so that a step
            that does not fit into memory is known of at once.
        score: returns what to log beside the validation loss during training; None for nothing.
        eval_steps: optimizer steps between validations; None for none during training.
        on_line: called with each line after it is written.

    Attributes:
        validation_seconds: of the last validation during training; None before.
        untrained_seconds: of that of the untrained model, which are not the training's; 0 if it was validated
            by an earlier attempt.
        timed_steps: optimizer steps of this attempt that `step_seconds` is the mean of: all but the first.
    """

    def __init__(
        self,
        trainer: StreamTrainer,
        log: Path,
        *,
        evaluate: Callable[[], ValidationLoss | None],
        evaluate_untrained: Callable[[], ValidationLoss | None],
        untrained_waits: bool = False,
        score: Callable[[], dict[str, float]] | None = None,
        eval_steps: int | None,
        on_line: Callable[[Line], None],
    ) -> None:
        self.validations: dict[int, ValidationLoss | None] = {}
        self.validation_seconds: float | None = None
        self.untrained_seconds = 0.0
        self.timed_steps, self._timed_seconds = 0, 0.0
        self._step_ended: float | None = None
        self._trainer = trainer
        self._evaluate, self._evaluate_untrained, self._score = evaluate, evaluate_untrained, score
        self._untrained_waits = untrained_waits
        self._log, self._eval_steps, self._on_line = log, eval_steps, on_line
        self._since, self._waited = time.perf_counter(), 0.0
        self._counts = trainer.counts
        trainer.add_callback(self)

    def validate_untrained(self) -> None:
        """Validate the untrained model, before the training or within it. All processes must call this."""
        start = time.perf_counter()
        self.validate(0)
        self.untrained_seconds = time.perf_counter() - start
        self._trainer.leave_out(self.untrained_seconds)

    def validate(self, step: int) -> ValidationLoss | None:
        """Compute and write the validation loss of a step, once; return it. All processes must call this."""
        if step not in self.validations:
            start = time.perf_counter()
            with self.aside():
                loss = self.validations[step] = self._evaluate() if step else self._evaluate_untrained()
                if loss is not None:
                    self._record(step, loss)
            if step and loss is not None:
                self.validation_seconds = time.perf_counter() - start
        return self.validations[step]

    def _record(self, step: int, loss: ValidationLoss) -> None:
        line = {"step": step, "validation_loss": loss.token_mean, "validation_task_mean": loss.task_mean}
        if len(loss.by_source) > 1:
            line |= {f"validation_loss.{name}": part.token_mean for name, part in loss.by_source.items()}
        if step and self._score is not None:
            line |= self._score()
        if not (self._log.exists() and line in read_log(self._log)):  # by an attempt that was killed later
            self._write(line)
        if step and self._trainer.best is not None:
            self._trainer.best.consider(step, line, self._trainer)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make a context whose time does not count as that of training."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._since += seconds
        if self._step_ended is not None:
            self._step_ended += seconds

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._trainer.is_fsdp_enabled and state.global_step == 0:  # sharded only now
            self.validate_untrained()
        self._since, self._counts = time.perf_counter(), self._trainer.counts

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        now = time.perf_counter()
        if self._step_ended is not None:
            self.timed_steps += 1
            self._timed_seconds += now - self._step_ended
        self._step_ended = now
        if self._untrained_waits and state.global_step == 1:  # before its line and its checkpoint are written
            self.validate_untrained()
        if self._eval_steps is not None and state.global_step % self._eval_steps == 0:
            self.validate(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        now, counts, waited = time.perf_counter(), self._trainer.counts, self._trainer.data_wait_seconds
        seconds = now - self._since
        line = {"step": state.global_step} | {
            name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm") if name in logs
        }
        line["samples_per_second"] = (counts.samples - self._counts.samples) / seconds
        line["tokens_per_second"] = (counts.tokens - self._counts.tokens) / seconds
        line["data_wait_fraction"] = (waited - self._waited) / seconds
        self._since, self._counts, self._waited = now, counts, waited
        self._write(line)

    @property
    def step_seconds(self) -> float | None:
        """Seconds of an optimizer step; None before the second one of this attempt: the first warms up."""
        return self._timed_seconds / self.timed_steps if self.timed_steps else None

    def _write(self, line: Line) -> None:
        if not self._trainer.is_world_process_zero():
            return
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._on_line(line)


def read_log(log: Path) -> list[Line]:
    """Return all lines of a train_log.jsonl, except one that is being written or was torn by a kill."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_log(log: Path, last_step: int) -> None:
    """Drop the log's lines after `last_step` (and a torn one): the resumed run writes them again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > last_step:
                break
        except json.JSONDecodeError:
            break
        kept.append(f"{line}\n")
    write_whole(log, "".join(kept))
