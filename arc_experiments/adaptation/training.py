"""The training of one adaptation, or of several at once: a stream a unit in, trained weights and counts out."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers.trainer_utils import SaveStrategy

from arc_experiments.adaptation.results import Outcome, Training
from arc_experiments.adaptation.task_groups import Unit
from arc_experiments.adapters_at_once.trainer import TogetherTrainer
from arc_experiments.config.schema import MAX_SEED
from arc_experiments.run import Run
from arc_experiments.stream.samples import JoinedStreams, SampleStream
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.training.checkpoints import last_complete, step_of
from arc_experiments.training.trainer import Counts, StreamTrainer

AVERAGED_LOSSES = 10  # logged steps, at either end of a training; half of them at most
CHECKPOINTS, ANSWERS = "checkpoints", "answers"  # folders of a unit
# What SFTTrainer and accelerate wrap around a model, each trainer its own around that of the one before.
WRAPPED = ("forward", "_original_forward", "_is_accelerate_prepared")


def train(
    run: Run,
    model: Any,
    streams: Mapping[Unit, SampleStream],
    folder: Path,
    name: str,
    is_over: Callable[[], bool],
) -> tuple[Outcome, list[Training]]:
    """Train the model, from its checkpoint where a killed attempt has left one.

    Args:
        model: of several units with a stack of adapters, one a unit.
        folder: the checkpoints lie in `name` there, answers in the units' names.
        is_over: whether the time for all of the work has run out.

    Returns:
        How it ended, and the counts of each unit.
    """
    optim, place = run.config.optim, folder / name
    units, checkpoint = list(streams), last_complete(place / CHECKPOINTS)
    if checkpoint is None or step_of(checkpoint) < optim.max_steps:
        # Answers of a killed attempt were other weights', if its time ran out.
        stale = [folder / unit.name / ANSWERS for unit in units]
        for path in [*stale, *([place] if checkpoint is None else [])]:
            shutil.rmtree(path, ignore_errors=True)
    seconds = run.config.adapt.seconds_per_task
    limit = None if seconds is None else seconds * sum(len(unit.tasks) for unit in units)
    is_alone = len(units) == 1
    with _unwrapped(model):
        trainer = run.trainer(
            model,
            stream=streams[units[0]] if is_alone else JoinedStreams(list(streams.values())),
            folder=place / CHECKPOINTS,
            seed=seed_of("train", run.config.seeds.train, units),
            kind=StreamTrainer if is_alone else partial(TogetherTrainer, together=len(units)),
        )
        trainer.stops.add(
            "time",
            lambda: is_over() or (limit is not None and trainer.seconds >= limit),
            saves=False,
        )
        if optim.save_steps >= optim.max_steps:
            trainer.args.save_strategy = SaveStrategy.NO
        trainer.resume_or_start()
    return Outcome.STOPPED if trainer.stops.stopped_by == "time" else Outcome.WHOLE, _counted(trainer)


def seed_of(purpose: str, seed: int, units: Iterable[Unit]) -> int:
    """That of the units' own stream or dropout."""
    ids = [task_id for unit in units for task_id in unit.tasks.ids]
    return int(rng_for(f"adapt {purpose}", seed, *ids).integers(MAX_SEED))


def _counted(trainer: StreamTrainer) -> list[Training]:
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    if isinstance(trainer, TogetherTrainer):
        losses = zip(*(entry["losses"] for entry in history), strict=True) if history else None
        each = list(losses or [()] * len(trainer.counts_of))
        return [_training(trainer, counts, own) for counts, own in zip(trainer.counts_of, each, strict=True)]
    return [_training(trainer, trainer.counts, [entry["loss"] for entry in history])]


def _training(trainer: StreamTrainer, counts: Counts, losses: Sequence[float]) -> Training:
    return Training(
        steps=trainer.state.global_step,
        samples=counts.samples,
        tokens=counts.tokens,
        samples_shrunk=counts.samples_shrunk,
        samples_redrawn=counts.samples_redrawn,
        loss=_ends(losses),
    )


def _ends(losses: Sequence[float]) -> tuple[float, float] | None:
    """Means over the first and over the last logged steps; None where the time ran out before there was one."""
    if not losses:
        return None
    count = max(1, min(AVERAGED_LOSSES, len(losses) // 2))
    return sum(losses[:count]) / count, sum(losses[-count:]) / count


@contextmanager
def _unwrapped(model: Any) -> Iterator[None]:
    """Take off afterwards what a trainer has wrapped around the model: a thousand of them would be too deep a call."""
    modules = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    before = [{name: vars(module)[name] for name in WRAPPED if name in vars(module)} for module in modules]
    hooks = model.get_input_embeddings()._forward_hooks  # with gradient checkpointing each trainer adds two
    known = set(hooks)
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            for name in WRAPPED:
                vars(module).pop(name, None)
            vars(module).update(own)
        for key in set(hooks) - known:
            del hooks[key]
