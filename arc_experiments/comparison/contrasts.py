"""Numbers of a comparison: the mean of each group, and by how much groups differ on the same tasks.

In: runs by group. Out: tables of values, and rows of means, differences and intervals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from arc_experiments.comparison.runs import RunResult
from arc_experiments.report.wording import plural
from arc_experiments.scoring import uncertainty
from arc_experiments.scoring.uncertainty import Block, Estimate

Cells = Mapping[tuple[str, int], Any]
"""Values by group and task list."""

ROUNDING = 1e-12
LESS_IS_BETTER = (
    "validation.", "train.final_loss", "seconds.", "peak_memory", "score.invalid.", "score.lost.", "cost.",
    "train.data_wait_fraction",
)  # fmt: skip


class NotComparable(ValueError):
    """The runs' numbers do not mean the same thing."""


def less_is_better(metric: str) -> bool:
    """Whether the metric is a loss, a cost or a count of failures."""
    return metric.startswith(LESS_IS_BETTER) or metric.endswith(("unanswered", "_loss"))


def verdict(low: float, high: float, metric: str) -> str:
    """What the interval of a difference says."""
    sign = -1 if less_is_better(metric) else 1
    low, high = sorted((sign * low, sign * high))
    return "better" if low > 0 else "worse" if high < 0 else "inconclusive"


def run_table(
    results: Sequence[RunResult], groups: Sequence[str], metric: str
) -> tuple[pd.DataFrame, list[list[str]]]:
    """A row a run, and the task lists: the tasks that all runs with the same draw of the partition have."""
    partitions = pd.Series([str(run.partition_draws) for run in results])
    ids = [frozenset(run.task_ids(metric)) for run in results]
    common = {}
    for draw, places in partitions.groupby(partitions).groups.items():
        common[draw] = frozenset.intersection(*(ids[place] for place in places))
        if not common[draw] and any(ids[place] for place in places):
            names = ", ".join(results[place].name for place in places)
            raise NotComparable(f"these runs share no task: {names}")
    numbers_of, lists = pd.factorize(partitions.map(common))
    runs = pd.DataFrame(
        {
            "result": list(results),
            "name": [run.name for run in results],
            "group": list(groups),
            "task_list": numbers_of,
            "seconds": [run.numbers.get("seconds.total") for run in results],
        }
    ).astype({"seconds": float})
    return runs, [sorted(tasks) for tasks in lists]


def shares_by_task(runs: pd.DataFrame, lists: Sequence[Sequence[str]], metric: str) -> pd.DataFrame:
    """What each run has of each task of its list, as metrics.json says."""
    by_run = {place: run.by_task(metric) for place, run in runs.result.items()}
    unknown = {runs.group[place] for place, shares in by_run.items() if not shares}
    rows = {
        place: {task: shares[task] for task in lists[runs.task_list[place]]}
        for place, shares in by_run.items()
        if shares and runs.group[place] not in unknown
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float).sort_index(axis="columns")


def block(rows: pd.DataFrame, tasks: Sequence[str], shares: pd.DataFrame, metric: str) -> Block:
    """Runs on one task list.

    Raises:
        NotComparable: a run has other tasks, too, and the metric is not known by task.
    """
    weights = next((found for run in rows.result if (found := run.weights(metric)) is not None), None)
    if weights is not None and rows.index.isin(shares.index).all():
        marks = uncertainty.weighted(
            np.ascontiguousarray(shares.loc[rows.index, tasks]), np.array([weights[task] for task in tasks])
        )
        return Block(runs=marks.mean(axis=1), tasks=tuple(tasks), by_task=marks)
    others = [run.name for run in rows.result if frozenset(run.task_ids(metric)) != frozenset(tasks)]
    if others:
        raise NotComparable(
            f"{metric} is not known by task, and {', '.join(others)} had more than the "
            f"{plural(len(tasks), 'task')} that all have: name runs with the same tasks, or take --metric "
            "score.pass_at_2 or validation.loss.task_mean"
        )
    return Block(runs=np.array([run.numbers[metric] for run in rows.result]), tasks=tuple(tasks))


def gains_by_task(runs: pd.DataFrame, shares: pd.DataFrame, first: str, sign: int) -> pd.DataFrame:
    """Gains over the baseline: means over the runs of a task list, then over the lists that both have."""
    of_shares = runs.loc[shares.index]
    means = {group: rows.mean() for group, rows in shares.groupby([of_shares.group, of_shares.task_list])}
    by_group = {
        group: pd.DataFrame({number: found for (name, number), found in means.items() if name == group})
        for group in of_shares.group.unique()
    }
    return pd.DataFrame(
        {
            group: sign * (found - by_group[first]).mean(axis="columns")
            for group, found in by_group.items()
            if group != first and first in by_group
        }
    )


def changed(gains: pd.DataFrame, group: str, sign: int) -> pd.Series:
    """Gains of the tasks that a group does better (sign 1) or worse (sign -1), largest first."""
    found = gains[group][sign * gains[group] > ROUNDING].sort_index()
    return found.sort_values(key=lambda gain: -sign * gain, kind="stable")


def counts(gains: pd.DataFrame, group: str) -> dict[str, Any]:
    """How many tasks a group does better and worse; the test takes these runs as they are."""
    if group not in gains or gains[group].isna().all():
        return {}
    won, lost = len(changed(gains, group, 1)), len(changed(gains, group, -1))
    same = int(gains[group].count()) - won - lost
    test = uncertainty.sign_test(won, lost)
    return {"tasks_won": won, "tasks_lost": lost, "tasks_same": same, "sign_test_p": test}


def difference(
    cells: Cells, blocks: Cells, first: str, second: str, *, by_seed: bool
) -> tuple[dict[str, Any], list[str]]:
    """The difference on the task lists that both have, if any, and what a reader must know of it.

    Runs are paired under `by_seed`, and wherever both groups answered with the same weights.
    """
    names = f"{second} and {first}"
    lists = {group: [number for name, number in blocks if name == group] for group in (first, second)}
    shared = [number for number in lists[first] if number in lists[second]]
    if not shared:
        return {}, [f"{names} have no task list in common, so there is no difference to report."]
    notices = []
    if set(lists[first]) != set(lists[second]):
        notices.append(
            f"{names} ran on different partitions: their difference is over those that both have, and is not "
            "that of their means."
        )
    runs = [(list(cells[first, number].result), list(cells[second, number].result)) for number in shared]
    pairs = [_same_draws(*both) for both in runs]
    in_pairs = all(pairs) and (by_seed or all(map(_same_weights, runs, pairs)))
    old, new = ([blocks[group, number] for number in shared] for group in (first, second))
    if in_pairs:
        old = [_rows(block, [i for i, _ in pair]) for block, pair in zip(old, pairs, strict=True)]
        new = [_rows(block, [i for _, i in pair]) for block, pair in zip(new, pairs, strict=True)]
    elif by_seed:
        notices.append(f"{names} share no seeds on some task list: their runs are not paired.")
    found = (uncertainty.paired_difference if in_pairs else uncertainty.difference)(old, new)
    return {"group": second, "baseline": first, **_numbers(found), "in_pairs_of_seeds": in_pairs}, notices


def group_row(runs: pd.DataFrame, blocks: Cells, group: str) -> dict[str, Any]:
    """One group's row; `detectable` is the difference that a second group of such runs would show."""
    rows = runs[runs.group == group]
    of_group = [block for (name, _), block in blocks.items() if name == group]
    second = uncertainty.difference(of_group, of_group).new_seeds
    return {
        "group": group,
        "runs": len(rows),
        "task_lists": len(of_group),
        **_numbers(uncertainty.estimate(of_group)),
        "seconds": rows.seconds.mean(),
        "detectable": None if second is None else second.detectable,
    }


def _same_draws(first: Sequence[RunResult], second: Sequence[RunResult]) -> list[tuple[int, int]]:
    """Places of the runs that have the same seeds."""
    places = {run.draws: place for place, run in enumerate(second)}
    return [(place, places[run.draws]) for place, run in enumerate(first) if run.draws in places]


def _same_weights(runs: tuple[list[RunResult], list[RunResult]], pairs: Sequence[tuple[int, int]]) -> bool:
    sources = [(runs[0][i].weights_from, runs[1][k].weights_from) for i, k in pairs]
    return len(pairs) == len(runs[0]) == len(runs[1]) and all(a is not None and a == b for a, b in sources)


def _rows(block: Block, rows: Sequence[int]) -> Block:
    by_task = None if block.by_task is None else block.by_task[list(rows)]
    return Block(runs=block.runs[list(rows)], tasks=block.tasks, by_task=by_task)


def _numbers(found: Estimate) -> dict[str, Any]:
    """An estimate in columns; None where it has no interval."""
    columns: dict[str, Any] = {"value": found.value, "deviation": found.deviation}
    for target in ("new_seeds", "new_tasks"):
        for part in ("low", "high", "detectable"):
            columns[f"{target}_{part}"] = getattr(getattr(found, target), part, None)
    return columns | {"new_tasks_with_seeds": found.with_seeds if found.new_tasks else None}
