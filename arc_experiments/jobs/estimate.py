"""How long a job may take: measured on small, warm pieces of its own work.

A cold piece takes many times as long as a warm one, so each is computed once before it is timed.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console

from arc_experiments.generation.batching import is_out_of_memory, plan_batches
from arc_experiments.generation.engine import Limits
from arc_experiments.generation.predict import Way
from arc_experiments.generation.requests import Request
from arc_experiments.models.adapters import can_merge
from arc_experiments.models.packed_attention import by_sample
from arc_experiments.prompts.kinds import QUESTIONS
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.runs.run_state import duration
from arc_experiments.stream.samples import SampleStream
from arc_experiments.tasks import Pair
from arc_experiments.training.dataset import as_tensors, make_row
from arc_experiments.training.trainer import StreamTrainer

TIMED_BATCHES = 4  # of training
MEAN_OF = 32  # training samples, for their mean length
PROBED_TOKENS = 4096  # of prompts that are answered for a probe
PROBED_STEPS = 8  # of the answers to them
PROBED_CUT = 64  # tokens of a prompt of which as many are answered as in a batch
PROBED_SAMPLES = 8  # answers to one prompt, at most
MUCH_MORE = 1.25  # times as long


class Seconds(NamedTuple):
    """How long answers take: if each ends as soon as its task's demonstrated outputs do, and if none ends."""

    about: float
    most: float

    def plus(self, other: "Seconds") -> "Seconds":
        """Add the other's."""
        return Seconds(self.about + other.about, self.most + other.most)

    def over(self, workers: int) -> "Seconds":
        """Share them out."""
        return Seconds(self.about / workers, self.most / workers)

    def __str__(self) -> str:
        """`about 20 s`, and what it may come to where that is much more."""
        text = f"about {duration(self.about)}"
        if self.most > MUCH_MORE * self.about:
            text += f" (up to {duration(self.most)}, if answers do not end)"
        return text


def step_seconds(run: Run, trainer: StreamTrainer, stream: SampleStream) -> float:
    """Seconds of an optimizer step; weights and random numbers stay as they are, gradients are dropped.

    All processes must call this: TRL gathers what it counts.
    """
    size = trainer.args.per_device_train_batch_size
    lengths = [len(make_row(stream, index)["input_ids"]) for index in range(MEAN_OF)]
    seconds, tokens = 0.0, 0
    for number in range(-1, TIMED_BATCHES):  # the first warms up
        rows = [make_row(stream, max(0, number) * size + place) for place in range(size)]
        batch = {name: each.to(run.device) for name, each in as_tensors(trainer.data_collator(rows)).items()}
        del batch["marks"]
        start = time.perf_counter()
        _pass(run, trainer, batch)
        if number >= 0:
            seconds += time.perf_counter() - start
            tokens += sum(len(row["input_ids"]) for row in rows)
    per_step = run.config.optim.batch_size / run.processes.num_processes * sum(lengths) / len(lengths)
    recomputed = 4 / 3 if run.gradient_checkpointing else 1.0  # which is off in eval mode
    return float(recomputed * seconds / tokens * per_step)


def _pass(run: Run, trainer: StreamTrainer, batch: dict[str, torch.Tensor]) -> None:
    """Compute loss and gradients of a batch. In eval mode: without dropout, and TRL's log stays as it is."""
    model = trainer.model
    was_training = model.training
    model.eval()
    with by_sample() if trainer.attends_by_sample else nullcontext(), run.autocast():
        loss = trainer.compute_loss(model, batch, num_items_in_batch=(batch["labels"] >= 0).sum())
    loss.backward()
    loss.item()  # waits for the device
    model.zero_grad(set_to_none=True)
    model.train(was_training)


def answering_seconds(run: Run, model: Any, *, by_task: bool = False) -> Seconds | None:
    """How long all answers take; random numbers stay as they are.

    None: they cannot be told before vLLM has started, or memory ran out.

    Args:
        by_task: tasks are answered one after another, not in common batches.
    """
    if run.config.inference.engine == "vllm":
        return None
    was_training = model.training
    model.eval()
    merged = can_merge(model) and not by_task
    try:
        with model.disable_adapter() if merged else nullcontext(), run.autocast():
            seconds = Seconds(0.0, 0.0)
            for way, of_way in run.predictor.by_way(run.requests):
                if requests := [one for one in of_way if one.ids is not None]:
                    seconds = seconds.plus(_way_seconds(run, model, way, requests, by_task=by_task))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        model.train(was_training)
    return seconds.over(run.processes.num_processes)


def _way_seconds(run: Run, model: Any, way: Way, requests: Sequence[Request], *, by_task: bool) -> Seconds:
    """Seconds of the answers to requests whose prompts fit, batch by batch, and of their likelihoods."""
    rows_per_prompt, batches = way.engine.rows_per_prompt, list[list[Request]]()
    for _, of_task in groupby(requests, lambda one: one.task_id if by_task else None):
        together = list(of_task)
        planned = plan_batches(
            list(map(_length, together)),
            extra=way.max_new_tokens,
            batch_tokens=run.config.inference.batch_tokens,
            rows_per_prompt=rows_per_prompt,
        )
        batches += [[together[position] for position in batch] for batch in planned]
    pace = _Pace.measure(run, model, way, requests, most=max(map(len, batches)))
    longest, reading, about, most = _longest_answers(run, way), 0.0, 0.0, 0.0
    for batch in batches:
        length, steps = max(map(_length, batch)), max(longest[one.task_id] for one in batch)
        held = rows_per_prompt * len(batch) * (length + way.max_new_tokens)
        step = pace.step + pace.held * held
        reading += pace.read * len(batch) * length
        about, most = about + steps * step, most + way.max_new_tokens * step
    num_views, scored = run.config.inference.num_views, run.config.inference.scoring_views
    reading += pace.read * scored / num_views * sum(map(_length, requests))  # again, for likelihoods
    return Seconds(reading + about, reading + most)


def _length(request: Request) -> int:
    assert request.ids is not None
    return len(request.ids)


def _longest_answers(run: Run, way: Way) -> dict[str, int]:
    """Tokens of each task's longest demonstrated output, without demonstrations as many as of its input.

    Of a program, the most that it may have.
    """
    most = way.max_new_tokens
    if way.programs is not None:
        return dict.fromkeys(run.predicted_tasks().ids, most)
    found = {}
    for task in run.predicted_tasks().without_solutions():
        shown = task.train or [Pair(input=pair.input, output=pair.input) for pair in task.test]
        largest = max(shown, key=lambda pair: 0 if pair.output is None else pair.output.size)
        asked = replace(task, train=(largest,), test=(largest,))
        encoded = run.prompt.encode(asked, kind=QUESTIONS["grid"])
        found[task.id] = min(most, len(encoded) - encoded.num_prompt)
    return found


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """How fast a model answers.

    Attributes:
        read: seconds for a token of a prompt.
        step: seconds to write a token in all rows of a batch, ...
        held: ... and the more for each token of the cache, to which that attends.
    """

    read: float
    step: float
    held: float

    @classmethod
    def measure(cls, run: Run, model: Any, way: Way, requests: Sequence[Request], *, most: int) -> "_Pace":
        """Measure by the beginnings of a few answers.

        Args:
            most: prompts in a batch.
        """
        middle = len(requests) // 2
        alike = sorted(requests, key=_length)[max(0, middle - most // 2) :]
        few = max(1, min(most, len(alike), PROBED_TOKENS // _length(alike[0])))
        _begin_answers(run, model, way, alike[:1], PROBED_CUT)  # warms up
        read, long_step, held = _begin_answers(run, model, way, alike[:few])
        _, short_step, less_held = _begin_answers(run, model, way, alike[:few], PROBED_CUT)
        # Prompts with pictures are not cut, and two equal lengths tell nothing of longer ones.
        more = max(0.0, long_step - short_step) / (held - less_held) if held > less_held else 0.0
        _, step, held_of_all = _begin_answers(run, model, way, alike[:most], PROBED_CUT)
        tokens = sum(map(_length, alike[:few]))
        return cls(read=read / tokens, step=max(0.0, step - more * held_of_all), held=more)


def _begin_answers(
    run: Run, model: Any, way: Way, requests: Sequence[Request], cut: int | None = None
) -> tuple[float, float, int]:
    """Answer by a few tokens.

    Args:
        cut: take only so many tokens of each prompt, the last ones, unless it has pictures.

    Returns:
        Seconds to read the prompts, seconds to write a token (the median), and the tokens that are held.
    """
    engine = way.engine.only(range(min(way.engine.num_samples, PROBED_SAMPLES)))
    limits = Limits(max_new_tokens=PROBED_STEPS, stop_ids=run.prompt.stop_ids, pad_id=run.prompt.pad_id)
    whole = [request.encoded for request in requests if request.encoded is not None]
    # The tokens of pictures cannot be cut from them.
    prompts = [one if cut is None or one.pictures else one.input_ids[-cut:] for one in whole]
    begun: list[float] = []  # of each call of the model
    start = time.perf_counter()
    hook = model.get_input_embeddings().register_forward_hook(lambda *_: begun.append(time.perf_counter()))
    try:
        engine.answer(model, prompts, [request.key for request in requests], limits)
    finally:
        hook.remove()
    lasted = [after - before for before, after in pairwise([*(begun or [start]), time.perf_counter()])]
    held = engine.rows_per_prompt * len(prompts) * (max(map(len, prompts)) + PROBED_STEPS)
    return lasted[0], median(lasted[1:] or lasted), held


def prompts_text(run: Run, seconds: Seconds | None) -> str:
    """`128 prompts, about 20 s (up to 1 min, if answers do not end)`; without the seconds if unknown.

    Empty if no prompt fits.
    """
    num_asked = sum(request.ids is not None for request in run.requests)
    if not num_asked:
        return ""
    return plural(num_asked, "prompt") + ("" if seconds is None else f", {seconds}")


def show_estimate(text: str, console: Console) -> None:
    """Show how long the rest may take, if there is anything to say."""
    if text:
        console.print(f"[bold]estimate[/]     {text}")
