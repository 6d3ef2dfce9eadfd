"""Our job's training (SFTTrainer as `run.trainer` builds it) against a bare PyTorch loop.

Both train the composition's model on the same rows of one length, in the same dtype, with the same number of
batches a step; a block of steps of the one, then as many of the other. The bare loop has its batches collated
in memory, clips no gradients and logs nothing; of several processes each has a bare loop of its own, which
waits for nobody. Rows of a given length are samples of the stream joined and cut to their last tokens, so they
end with an answer.
"""

import itertools
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.benchmarking.measuring import flops_utilisation, now, peak_flops, summary
from arc_experiments.benchmarking.rows import FixedRows, rows_of_length, rows_of_size
from arc_experiments.environment import device_name, peak_memory_bytes
from arc_experiments.run import Run
from arc_experiments.training.dataset import Collator, as_tensors, make_row

NUM_BATCHES = 8  # different ones, which come in turn


def measure(
    run: Run,
    *,
    rounds: int,
    max_seconds: float,
    packing: bool = False,
    length: int | None = None,
    input_size: str | None = None,
) -> dict[str, Any]:
    """Tokens/s of both, over all processes; peak memory of ours; how much of the GPU is used.

    Args:
        packing: samples of a row are kept apart.
        length: of the rows, in tokens; or
        input_size: "2x30": rows of two demonstrations and a test pair with grids of 30 x 30.
    """
    num_rows = NUM_BATCHES * run.per_device_batch_size
    if length is not None:
        rows = rows_of_length(run, length, num_rows, packing=packing)
    else:
        rows = rows_of_size(run, str(input_size), num_rows)
    fixed = _FixedRun(run, rows)
    model, bare = fixed.model(), _BareLoop(fixed, rows)
    alternate = _Alternate(fixed, bare, rounds=rounds, seconds=max_seconds / 2 / rounds)
    fixed.trainer(model, [alternate]).resume_or_start()
    speed = summary("tokens_per_second", alternate.ours)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    peak = peak_flops(device_name(run.device), run.dtype)
    per_device = speed["tokens_per_second"] / run.processes.num_processes
    return {
        "length": rows.num_tokens,
        "accumulation": bare.accumulation,
        **speed,
        "rows_per_second": speed["tokens_per_second"] / rows.num_tokens,
        **_compared(alternate),
        "peak_memory_bytes": alternate.peak_memory_bytes,
        "num_parameters": num_parameters,
        "flops_utilisation": flops_utilisation(num_parameters, per_device, peak),
    }


def _compared(alternate: "_Alternate") -> dict[str, Any]:
    """The bare loop's side; null where two models do not fit beside each other."""
    if len(alternate.bare) < len(alternate.ours):
        return {"bare_tokens_per_second": None, "relative_speed": None}
    ratios = [ours / bare for ours, bare in zip(alternate.ours, alternate.bare, strict=True)]
    return {**summary("bare_tokens_per_second", alternate.bare), **summary("relative_speed", ratios)}


class _FixedRun(Run):
    """The run with its stream replaced."""

    def __init__(self, run: Run, rows: FixedRows) -> None:
        super().__init__(run.folder)
        self._fixed = rows

    def stream(self) -> FixedRows:
        return self._fixed


class _BareLoop:
    """Forward, backward, AdamW, and nothing else."""

    def __init__(self, run: Run, rows: FixedRows) -> None:
        size = run.per_device_batch_size
        self.accumulation = run.config.optim.batch_size // (size * run.processes.num_processes)
        self.step_tokens = run.config.optim.batch_size * rows.num_tokens
        self._run = run
        self._batches = itertools.cycle(_collated(rows, size, run.prompt.pad_id))

    def start(self) -> None:
        """Make the model, and take the first step, which is slow."""
        self._model: Any = self._run.model().train()
        if self._run.config.model.gradient_checkpointing:
            self._model.gradient_checkpointing_enable({"use_reentrant": False})
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        self._optimizer = torch.optim.AdamW(trained, lr=self._run.config.optim.learning_rate)
        device = self._run.device
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._run.dtype == torch.float16)
        self.step()

    def step(self) -> None:
        """One optimizer step."""
        for _ in range(self.accumulation):
            batch = {name: values.to(self._run.device) for name, values in next(self._batches).items()}
            with self._run.autocast():
                loss = self._model(**batch, use_cache=False).loss / self.accumulation
            self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()

    def release(self) -> None:
        """Give the memory back."""
        del self._model, self._optimizer
        torch.cuda.empty_cache()


def _collated(rows: FixedRows, size: int, pad_id: int) -> list[dict[str, torch.Tensor]]:
    collator, batches = Collator(pad_id), []
    for start in range(0, len(rows), size):
        batch = collator([make_row(rows, number) for number in range(start, start + size)])
        batches.append({name: values for name, values in as_tensors(batch).items() if name != "marks"})
    return batches


class _Alternate(TrainerCallback):
    """After each block of the trainer's steps, as many of the bare loop's; notes the tokens/s of each block.

    The first step warms up, the second says how many make a block: all processes must agree on that.
    """

    def __init__(self, run: Run, bare: _BareLoop, *, rounds: int, seconds: float) -> None:
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.peak_memory_bytes = 0
        self._run, self._loop, self._rounds, self._seconds = run, bare, rounds, seconds
        self._start, self._block = 0.0, 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        time = now(self._run.device)
        if state.global_step == 1:
            self._start = time
        elif state.global_step == 2:
            steps = [max(1, round(self._seconds / (time - self._start)))]
            broadcast_object_list(steps)
            self._block, self._start = steps[0], now(self._run.device)
        elif (state.global_step - 2) % self._block == 0:
            self.ours.append(self._block * self._loop.step_tokens / (time - self._start))
            if len(self.ours) == 1:  # the bare loop has no model yet
                self.peak_memory_bytes = peak_memory_bytes(self._run.device)
            self._measure_bare()
            control.should_training_stop = len(self.ours) == self._rounds
            self._run.processes.wait_for_everyone()
            self._start = now(self._run.device)

    def _measure_bare(self) -> None:
        if len(self.bare) < len(self.ours) - 1:  # it did not fit
            return
        try:
            if not self.bare:
                self._loop.start()
            start = now(self._run.device)
            for _ in range(self._block):
                self._loop.step()
            self.bare.append(self._block * self._loop.step_tokens / (now(self._run.device) - start))
        except torch.OutOfMemoryError:
            self._loop.release()
