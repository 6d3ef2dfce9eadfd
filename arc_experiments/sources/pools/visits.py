"""What the options of sources that draw their pairs have in common."""

from collections.abc import Iterable, Sequence

from arc_experiments.tasks.grids import MAX_SIDE


def check_demonstrations(num_demonstrations: Sequence[int]) -> None:
    """Raises ValueError unless it is [at least, at most]."""
    if len(num_demonstrations) != 2 or not 1 <= num_demonstrations[0] <= num_demonstrations[1]:
        raise ValueError(f"num_demonstrations={list(num_demonstrations)} is not [at least, at most]")


def check_max_side(max_side: int | None) -> None:
    """Raises ValueError for a side that no grid has."""
    if max_side is not None and not 1 <= max_side <= MAX_SIDE:
        raise ValueError(f"max_side={max_side} is not 1 to {MAX_SIDE} (null: all grids)")


def without(ids: Iterable[str], leave_out: Sequence[str]) -> tuple[str, ...]:
    """The ids but for those that are left out.

    Raises:
        ValueError: one of those is not there.
    """
    known = dict.fromkeys(ids)
    for task_id in leave_out:
        if task_id not in known:
            raise ValueError(f"leave_out names {task_id}, which is none of the {len(known)} tasks")
    left_out = set(leave_out)
    return tuple(task_id for task_id in known if task_id not in left_out)
