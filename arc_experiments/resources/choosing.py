"""Choose how a training is computed by what fits: rows of a forward pass, and gradient checkpointing.

It is chosen where `hardware.per_device_batch_size` is null. More rows at once are faster on a GPU, until it
is full; on a CPU one row is, since nothing is padded. Checkpointing costs a third of the speed, so it is
taken only where not even one row fits without.
"""

from collections.abc import Callable
from dataclasses import dataclass

Need = Callable[[int, bool], int]  # bytes, by rows and checkpointing


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a training is computed.

    Attributes:
        rows: of a forward pass in one process.
        checkpointing: recompute activations in the backward pass.
        reasons: a line for each choice.
    """

    rows: int
    checkpointing: bool
    reasons: tuple[str, ...] = ()


def choose(need: Need, free: int, *, most_rows: int, single: str | None, checkpointing: bool) -> Choice:
    """Choose the most rows that fit, doubling as long as they divide the rows of a step.

    Args:
        most_rows: of an optimizer step in one process.
        single: why there can only be one row; None: there can be several.
        checkpointing: whether it is asked for.
    """
    reasons = []
    if not checkpointing and need(1, False) > free >= need(1, True):
        checkpointing = True
        reasons.append(
            f"model.gradient_checkpointing=true: a row takes {_size(need(1, False))} without it and "
            f"{_size(need(1, True))} with it, and there are {_size(free)}"
        )
    rows = 1
    while single is None and most_rows % (2 * rows) == 0 and need(2 * rows, checkpointing) <= free:
        rows *= 2
    if single is not None:
        why = single
    elif rows == most_rows:
        why = "a step has no more in a process"
    elif most_rows % (2 * rows):
        why = f"{2 * rows} do not divide the {most_rows} of a step"
    else:
        why = f"{2 * rows} would take {_size(need(2 * rows, checkpointing))} of {_size(free)}"
    reasons.append(f"hardware.per_device_batch_size={rows}: {why}")
    return Choice(rows=rows, checkpointing=checkpointing, reasons=tuple(reasons))


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
