"""How long the rest of a training and the answers after it may take."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

from arc_experiments.generation.batching import plan_batches
from arc_experiments.generation.predict import Way
from arc_experiments.generation.requests import Request
from arc_experiments.run import Run
from arc_experiments.runs.run_state import duration


def show_estimate(
    run: Run, model: Any, num_steps: int, validation_seconds: float | None, console: Console
) -> None:
    """Show how long the rest may take: a training token costs three forward ones, an answer may never end.

    Args:
        validation_seconds: of a validation just run, the better measure; None: time a forward pass instead.
    """
    records, _ = run.validation_records
    tokens = sum(len(record.asked) for record in records)
    if validation_seconds is not None and tokens:
        read = validation_seconds / tokens
    else:
        read = _forward_seconds(model, 1, 512) / 512
    mean_length = tokens / len(records) if records else len(run.stream()[0].encoded)
    row = run.config.optim.pack_length or mean_length  # tokens
    trained = max(0, num_steps) * run.config.optim.batch_size * row
    asked = [len(request.ids) for request in run.requests if request.ids is not None]
    writing = sum(
        _writing_seconds(run, model, way, of_way) for way, of_way in run.predictor.by_way(run.requests)
    )
    text = f"training about {duration(3 * read * trained)}"
    if asked:
        answering = duration(read * sum(asked) + writing)
        text += f", then {len(asked)} prompts, about {answering} if no answer ends early"
    console.print(f"[bold]estimate[/]     {text}")


def _writing_seconds(run: Run, model: Any, way: Way, requests: Sequence[Request]) -> float:
    """Seconds of the steps that write answers to these requests, if none ends early."""
    batches = plan_batches(
        [len(request.ids) for request in requests if request.ids is not None],
        extra=way.max_new_tokens,
        batch_tokens=run.config.inference.batch_tokens,
        rows_per_prompt=way.engine.rows_per_prompt,
    )
    rows = way.engine.rows_per_prompt * max(map(len, batches), default=1)
    return len(batches) * way.max_new_tokens * _forward_seconds(model, rows, 1)


def _forward_seconds(model: Any, rows: int, length: int) -> float:
    """Seconds of one forward pass, the better of two."""
    ids = torch.ones((rows, length), dtype=torch.int64, device=model.device)
    times = []
    # The training's dropout must not depend on how much will be answered.
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.inference_mode():
        for _ in range(2):
            start = time.perf_counter()
            float(model(input_ids=ids, use_cache=False).logits[0, 0, 0])
            times.append(time.perf_counter() - start)
    return min(times)
