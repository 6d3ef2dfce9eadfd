"""Our job's training (SFTTrainer as `run.trainer` builds it) against a bare PyTorch loop.

Both train the composition's model on the same rows of one length, in the same dtype, with the same number of
batches a step; a block of steps of the one, then as many of the other. The bare loop has its batches collated
in memory, and neither clips gradients nor logs. Rows of a given length are samples of the stream joined and
cut to their last tokens, so they end with an answer.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.benchmarking.measuring import flops_utilisation, now, peak_flops, summary
from arc_experiments.environment import device_name, peak_memory_bytes
from arc_experiments.prompts import Encoded
from arc_experiments.rngs import rng_for
from arc_experiments.run import Run
from arc_experiments.stream import Sample, SampleStream
from arc_experiments.tasks import Pair, Task
from arc_experiments.training.dataset import Collator

NUM_BATCHES = 8  # different ones, which come in turn


def measure(
    run: Run, *, rounds: int, max_seconds: float, length: int | None = None, input_size: str | None = None
) -> dict[str, Any]:
    """Tokens/s of both, peak memory of ours, and how much of the GPU is used.

    Args:
        length: of the rows, in tokens; or
        input_size: "2x30": rows of two demonstrations and a test pair with grids of 30 x 30.
    """
    num_rows = NUM_BATCHES * run.config.hardware.per_device_batch_size
    rows = rows_of_length(run, length, num_rows) if length else rows_of_size(run, str(input_size), num_rows)
    fixed = _FixedRun(run, rows)
    model = fixed.model()
    bare = _BareLoop(fixed, rows)
    alternate = _Alternate(fixed, bare, rounds=rounds, seconds=max_seconds / 2 / rounds)
    fixed.trainer(model, [alternate]).resume_or_start()
    tokens_per_second = summary("tokens_per_second", alternate.ours)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    peak = peak_flops(device_name(run.device), run.dtype)
    return {
        "length": len(rows[0].encoded),
        "accumulation": bare.accumulation,
        **tokens_per_second,
        "samples_per_second": tokens_per_second["tokens_per_second"] / len(rows[0].encoded),
        **_compared(alternate),
        "peak_memory_bytes": alternate.peak_memory_bytes,
        "num_parameters": num_parameters,
        "flops_utilisation": flops_utilisation(num_parameters, tokens_per_second["tokens_per_second"], peak),
    }


def _compared(alternate: "_Alternate") -> dict[str, Any]:
    """The bare loop's side; null where two models do not fit beside each other."""
    if len(alternate.bare) < len(alternate.ours):
        return {"bare_tokens_per_second": None, "relative_speed": None}
    ratios = [ours / bare for ours, bare in zip(alternate.ours, alternate.bare, strict=True)]
    return {**summary("bare_tokens_per_second", alternate.bare), **summary("relative_speed", ratios)}


def rows_of_length(run: Run, length: int, num_rows: int) -> list[Sample]:
    """Samples of exactly `length` tokens."""
    stream, rows, number = run.stream(), [], 0
    for _ in range(num_rows):
        ids, labels = np.zeros(0, np.int32), np.zeros(0, np.int32)
        while len(ids) < length:
            sample = stream[number]
            ids = np.concatenate([ids, sample.encoded.input_ids])
            labels = np.concatenate([labels, sample.encoded.labels])
            number += 1
        encoded = Encoded(input_ids=ids[-length:], labels=labels[-length:])
        rows.append(dataclasses.replace(sample, encoded=encoded))
    return rows


def rows_of_size(run: Run, input_size: str, num_rows: int) -> list[Sample]:
    """Samples with that many demonstrations and grids of that side, whatever the prompt's max_length."""
    num_demonstrations, side = map(int, input_size.split("x"))
    rows = []
    for number in range(num_rows):
        rng = rng_for("benchmark", run.config.seeds.stream, number)
        grids = rng.integers(0, 10, (num_demonstrations + 1, 2, side, side), dtype=np.uint8)
        pairs = tuple(Pair(input=before, output=after) for before, after in grids)
        task = Task(id=f"{input_size}-{number}", train=pairs[:-1], test=pairs[-1:])
        encoded = run.prompt.encode(task)
        rows.append(Sample(task=task, test_index=0, encoded=encoded, num_dropped=0, num_redrawn=0))
    return rows


class _FixedRows(SampleStream):
    """A stream that gives the same rows in turn."""

    def __init__(self, rows: list[Sample]) -> None:
        self._rows = rows

    def __getitem__(self, index: int) -> Sample:
        return self._rows[index % len(self._rows)]


class _FixedRun(Run):
    """The run with its stream replaced."""

    def __init__(self, run: Run, rows: list[Sample]) -> None:
        super().__init__(run.folder)
        self._rows = rows

    def stream(self) -> SampleStream:
        return _FixedRows(self._rows)


class _BareLoop:
    """Forward, backward, AdamW, and nothing else."""

    def __init__(self, run: Run, rows: list[Sample]) -> None:
        optim, hardware = run.config.optim, run.config.hardware
        size = hardware.per_device_batch_size
        self.accumulation = optim.batch_size // (size * hardware.num_processes)
        self.step_tokens = size * self.accumulation * len(rows[0].encoded)
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


def _collated(rows: list[Sample], size: int, pad_id: int) -> list[dict[str, torch.Tensor]]:
    collator, batches = Collator(pad_id), []
    for start in range(0, len(rows), size):
        chosen = [
            vars(row.encoded) | {"num_dropped": 0, "num_redrawn": 0} for row in rows[start : start + size]
        ]
        batch = collator(chosen)
        batches.append({name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    return batches


class _Alternate(TrainerCallback):
    """After each block of the trainer's steps, as many of the bare loop's; notes the tokens/s of each block."""

    def __init__(self, run: Run, bare: _BareLoop, *, rounds: int, seconds: float) -> None:
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.peak_memory_bytes = 0
        self._run, self._loop, self._rounds, self._seconds = run, bare, rounds, seconds
        self._start, self._steps = 0.0, -1  # the first step is not counted

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._steps += 1
        time = now(self._run.device)
        if self._steps == 0:
            self._start = time
        elif time - self._start >= self._seconds:
            self.ours.append(self._steps * self._loop.step_tokens / (time - self._start))
            if len(self.ours) == 1:  # the bare loop has no model yet
                self.peak_memory_bytes = peak_memory_bytes(self._run.device)
            self._measure_bare()
            control.should_training_stop = len(self.ours) == self._rounds
            self._start, self._steps = now(self._run.device), 0

    def _measure_bare(self) -> None:
        if len(self.bare) < len(self.ours) - 1:  # it did not fit
            return
        try:
            if not self.bare:
                self._loop.start()
            start = now(self._run.device)
            for _ in range(self._steps):
                self._loop.step()
            self.bare.append(self._steps * self._loop.step_tokens / (now(self._run.device) - start))
        except torch.OutOfMemoryError:
            self._loop.release()
