"""Stop a training that diverges while its last checkpoint is still good: gradients that are not finite, loss
spikes.

All ranks see the same gradients, loss scale and (gathered) loss, so they decide alike.
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

from arc_experiments.config.plurals import plural
from arc_experiments.training.checkpoints import last_complete

log = logging.getLogger(__name__)

SPIKE_WINDOW = 50  # logged losses that the median is taken over
SPIKE_LEAST = 10  # logged losses needed before the first spike can be detected


class TrainingStopped(RuntimeError):
    """A guard stopped the training; the message names the reason, a remedy and the last good checkpoint."""


class NonFiniteGradients(TrainingStopped):
    """Infinite or NaN gradients; the weights are those of the step before."""


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
        """Take in one optimizer step; return a warning when the scale falls below 1.

        Raises:
            SkippedSteps: `max_skipped_steps` in a row were skipped.
        """
        self._num_skipped = self._num_skipped + 1 if skipped else 0
        fell, self._is_low = scale < 1 and not self._is_low, scale < 1
        if self._num_skipped >= self._max_skipped_steps:
            raise SkippedSteps(
                f"float16: {plural(self._num_skipped, 'step')} in a row had gradients beyond its range (the "
                f"loss scale is down to {scale:g}). Try model.dtype=bfloat16, or a smaller "
                "optim.learning_rate"
            )
        if not fell:
            return None
        return f"float16: the loss scale has fallen to {scale:g}; small gradients may be lost soon"


def spike(losses: Sequence[float], factor: float) -> float | None:
    """Return the median of the losses before the last, if the last exceeds `factor` times it, else None."""
    before = losses[-SPIKE_WINDOW - 1 : -1]
    if len(before) < SPIKE_LEAST:
        return None
    median = statistics.median(before)
    return median if losses[-1] > factor * median else None


class Guard(TrainerCallback):
    """Stops before non-finite gradients do harm, when float16 keeps overflowing, and at loss spikes if asked.

    Args:
        max_skipped_steps: float16 steps in a row that may be skipped.
        spike_factor: a logged loss above this multiple of its moving median is a spike; None: never.
        stop_on_spike: raise at a spike instead of logging a warning.
    """

    def __init__(self, *, max_skipped_steps: int, spike_factor: float | None, stop_on_spike: bool) -> None:
        self._scale_watch = ScaleWatch(max_skipped_steps)
        self._spike_factor, self._stop_on_spike = spike_factor, stop_on_spike

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raise NonFiniteGradients before the optimizer sees them (fp16's scaler skips such steps itself)."""
        if args.fp16:
            return
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = get_total_norm(gradients)
        if isinstance(norm, DTensor):  # of shards: the full norm is the same in all processes
            norm = norm.full_tensor()
        if not bool(torch.isfinite(norm)):
            raise NonFiniteGradients(
                f"the gradients of step {state.global_step + 1} are not finite. Try a smaller "
                f"optim.learning_rate, or model.dtype=float32. {_last_good(args)}"
            )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs["optimizer"]  # accelerate's wrapper, which holds float16's scaler
        if optimizer.scaler is None:
            return
        try:
            scale, skipped = optimizer.scaler.get_scale(), bool(optimizer.step_was_skipped)
            warning = self._scale_watch.note(scale, skipped=skipped)
        except SkippedSteps as error:
            raise SkippedSteps(f"step {state.global_step + 1}: {error}. {_last_good(args)}") from None
        if not state.is_world_process_zero:
            return
        if skipped:
            log.info("step %d: float16: skipped, its gradients are beyond the range", state.global_step + 1)
        if warning is not None:
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
        # Adapters that are trained at once have a loss each.
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
            f"{factor:g} times its recent median ({median:.4g})"
        )
        if self._stop_on_spike:
            raise LossSpike(f"{message}. Try a smaller optim.learning_rate. {_last_good(args)}")
        if state.is_world_process_zero:
            log.warning("%s", message)


def _last_good(args: TrainingArguments) -> str:
    checkpoint = last_complete(Path(str(args.output_dir)))
    return f"The last whole checkpoint is {'none yet' if checkpoint is None else checkpoint}"
