"""The whole comparison: what each group scores, and by how much it differs from the baseline on the same tasks.

In: run folders as read. Out: a `Comparison`, which tables and the page only have to write down.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from arc_experiments.comparison.contrasts import Contrast, NotComparable, Scored, TaskList, contrast, scored
from arc_experiments.comparison.groups import (
    Differing,
    Group,
    conflicts,
    differing,
    grouped,
    in_words,
    remarks,
    short_name,
    without_repetitions,
)
from arc_experiments.comparison.runs import RunResult
from arc_experiments.report.format import plural


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All there is to tell.

    Attributes:
        groups: the baseline first.
        notices: sentences without which the numbers would mislead.
    """

    metric: str
    keys: tuple[Differing, ...]
    groups: tuple[Scored, ...]
    contrasts: tuple[Contrast, ...]
    unfinished: tuple[RunResult, ...]
    notices: tuple[str, ...]


def compare(
    results: Sequence[RunResult],
    *,
    metric: str,
    baseline: str | None = None,
    anyway: bool = False,
    by_seed: bool = False,
) -> Comparison:
    """Group the finished runs, and set every group against the baseline.

    Args:
        baseline: settings of the group that the others are compared with, `key=value,...`; None for the first.
        anyway: compare what does not compare, on the tasks that all runs have, and say so.
        by_seed: take runs of the same seeds in pairs; else only where both groups hold the same weights.

    Raises:
        NotComparable: the runs differ in what their numbers stand for, and not `anyway`; or they have no task in common, or
            not the same ones, and a metric that is not known by task.
        ValueError: nothing finished, no such metric or no such baseline.
    """
    finished = [run for run in results if run.state == "done"]
    unfinished = tuple(run for run in results if run.state != "done")
    lacking = [run for run in finished if run.value(metric) is None]
    runs, repetitions = without_repetitions([run for run in finished if run.value(metric) is not None])
    if not runs:
        raise ValueError(_nothing(finished, unfinished, metric))
    notices = [*_left_out(lacking, repetitions, metric), *remarks(runs, metric)]
    reasons = conflicts(runs, metric)
    if reasons and not anyway:
        lines = "\n  ".join(reasons)
        raise NotComparable(
            f"these runs do not compare:\n  {lines}\nname runs that do, or compare them --anyway"
        )
    notices += [f"Compared all the same: {reason}." for reason in reasons]
    keys = differing(runs)
    tasks_of = _common_tasks(runs, metric)
    groups = [scored(group, metric, tasks_of) for group in grouped(runs, keys)]
    first = _baseline(groups, baseline)
    others = [one for one in groups if one is not first]
    contrasts = [contrast(first, one, metric=metric, by_seed=by_seed) for one in others]
    for one, found in zip(others, contrasts, strict=True):
        notices += _about(first, one, found, by_seed)
    return Comparison(
        metric=metric,
        keys=keys,
        groups=(first, *others),
        contrasts=tuple(found for found in contrasts if found is not None),
        unfinished=unfinished,
        notices=tuple(notices),
    )


def _nothing(finished: Sequence[RunResult], unfinished: Sequence[RunResult], metric: str) -> str:
    if not finished:
        states = ", ".join(f"{run.name} {run.state}" for run in unfinished)
        return f"none of {plural(len(unfinished), 'run')} is finished: {states}"
    known = Counter(key for run in finished for key in numbers(run.metrics))
    return f"--metric {metric}: no finished run has it in metrics.json; there are: {', '.join(sorted(known))}"


def numbers(metrics: Mapping[str, object], prefix: str = "") -> Iterable[str]:
    """The dotted keys of metrics.json that are numbers, those of single tasks left out."""
    for key, value in metrics.items():
        if isinstance(value, dict) and key != "by_task":
            yield from numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}"


def _left_out(lacking: Sequence[RunResult], repetitions: Sequence[RunResult], metric: str) -> list[str]:
    notices = []
    if lacking:
        names = ", ".join(run.name for run in lacking)
        notices.append(f"Left out, as {metric} is missing or not a finite number: {names}.")
    if repetitions:
        names = ", ".join(run.name for run in repetitions)
        notices.append(f"The same config and seeds as another run, which counts once: {names} left out.")
    return notices


def _common_tasks(runs: Sequence[RunResult], metric: str) -> dict[RunResult, TaskList]:
    """The tasks that all runs with the same draw of the partition have, by run."""
    by_draw: dict[object, list[RunResult]] = defaultdict(list)
    for run in runs:
        by_draw[run.partition_draws].append(run)
    common: dict[RunResult, TaskList] = {}
    for same in by_draw.values():
        lists = [frozenset(run.task_ids(metric)) for run in same]
        shared = lists[0].intersection(*lists)
        if not shared and any(lists):
            raise NotComparable(f"these runs share no task: {', '.join(run.name for run in same)}")
        common |= dict.fromkeys(same, shared)
    return common


def _baseline(groups: Sequence[Scored], named: str | None) -> Scored:
    if named is None:
        return groups[0]
    found = [one for one in groups if named == one.group.name or _matches(one.group, named)]
    if len(found) != 1:
        names = "; ".join(one.group.name for one in groups)
        raise ValueError(
            f"--baseline {named} names {plural(len(found), 'group')} where it must name one of: {names}"
        )
    return found[0]


def _matches(group: Group, named: str) -> bool:
    """Whether each `key=value` is among the group's choices; a key's short name is enough."""
    choices = {(name, in_words(value)) for key, value in group.choices for name in (key, short_name(key))}
    return all(tuple(part.strip().split("=", 1)) in choices for part in named.split(","))


def _about(first: Scored, second: Scored, found: Contrast | None, by_seed: bool) -> Iterable[str]:
    """What a reader must know of a difference that is not over all that both groups have."""
    names = f"{second.name} and {first.name}"
    if found is None:
        yield f"{names} have no task list in common, so there is no difference to tell."
    elif not found.whole:
        yield (
            f"{names} ran on different partitions: their difference is over those that both have, and is not that of "
            "their means."
        )
    if found is not None and by_seed and not found.by_seed:
        yield f"{names} share no seeds on some task list: their runs are not taken in pairs."
