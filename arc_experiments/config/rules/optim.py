"""The checks of the `optim` section: values that need others, or exclude them."""

from collections.abc import Iterator
from pathlib import Path

from arc_experiments.config.schema import DECAY, Optim

# Keys that only some schedules read.
SCHEDULES_WITH = {
    "cycles": ("cosine_with_restarts", "cyclic"),
    "min_learning_rate": ("cosine_with_min_lr",),
    "decay": ("warmup_stable_decay",),
}


def check_optim(optim: Optim, *, can_score: bool) -> Iterator[str]:
    """A line for each mistake.

    Args:
        can_score: whether there are tasks to be answered.
    """
    yield from _check_steps(optim)
    if optim.epochs is None:  # else once the steps are known
        yield from _check_schedule(optim)
    yield from _check_best(optim, can_score)
    if optim.stop_on_spike and optim.spike_factor is None:
        yield "optim.stop_on_spike needs optim.spike_factor: from which loss on to stop"
    if optim.load_state is not None and not (_folder(optim.load_state) / "checkpoints").is_dir():
        yield (
            f"optim.load_state={optim.load_state} holds no checkpoints (looked in {Path.cwd()}): "
            "name a run folder with checkpoints/"
        )


def _folder(path: str) -> Path:
    return Path(path).expanduser()


def _check_steps(optim: Optim) -> Iterator[str]:
    stops = {"save_steps": optim.save_steps, "stop_after": optim.stop_after}
    if optim.patience is not None:
        stops["eval_steps"] = optim.eval_steps
    for key, steps in stops.items():
        if steps is not None and steps % optim.log_steps:
            yield (
                f"optim.{key}={steps} is not a multiple of optim.log_steps={optim.log_steps}: "
                "a run that goes on from there could not repeat the losses it logs"
            )
    if optim.epochs is not None:
        if optim.pack_length is not None:
            yield f"optim.epochs={optim.epochs:g} counts samples, and optim.pack_length packs them into rows: optim.max_steps"
    elif optim.log_steps > optim.max_steps:
        yield (
            f"optim.log_steps={optim.log_steps} is beyond optim.max_steps={optim.max_steps}: no loss would be logged"
        )
    if optim.stop_after is not None and optim.epochs is None and optim.stop_after > optim.max_steps:
        yield f"optim.stop_after={optim.stop_after} is beyond optim.max_steps={optim.max_steps}"
    for key in ("warmup", "decay"):
        value = getattr(optim, key)
        if value is not None and value >= 1 and value % 1:
            yield f"optim.{key}={value} must be a whole number of steps, or a share of optim.max_steps below 1"


def _check_schedule(optim: Optim) -> Iterator[str]:
    for key, schedules in SCHEDULES_WITH.items():
        if getattr(optim, key) is not None and optim.schedule not in schedules:
            yield (
                f"optim.{key}={getattr(optim, key)} is not read by optim.schedule={optim.schedule}: "
                f"take {' or '.join(schedules)}, or optim.{key}=null"
            )
    if optim.min_learning_rate is not None and optim.min_learning_rate > optim.learning_rate:
        yield (
            f"optim.min_learning_rate={optim.min_learning_rate} is above "
            f"optim.learning_rate={optim.learning_rate}"
        )
    decay = DECAY if optim.decay is None and optim.schedule in SCHEDULES_WITH["decay"] else optim.decay or 0.0
    steps = [value if value >= 1 else value * optim.max_steps for value in (optim.warmup, decay)]
    if sum(steps) > optim.max_steps:
        yield f"optim.warmup={optim.warmup} and optim.decay={decay} take more than optim.max_steps={optim.max_steps}"


def _check_best(optim: Optim, can_score: bool) -> Iterator[str]:
    if optim.best_by == "none":
        for key in ("patience", "min_delta"):
            if getattr(optim, key):
                yield f"optim.{key}={getattr(optim, key)} needs optim.best_by: validation_loss or pass_at_2"
    elif optim.eval_steps is None:
        yield f"optim.best_by={optim.best_by} needs optim.eval_steps: how often to validate"
    if optim.best_by == "pass_at_2" and not can_score:
        yield "optim.best_by=pass_at_2 needs tasks to answer: inference.limit=null or above 0"
