"""Our job's training (SFTTrainer as `run.trainer` builds it) against a bare PyTorch loop, block by block.

Both train the composition's model on the same rows of one length, in the same dtype, with the same number of
batches per step. Blocks alternate; each loads its own model after the other's has been released. The bare
loop has its batches collated in memory, clips no gradients and logs nothing; with several processes, each
runs a bare loop of its own without waiting for the others.
"""

import gc
import itertools
import operator
import re
from typing import Any, NamedTuple

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.benchmarking.measure import explain, now, summary
from arc_experiments.benchmarking.plan import OUT_OF_MEMORY
from arc_experiments.benchmarking.rows import FixedRows, rows_of_length, rows_of_size
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.run import Run
from arc_experiments.runs.environment import device_name, peak_memory_bytes
from arc_experiments.training.dataset import Collator, as_tensors, make_row
from arc_experiments.training.trainer import StreamTrainer

NUM_BATCHES = 8  # different ones, repeated in turn
NUM_WARM = 2  # steps before the clock runs, while workers start and caches fill
# Dense 16-bit peak of the makers' data sheets, FLOP/s; the longest matching name counts.
PEAK_FLOPS = {
    "H200": 989e12, "H200 NVL": 835e12, "H100": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12,
    "A100": 312e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
OTHER_CHIPS = {"Laptop", "MIG", "Ti", "D"}  # variants whose peak differs from that of the rest of the name


def measure_training(
    run: Run, *, packing: bool, length: int | None = None, input_size: str | None = None
) -> dict[str, Any]:
    """Measure tokens/s of both, over all processes, and the peak memory and GPU utilisation of ours.

    Args:
        packing: keep the samples of a row apart.
        length: tokens per row; or
        input_size: "2x30": rows of two demonstrations and a test pair with grids of 30 x 30.
    """
    num_rows = NUM_BATCHES * run.per_device_batch_size
    if length is not None:
        rows = rows_of_length(run, length, num_rows, packing=packing)
    else:
        rows = rows_of_size(run, str(input_size), num_rows)
    run.stream = lambda: rows  # type: ignore[method-assign, assignment, return-value]
    benchmark = run.config.benchmark
    steps: int | None = None
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(benchmark.rounds):
        model = run.model()
        num_parameters = model.num_parameters()  # knows that 4-bit weights are packed
        block = train(run, model, seconds=benchmark.max_seconds / 2 / benchmark.rounds, steps=steps)
        if not ours:
            peak_memory = peak_memory_bytes(run.device)  # before there is another loop
        steps = block.steps
        ours.append(block.tokens / block.seconds)
        del model
        release()
        if len(bare) == len(ours) - 1:
            bare += train_bare(run, rows, steps)
            release()
        run.processes.wait_for_everyone()
    speed = summary("tokens_per_second", ours)
    return {
        **speed,
        **_compared(ours, bare),
        "peak_memory_bytes": peak_memory,
        "flops_utilisation": utilisation(run, num_parameters, speed["tokens_per_second"]),
        "num_parameters": num_parameters,
        "length": rows.num_tokens,
        "accumulation": benchmark.accumulation,
        "steps": steps,
    }


def _compared(ours: list[float], bare: list[float]) -> dict[str, Any]:
    """Summarise the bare loop; null if it did not fit into memory."""
    if len(bare) < len(ours):
        return {"bare_tokens_per_second": None, "relative_speed": None}
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return {**summary("bare_tokens_per_second", bare), **summary("relative_speed", ratios)}


class TimedSteps(NamedTuple):
    """A block of training steps: their number, seconds, seconds waited for data, tokens of all processes."""

    steps: int
    seconds: float
    waited: float
    tokens: int


def train(run: Run, model: Any, *, seconds: float, steps: int | None = None) -> TimedSteps:
    """Train as the job does, for about `seconds` or exactly `steps`, after the warm-up steps."""
    trainer = run.trainer(model)
    stopwatch = _Stopwatch(trainer, run.device, seconds, steps)
    trainer.add_callback(stopwatch)
    trainer.resume_or_start()
    first, last = stopwatch.readings
    return TimedSteps._make(map(operator.sub, last, first))


class _Stopwatch(TrainerCallback):
    """Reads clock and counts after the warm-up and at the end, and stops there.

    The last warm-up step decides how many steps follow: all processes must agree on that.
    """

    def __init__(
        self, trainer: StreamTrainer, device: torch.device, seconds: float, steps: int | None
    ) -> None:
        self._trainer = trainer
        self.readings: list[TimedSteps] = []  # each counted from the beginning
        self._device, self._seconds, self._steps, self._start = device, seconds, steps, 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        if step == NUM_WARM - 1:
            self._start = now(self._device)
        elif step == NUM_WARM:
            if self._steps is None:
                agreed = [max(1, round(self._seconds / (now(self._device) - self._start)))]
                broadcast_object_list(agreed)
                self._steps = agreed[0]
            self._read(step)
        elif self._steps is not None and step == NUM_WARM + self._steps:
            self._read(step)
            control.should_training_stop = True

    def _read(self, step: int) -> None:
        waited, tokens = self._trainer.data_wait_seconds, self._trainer.session_counts.tokens
        self.readings.append(TimedSteps(step, now(self._device), waited, tokens))


def release() -> None:
    """Release the memory of a finished training; trainers are reference cycles."""
    gc.collect()
    torch.cuda.empty_cache()


def train_bare(run: Run, rows: FixedRows, steps: int) -> list[float]:
    """Return tokens/s of the bare loop, over all processes; empty if it does not fit into memory."""
    try:
        return [_train_bare(run, rows, steps)]
    except (RuntimeError, MemoryError) as error:
        if explain(error) != OUT_OF_MEMORY:
            raise
        return []


def _train_bare(run: Run, rows: FixedRows, steps: int) -> float:
    """Run forward, backward, AdamW, and nothing else."""
    optim, device = run.config.optim, run.device
    model = run.model().train()
    if run.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained, lr=optim.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=run.dtype == torch.float16)
    batches = itertools.cycle(
        collated(rows, run.per_device_batch_size, run.prompt.pad_id, run.picture_inputs)
    )
    accumulation = run.config.benchmark.accumulation
    for step in range(NUM_WARM + steps):
        if step == NUM_WARM:
            start = now(device)
        for _ in range(accumulation):
            batch = {name: values.to(device) for name, values in next(batches).items()}
            with run.autocast():
                loss = model(**batch, use_cache=False).loss / accumulation
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return steps * optim.batch_size * rows.num_tokens / (now(device) - start)


def collated(
    rows: FixedRows, size: int, pad_id: int, pictures: PictureInputs | None = None
) -> list[dict[str, torch.Tensor]]:
    """Collate the batches, as the model takes them."""
    collator, batches = Collator(pad_id, pictures), []
    for start in range(0, NUM_BATCHES * size, size):
        numbers = range(start, start + size)
        batch = collator([make_row(rows, number) for number in numbers])  # type: ignore[arg-type]
        batches.append({name: values for name, values in as_tensors(batch).items() if name != "marks"})
    return batches


def utilisation(run: Run, num_parameters: int, tokens_per_second: float) -> float | None:
    """Return the model FLOPs utilisation of all GPUs together, 0..1; None if their peak is unknown.

    Counts 6 FLOPs per parameter and token, as if all were trained: LoRA computes about 4 of them, since
    frozen weights get no gradient. Attention scores are not counted.
    """
    peak = peak_flops(device_name(run.device), run.dtype)
    is_split = run.config.hardware.parallelism == "split"
    num_gpus = torch.cuda.device_count() if is_split else run.processes.num_processes
    return None if peak is None else 6 * num_parameters * tokens_per_second / (peak * num_gpus)


def peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """Return the device's peak FLOP/s in 16 bits; None for unlisted devices and for float32."""
    words = re.split("[ -]", device_name)
    if dtype == torch.float32 or OTHER_CHIPS & set(words):
        return None
    names = sorted(PEAK_FLOPS, key=len, reverse=True)
    return next((PEAK_FLOPS[name] for name in names if f" {name} " in f" {' '.join(words)} "), None)
