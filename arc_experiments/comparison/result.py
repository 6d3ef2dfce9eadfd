"""Compare runs: group them, score each group, and compare it with the baseline on the same tasks.

In: run folders as read. Out: `ComparedRuns`, the tables of numbers that text and charts are made of.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from arc_experiments.comparison.contrasts import (
    NotComparable,
    block,
    counts,
    difference,
    gains_by_task,
    group_row,
    less_is_better,
    run_table,
    shares_by_task,
)
from arc_experiments.comparison.groups import (
    ABSENT,
    conflicts,
    differing,
    in_words,
    named_runs,
    order,
    remarks,
    short_name,
    sorted_runs,
    without_repetitions,
)
from arc_experiments.comparison.runs import RunResult
from arc_experiments.report.wording import plural
from arc_experiments.scoring.metrics import tasks_asked


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRuns:
    """Everything a comparison found.

    Attributes:
        runs: a row a finished run: `result` (its RunResult), `name`, `group`, `task_list`, `value`,
            `seconds`.
        shares: a row a run and a column a task; no value for tasks that are not in a run's list, and no row
            for groups whose scores by task are not known.
        groups: a row a group, the baseline first: its name, mean and intervals, as in the CSV file.
        differences: a row a group that shares a task list with the baseline: the same of the difference.
        gains: a row a task and a column a group but the baseline: by how much the group is better.
        settings: a row a setting that differs, with its values and the settings that change with it.
        unfinished: a row a run that is left out.
        notices: sentences without which the numbers would mislead.
    """

    metric: str
    runs: pd.DataFrame
    shares: pd.DataFrame
    groups: pd.DataFrame
    differences: pd.DataFrame
    gains: pd.DataFrame
    settings: pd.DataFrame
    unfinished: pd.DataFrame
    notices: list[str]

    @property
    def asked(self) -> str:
        """`16 of 100 tasks asked` if the metric is a score and some run was not asked all tasks, else ""."""
        if not self.metric.startswith("score."):
            return ""
        parts = dict.fromkeys(tasks_asked(run.metrics) or "all" for run in self.runs.result)
        return " or ".join(parts) if list(parts) != ["all"] else ""


def compare(
    results: Sequence[RunResult],
    *,
    metric: str,
    baseline: str | None = None,
    anyway: bool = False,
    by_seed: bool = False,
    names: Sequence[str] | None = None,
) -> ComparedRuns:
    """Group the finished runs, and compare every group with the baseline.

    Args:
        baseline: settings of the group to compare the others with, `key=value,...`; None for the first.
        anyway: compare runs whose numbers differ in meaning, on the tasks that all have, with a notice.
        by_seed: pair runs of the same seeds; else only runs with the same weights are paired.
        names: the group of each run; None: runs of the same settings are one, named by what differs.

    Raises:
        NotComparable: the runs' numbers differ in meaning and not `anyway`; or they share no task, or not
            the same ones and a metric that is not known by task.
        ValueError: nothing finished, no such metric or no such baseline.
    """
    named = None if names is None else dict(zip(results, names, strict=True))
    kept, notices = _comparable(results, metric, named or {}, anyway=anyway)
    settings, along = differing(kept)
    in_order = sorted_runs(kept, settings) if named is None else named_runs(kept, named)
    runs, lists = run_table(*in_order, metric)
    shares = shares_by_task(runs, lists, metric)
    cells = dict(list(runs.groupby(["group", "task_list"], sort=False)))
    blocks = {key: block(rows, lists[key[1]], shares, metric) for key, rows in cells.items()}
    runs["value"] = pd.concat([pd.Series(blocks[key].runs, rows.index) for key, rows in cells.items()])
    groups = list(runs.group.unique())
    first = _baseline(runs, groups, settings, baseline)
    groups = [first, *(group for group in groups if group != first)]
    gains = gains_by_task(runs, shares, first, -1 if less_is_better(metric) else 1)
    differences = []
    for group in groups[1:]:
        found, words = difference(cells, blocks, first, group, by_seed=by_seed)
        notices += words
        if found:
            differences.append(found | counts(gains, group))
    return ComparedRuns(
        metric=metric,
        runs=runs,
        shares=shares,
        groups=pd.DataFrame([group_row(runs, blocks, group) for group in groups]),
        differences=pd.DataFrame(differences),
        gains=gains,
        settings=_settings(settings, along),
        unfinished=pd.DataFrame(
            {"run": run.name, "state": run.state, "error": run.error, "folder": str(run.folder)}
            for run in results
            if run.state != "done"
        ),
        notices=notices,
    )


def _comparable(
    results: Sequence[RunResult], metric: str, named: Mapping[RunResult, str], *, anyway: bool
) -> tuple[list[RunResult], list[str]]:
    """The runs that count, and notices about the others and about what differs between these."""
    finished = [run for run in results if run.state == "done"]
    lacking = [run for run in finished if metric not in run.numbers]
    kept, repetitions = without_repetitions([run for run in finished if metric in run.numbers], named)
    if not kept:
        raise ValueError(_nothing(results, finished, metric))
    notices = [*_left_out(lacking, repetitions, metric), *remarks(kept, metric)]
    reasons = conflicts(kept, metric)
    if reasons and not anyway:
        lines = "\n  ".join(reasons)
        raise NotComparable(
            f"these runs do not compare:\n  {lines}\nname runs that do, or compare them --anyway"
        )
    return kept, [*notices, *(f"Compared all the same: {reason}." for reason in reasons)]


def _nothing(results: Sequence[RunResult], finished: Sequence[RunResult], metric: str) -> str:
    if not finished:
        states = ", ".join(f"{run.name} {run.state}" for run in results)
        return f"none of {plural(len(results), 'run')} is finished: {states}"
    known = sorted({key for run in finished for key in run.numbers if ".by_task." not in key})
    return f"--metric {metric}: no finished run has it in metrics.json; there are: {', '.join(known)}"


def _left_out(lacking: Sequence[RunResult], repetitions: Sequence[RunResult], metric: str) -> Iterator[str]:
    if lacking:
        names = ", ".join(run.name for run in lacking)
        yield f"Left out, as {metric} is missing or not a finite number: {names}."
    if repetitions:
        names = ", ".join(run.name for run in repetitions)
        yield f"The same config and seeds as another run, which counts once: {names} left out."


def _baseline(runs: pd.DataFrame, groups: list[str], settings: Iterable[str], named: str | None) -> str:
    """The group that `named` describes; a key's short name is enough."""
    if named is None:
        return groups[0]
    wanted = {tuple(part.strip().split("=", 1)) for part in named.split(",")}
    found = []
    for group, rows in runs.groupby("group", sort=False):
        chosen = {key: in_words(rows.result.iloc[0].settings.get(key, ABSENT)) for key in settings}
        choices = {(name, value) for key, value in chosen.items() for name in (key, short_name(key))}
        if named == group or wanted <= choices:
            found.append(str(group))
    if len(found) != 1:
        raise ValueError(
            f"--baseline {named} names {plural(len(found), 'group')} where it must name one of: "
            f"{'; '.join(groups)}"
        )
    return found[0]


def _short(keys: list[str]) -> list[str]:
    """Count the settings of the runs that weights come from: they come and go together."""
    own = [key for key in keys if not key.startswith("from_run.")]
    num_theirs = len(keys) - len(own)
    return [*own, f"{plural(num_theirs, 'setting')} of from_run"] if num_theirs > 1 else keys


def _settings(settings: pd.DataFrame, along: Mapping[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "setting": key,
            "values": list(dict.fromkeys(map(in_words, sorted(settings[key], key=order)))),
            "changes with it": _short(along[key]),
        }
        for key in settings
    )
