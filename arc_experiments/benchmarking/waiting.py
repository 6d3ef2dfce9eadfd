"""A short real training for each number of workers: which share of its time it waits for data."""

import time
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.run import Run
from arc_experiments.training.trainer import StreamTrainer

NUM_WARM = 2  # steps before the clock runs: workers start, caches fill


def measure(run: Run, *, workers: Sequence[int], max_seconds: float) -> dict[str, Any]:
    """Each number of workers for an equal share of the time."""
    model, rows = run.model(), []
    for num_workers in workers:
        run.config.hardware.num_workers = num_workers
        watch = _Watch(max_seconds / len(workers))
        trainer = watch.trainer = run.trainer(model, [watch])
        trainer.resume_or_start()
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        rows.append({"num_workers": num_workers, **watch.result()})
    return {"workers": rows}


class _Watch(TrainerCallback):
    """Notes time, waiting and tokens after the warm steps; ends the training when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.trainer: StreamTrainer | None = None  # set once the trainer is there
        self._seconds = seconds
        self._notes: list[tuple[float, float, int]] = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.trainer is not None
        if state.global_step < NUM_WARM:
            return
        tokens = self.trainer.session_counts.tokens
        self._notes.append((time.perf_counter(), self.trainer.data_wait_seconds, tokens))
        over = self._notes[-1][0] - self._notes[0][0] > self._seconds
        control.should_training_stop = over and len(self._notes) > 1

    def result(self) -> dict[str, Any]:
        seconds, waited, tokens = (
            last - first for first, last in zip(self._notes[0], self._notes[-1], strict=True)
        )
        return {
            "data_wait_fraction": waited / seconds,
            "tokens_per_second": tokens / seconds,
            "steps": len(self._notes) - 1,
        }
