"""Train one adapter, or several at once: a stream for each task group in, trained weights and counts out."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers.trainer_utils import SaveStrategy

from arc_experiments.adaptation.results import AdaptationCounts, Ending
from arc_experiments.adaptation.task_groups import TaskGroup
from arc_experiments.adapters_at_once.trainer import TogetherTrainer
from arc_experiments.config.schema import MAX_SEED
from arc_experiments.run import Run
from arc_experiments.stream.samples import JoinedStreams, SampleStream
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.training.checkpoints import last_complete, step_of
from arc_experiments.training.trainer import Counts, StreamTrainer

AVERAGED_LOSSES = 10  # logged steps, at either end of a training; half of them at most
CHECKPOINTS, ANSWERS = "checkpoints", "answers"  # folders of a task group
# What SFTTrainer and accelerate set on a model, each trainer its own around the previous one's.
WRAPPED = ("forward", "_original_forward", "_is_accelerate_prepared")


def train(
    run: Run,
    model: Any,
    streams: Mapping[TaskGroup, SampleStream],
    folder: Path,
    name: str,
    is_over: Callable[[], bool],
) -> tuple[Ending, list[AdaptationCounts]]:
    """Train the model, resuming from the checkpoint that a killed attempt may have left.

    Args:
        model: has a stack of adapters, one for each stream, if there are several.
        folder: `name` there holds the checkpoints; the groups' names hold answers.
        is_over: whether the time for all of the work has run out.

    Returns:
        How it ended, and the counts of each group.
    """
    optim, place = run.config.optim, folder / name
    groups, checkpoint = list(streams), last_complete(place / CHECKPOINTS)
    if checkpoint is None or step_of(checkpoint) < optim.max_steps:
        # Answers of a killed attempt whose time ran out came from other weights.
        stale = [folder / group.name / ANSWERS for group in groups]
        for path in [*stale, *([place] if checkpoint is None else [])]:
            shutil.rmtree(path, ignore_errors=True)
    seconds = run.config.adapt.seconds_per_task
    limit = None if seconds is None else seconds * sum(len(group.tasks) for group in groups)
    is_alone = len(groups) == 1
    with unwrapped(model):
        trainer = run.trainer(
            model,
            stream=streams[groups[0]] if is_alone else JoinedStreams(list(streams.values())),
            folder=place / CHECKPOINTS,
            seed=seed_of("train", run.config.seeds.train, groups),
            kind=StreamTrainer if is_alone else partial(TogetherTrainer, together=len(groups)),
        )
        trainer.stops.add(
            "time",
            lambda: is_over() or (limit is not None and trainer.seconds >= limit),
            saves=False,
        )
        if optim.save_steps >= optim.max_steps:
            trainer.args.save_strategy = SaveStrategy.NO
        trainer.resume_or_start()
    return (
        Ending.STOPPED if trainer.stops.stopped_by == "time" else Ending.WHOLE,
        _counted(trainer),
    )


def seed_of(purpose: str, seed: int, groups: Iterable[TaskGroup]) -> int:
    """Return the seed of the groups' own stream or dropout, another one in the second pass."""
    groups = list(groups)
    ids = [task_id for group in groups for task_id in group.tasks.ids]
    if groups[0].is_again:
        purpose = f"{purpose} again"
    return int(rng_for(f"adapt {purpose}", seed, *ids).integers(MAX_SEED))


def _counted(trainer: StreamTrainer) -> list[AdaptationCounts]:
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    if isinstance(trainer, TogetherTrainer):
        losses = zip(*(entry["losses"] for entry in history), strict=True) if history else None
        each = list(losses or [()] * len(trainer.counts_of))
        return [_training(trainer, counts, own) for counts, own in zip(trainer.counts_of, each, strict=True)]
    return [_training(trainer, trainer.counts, [entry["loss"] for entry in history])]


def _training(trainer: StreamTrainer, counts: Counts, losses: Sequence[float]) -> AdaptationCounts:
    return AdaptationCounts(
        steps=trainer.state.global_step,
        samples=counts.samples,
        tokens=counts.tokens,
        samples_shrunk=counts.samples_shrunk,
        samples_redrawn=counts.samples_redrawn,
        loss=_ends(losses),
    )


def _ends(losses: Sequence[float]) -> tuple[float, float] | None:
    """Return means over the first and over the last logged steps; None if the time ran out before any."""
    if not losses:
        return None
    count = max(1, min(AVERAGED_LOSSES, len(losses) // 2))
    return sum(losses[:count]) / count, sum(losses[-count:]) / count


@contextmanager
def unwrapped(model: Any) -> Iterator[None]:
    """Take a trainer's wrappers off the model afterwards: a thousand of them would be too deep a call."""
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
