"""What stops a training that goes wrong while the last checkpoint is still good.

Every rank sees the same gradients, scale and (gathered) loss, so all of them decide alike.
"""

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.training.checkpoints import last_complete

log = logging.getLogger(__name__)

SPIKE_WINDOW = 50  # logged losses that the median is taken over
SPIKE_LEAST = 10  # logged losses before which no spike is called one


class TrainingStopped(RuntimeError):
    """A guard has stopped the training; the message says why, what to try, and what the last good state is."""


class NonFiniteGradients(TrainingStopped):
    """Gradients that are not numbers; the weights are those of the step before."""


class SkippedSteps(TrainingStopped):
    """float16's loss scale found no value at which gradients are finite."""


class LossSpike(TrainingStopped):
    """A loss far above its moving median."""


class ScaleWatch:
    """Follows float16's loss scale, which is halved (and the step skipped) whenever gradients overflow."""

    def __init__(self, max_skipped_steps: int) -> None:
        self._max_skipped_steps = max_skipped_steps
        self._num_skipped = 0
        self._is_low = False

    def note(self, scale: float, *, skipped: bool) -> str | None:
        """Take in one optimizer step; gives a warning when the scale falls below 1.

        Raises:
            SkippedSteps: as many as `max_skipped_steps` in a row.
        """
        self._num_skipped = self._num_skipped + 1 if skipped else 0
        fell, self._is_low = scale < 1 and not self._is_low, scale < 1
        if self._num_skipped >= self._max_skipped_steps:
            raise SkippedSteps(
                f"float16: {self._num_skipped} steps in a row had gradients beyond its range (the loss scale is "
                f"down to {scale:g}). Try model.dtype=bfloat16, or a smaller optim.learning_rate"
            )
        return (
            f"float16: the loss scale has fallen to {scale:g}; gradients may soon be lost" if fell else None
        )


def spike(losses: Sequence[float], factor: float) -> float | None:
    """The median of the losses before the last one, if that is more than `factor` times it."""
    before = losses[-SPIKE_WINDOW - 1 : -1]
    if len(before) < SPIKE_LEAST:
        return None
    median = statistics.median(before)
    return median if losses[-1] > factor * median else None


class Guard(TrainerCallback):
    """Stops before gradients that are not numbers do harm, when float16 is at its end, and at spikes if asked.

    Args:
        accelerator: holds float16's scaler.
    """

    def __init__(
        self, accelerator: Any, *, max_skipped_steps: int, spike_factor: float | None, stop_on_spike: bool
    ) -> None:
        self._accelerator = accelerator
        self._scale_watch = ScaleWatch(max_skipped_steps)
        self._spike_factor, self._stop_on_spike = spike_factor, stop_on_spike

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raises NonFiniteGradients before the optimizer sees them (fp16's scaler skips such steps itself)."""
        if args.fp16:
            return
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = get_total_norm(gradients)
        if isinstance(norm, DTensor):  # of shards: so the same in all processes
            norm = norm.full_tensor()
        if not bool(torch.isfinite(norm)):
            raise NonFiniteGradients(
                f"the gradients of step {state.global_step + 1} are not finite. Try a smaller "
                f"optim.learning_rate, or model.dtype=float32. {_last_good(args)}"
            )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        scaler = self._accelerator.scaler
        if scaler is None:
            return
        try:
            warning = self._scale_watch.note(
                scaler.get_scale(), skipped=bool(self._accelerator.optimizer_step_was_skipped)
            )
        except SkippedSteps as error:
            raise SkippedSteps(f"step {state.global_step + 1}: {error}. {_last_good(args)}") from None
        if warning is not None and state.is_world_process_zero:
            log.warning("step %d: %s", state.global_step + 1, warning)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Compare a logged loss with those before it, which the trainer's state keeps over a resume."""
        if self._spike_factor is None or logs is None or "loss" not in logs:
            return
        recent = state.log_history[-2 * SPIKE_WINDOW :]
        # Of adapters that are trained together each has its own.
        logged = [entry.get("losses", [entry["loss"]]) for entry in recent if "loss" in entry]
        for losses in zip(*logged, strict=True):
            self._compare(losses, self._spike_factor, args, state)

    def _compare(
        self, losses: Sequence[float], factor: float, args: TrainingArguments, state: TrainerState
    ) -> None:
        median = spike(losses, factor)
        if median is None:
            return
        message = (
            f"step {state.global_step}: the loss {losses[-1]:.4g} is more than optim.spike_factor="
            f"{factor:g} times its median of late ({median:.4g})"
        )
        if self._stop_on_spike:
            raise LossSpike(f"{message}. Try a smaller optim.learning_rate. {_last_good(args)}")
        if state.is_world_process_zero:
            log.warning("%s", message)


def _last_good(args: TrainingArguments) -> str:
    checkpoint = last_complete(Path(str(args.output_dir)))
    return f"The last whole checkpoint is {'none yet' if checkpoint is None else checkpoint}"
