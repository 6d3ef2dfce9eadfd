"""The learning rate at each step: our fields as transformers' schedules, one that it lacks, or the user's.

All rise linearly from 0 over `warmup`; then, with x = 0..1 over the remaining steps and n = `cycles`:

    linear                 1 - x
    constant               1
    cosine                 (1 + cos(pi x)) / 2
    cosine_with_restarts   the same n times, from the full rate each time
    cosine_with_min_lr     the same once, ending at `min_learning_rate`
    warmup_stable_decay    1, then linearly to 0 over the last `decay` steps
    inverse_sqrt           sqrt(warmup / step)   (with 10,000 for a warm-up of 0)
    cyclic                 falls to 0 and rises to ever lower peaks: 1, 1 - 1/n, 1 - 2/n, ..., ending at 0

A function of the user's (`optim.schedule=module.function`) decides about the warm-up itself.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from arc_experiments.config.schema import DECAY, Optim
from arc_experiments.config.user_code.functions import is_own, load_function

KEY = "optim.schedule"
Shares = Callable[..., float]
"""(step, warmup_steps=..., max_steps=...) -> share of the full learning rate."""
CYCLES = 4  # where `optim.cycles` is null
MIN_SHARE = 0.1  # of the learning rate, where `optim.min_learning_rate` is null


def schedule_arguments(optim: Optim) -> dict[str, Any]:
    """Return the TrainingArguments for the schedule; for those of `own_shares` the trainer's is replaced."""
    cycles = optim.cycles or CYCLES
    least = MIN_SHARE if optim.min_learning_rate is None else optim.min_learning_rate / optim.learning_rate
    decay = DECAY if optim.decay is None else optim.decay
    decay_steps = round(decay * optim.max_steps) if decay < 1 else int(decay)
    # In transformers, "constant" silently ignores the warm-up.
    is_theirs = optim.schedule not in ("constant", "cyclic") and not is_own(optim.schedule)
    options = {
        "cosine_with_restarts": {"num_cycles": cycles},
        "cosine_with_min_lr": {"min_lr_rate": least},
        "warmup_stable_decay": {"num_decay_steps": decay_steps, "decay_type": "linear"},
    }
    return {
        "lr_scheduler_type": optim.schedule if is_theirs else "constant_with_warmup",
        "lr_scheduler_kwargs": options.get(optim.schedule, {}),
        "warmup_steps": optim.warmup if optim.warmup < 1 else int(optim.warmup),
    }


def own_shares(optim: Optim) -> Shares | None:
    """Return the schedule that transformers lacks: `cyclic`, or the user's; None for the others."""
    if optim.schedule == "cyclic":
        return partial(cyclic, cycles=optim.cycles or CYCLES)
    if not is_own(optim.schedule):
        return None
    function = load_function(KEY, optim.schedule)

    def own(step: int, *, warmup_steps: int, max_steps: int) -> float:
        share = function(step, warmup_steps=warmup_steps, max_steps=max_steps)
        if not isinstance(share, int | float) or not 0 <= share < math.inf:
            raise ValueError(
                f"{KEY}={optim.schedule} must return a share of optim.learning_rate, 0 or more: it returned "
                f"{share!r} for step {step} of {max_steps}"
            )
        return float(share)

    return own


def schedule_of(shares: Shares, optimizer: Optimizer, *, warmup_steps: int, max_steps: int) -> LambdaLR:
    """Return the schedule with these shares of each group's full learning rate."""
    return LambdaLR(optimizer, partial(shares, warmup_steps=warmup_steps, max_steps=max_steps))


def cyclic(step: int, *, warmup_steps: int, max_steps: int, cycles: int) -> float:
    """Triangles with linearly decaying peaks; the warm-up is the first one's rise."""
    if step < warmup_steps:
        return step / warmup_steps
    num_halves = 2 * cycles - 1  # falls and rises in turn, starting and ending with a fall
    place = min((step - warmup_steps) / max(1, max_steps - warmup_steps), 1.0) * num_halves
    half = min(int(place), num_halves - 1)
    peak = 1 - (half + 1) // 2 / cycles
    return peak * (place - half if half % 2 else 1 - (place - half))
