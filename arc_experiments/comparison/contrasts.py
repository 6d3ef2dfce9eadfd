"""Groups as numbers: the mean of each, and what a group is better by than another on the same tasks.

In: a `Group` and the tasks that count for each of its runs. Out: `Scored`, and a `Contrast` of two of them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_experiments.comparison.groups import Group
from arc_experiments.comparison.runs import RunResult
from arc_experiments.report.format import plural
from arc_experiments.scoring import uncertainty as statistics
from arc_experiments.scoring.uncertainty import Block, Estimate, Values

TaskList = frozenset[str]
ROUNDING = 1e-12


class NotComparable(ValueError):
    """The runs' numbers do not stand for the same thing."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A group with its mean.

    Attributes:
        values: the metric of each run of the group.
        blocks: its runs by task list, in the order of `runs_of`.
        shares: of each task list what each run has of each task, as metrics.json says; None where it does not.
    """

    group: Group
    values: tuple[float, ...]
    blocks: Mapping[TaskList, Block]
    runs_of: Mapping[TaskList, tuple[RunResult, ...]]
    shares: Mapping[TaskList, Values | None]
    estimate: Estimate

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def seconds(self) -> float | None:
        """Mean over the runs that know."""
        known = [run.seconds for run in self.group.runs if run.seconds is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A group against the baseline.

    Attributes:
        gains: by how much the runs of `second` are better than those of the baseline, mean by task; None where scores
            by task are not known.
        by_seed: the runs were taken in pairs of the same seeds.
        whole: both groups have no other task lists than those compared.
    """

    baseline: Scored
    second: Scored
    estimate: Estimate
    gains: Mapping[str, float] | None
    by_seed: bool
    whole: bool

    @property
    def won(self) -> list[str]:
        """Tasks with more than the baseline, the largest gain first."""
        return self._ordered(1)

    @property
    def lost(self) -> list[str]:
        """Tasks with less than the baseline, the largest loss first."""
        return self._ordered(-1)

    @property
    def p_value(self) -> float | None:
        """Of the sign test over tasks, the runs taken as they are."""
        return None if self.gains is None else statistics.sign_test(len(self.won), len(self.lost))

    def _ordered(self, sign: int) -> list[str]:
        gains = self.gains or {}
        better = [task for task, gain in gains.items() if sign * gain > ROUNDING]
        return sorted(better, key=lambda task: (-sign * gains[task], task))


def less_is_better(metric: str) -> bool:
    """Losses, costs and failures, whose gains are the other way round."""
    return metric.startswith(
        (
            "validation.",
            "train.final_loss",
            "seconds.",
            "peak_memory",
            "score.invalid.",
            "cost.",
            "train.data_wait_fraction",
        )
    ) or metric.endswith(("unanswered", "_loss"))


def scored(group: Group, metric: str, tasks_of: Mapping[RunResult, TaskList]) -> Scored:
    """The group's mean of a metric over the tasks that count for each run.

    Raises:
        NotComparable: a run has other tasks, too, and the metric is not known by task.
    """
    by_list: dict[TaskList, list[RunResult]] = defaultdict(list)
    for run in group.runs:
        by_list[tasks_of[run]].append(run)
    shares = {tasks: _shares(runs, metric, sorted(tasks)) for tasks, runs in by_list.items()}
    blocks = {tasks: _block(runs, metric, sorted(tasks), shares[tasks]) for tasks, runs in by_list.items()}
    values = {
        run: float(value)
        for tasks, runs in by_list.items()
        for run, value in zip(runs, blocks[tasks].runs, strict=True)
    }
    return Scored(
        group=group,
        values=tuple(values[run] for run in group.runs),
        blocks=blocks,
        runs_of={tasks: tuple(runs) for tasks, runs in by_list.items()},
        shares=shares,
        estimate=statistics.estimate(list(blocks.values())),
    )


def contrast(baseline: Scored, second: Scored, *, metric: str, by_seed: bool) -> Contrast | None:
    """The difference on the task lists that both have; None where there is none.

    Runs are taken in pairs under `by_seed`, and wherever both groups answered with the same weights.
    """
    shared = [tasks for tasks in baseline.blocks if tasks in second.blocks]
    if not shared:
        return None
    pairs = [_same_draws(baseline.runs_of[tasks], second.runs_of[tasks]) for tasks in shared]
    firsts, seconds = ([one.blocks[tasks] for tasks in shared] for one in (baseline, second))
    in_pairs = all(pairs) and (
        by_seed or all(_same_weights(baseline, second, *each) for each in zip(shared, pairs, strict=True))
    )
    if in_pairs:
        firsts = [_rows(block, [i for i, _ in pair]) for block, pair in zip(firsts, pairs, strict=True)]
        seconds = [_rows(block, [i for _, i in pair]) for block, pair in zip(seconds, pairs, strict=True)]
    difference = statistics.paired_difference if in_pairs else statistics.difference
    return Contrast(
        baseline=baseline,
        second=second,
        estimate=difference(firsts, seconds),
        gains=_gains(baseline, second, shared, -1 if less_is_better(metric) else 1),
        by_seed=in_pairs,
        whole=baseline.blocks.keys() == second.blocks.keys(),
    )


def _block(runs: Sequence[RunResult], metric: str, tasks: Sequence[str], shares: Values | None) -> Block:
    weights = next((found for run in runs if (found := run.weights(metric)) is not None), None)
    if weights is None or shares is None:
        _check_whole(runs, metric, tasks)
        values = [value for run in runs if (value := run.value(metric)) is not None]
        return Block(runs=np.array(values), tasks=tuple(tasks))
    marks = statistics.weighted(shares, np.array([weights[task] for task in tasks]))
    return Block(runs=marks.mean(axis=1), tasks=tuple(tasks), by_task=marks)


def _check_whole(runs: Sequence[RunResult], metric: str, tasks: Sequence[str]) -> None:
    """Raises NotComparable where the metric of a run is not over these tasks alone."""
    others = [run.name for run in runs if frozenset(run.task_ids(metric)) != frozenset(tasks)]
    if others:
        raise NotComparable(
            f"{metric} is not known by task, and {', '.join(others)} had more than the {plural(len(tasks), 'task')} that all "
            "have: name runs with the same tasks, or take --metric score.pass_at_2 or validation.loss.task_mean"
        )


def _shares(runs: Sequence[RunResult], metric: str, tasks: Sequence[str]) -> Values | None:
    rows = [run.by_task(metric) for run in runs]
    if not tasks or any(row is None for row in rows):
        return None
    return np.array([[row[task] for task in tasks] for row in rows if row is not None])


def _same_draws(first: Sequence[RunResult], second: Sequence[RunResult]) -> list[tuple[int, int]]:
    """Places of the runs that have the same seeds."""
    places = {run.draws: place for place, run in enumerate(second)}
    return [(place, places[run.draws]) for place, run in enumerate(first) if run.draws in places]


def _same_weights(first: Scored, second: Scored, tasks: TaskList, pairs: Sequence[tuple[int, int]]) -> bool:
    one, other = first.runs_of[tasks], second.runs_of[tasks]
    sources = [(one[i].weights_from, other[k].weights_from) for i, k in pairs]
    return len(pairs) == len(one) == len(other) and all(a is not None and a == b for a, b in sources)


def _rows(block: Block, rows: Sequence[int]) -> Block:
    by_task = None if block.by_task is None else block.by_task[list(rows)]
    return Block(runs=block.runs[list(rows)], tasks=block.tasks, by_task=by_task)


def _gains(first: Scored, second: Scored, shared: Sequence[TaskList], sign: int) -> dict[str, float] | None:
    by_task: dict[str, list[float]] = defaultdict(list)
    for tasks in shared:
        old, new = first.shares[tasks], second.shares[tasks]
        if old is None or new is None:
            return None
        for task, gain in zip(sorted(tasks), sign * (new.mean(axis=0) - old.mean(axis=0)), strict=True):
            by_task[task].append(float(gain))
    return {task: sum(gains) / len(gains) for task, gains in by_task.items()}
