"""Write a comparison as one page: tables, charts, and the tasks that changed with the answers of both groups.

In: `ComparedRuns`. Out: HTML without scripts or requests, the same for the same folders.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from arc_experiments.comparison import charts
from arc_experiments.comparison.contrasts import changed
from arc_experiments.comparison.result import ComparedRuns
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.tables import MetricFormat, direction, sentences, tables
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.gallery import TaskCard, TestCard, task_cards
from arc_experiments.report.svg import NUM_COLOURS, Chart
from arc_experiments.report.templates import fill
from arc_experiments.report.wording import number, percent, plural
from arc_experiments.tasks.task import Pair, TaskSet

MAX_CARDS = 10  # tasks with pictures, better and worse each
MAX_CARDS_IN_ALL = 80


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A task that one group does better than the other, with the answers of a run of each that shows it.

    Attributes:
        demonstrations: pairs of input and output.
        tests: each test as the baseline's run answered it, and as the other's did; empty if not readable.
    """

    task: str
    gain: str
    runs: tuple[str, str]
    demonstrations: tuple[Pair, ...]
    tests: tuple[tuple[TestCard, TestCard], ...]


class _Answers:
    """Tasks and answers of run folders, each read once."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskSet | None] = {}
        self._files = cache(_files)

    def card(self, run: RunResult, task: str) -> TaskCard | None:
        """The task as this run answered it; None if the folder or the tasks have changed."""
        tasks, files = self._tasks_of(run), self._files(run.folder.path)
        if tasks is None or files is None or task not in tasks:
            return None
        candidates = [candidate for candidate in files.candidates if candidate.task_id == task]
        return task_cards(TaskSet([tasks[task]]), candidates, 1, files.rule)[0]

    def _tasks_of(self, run: RunResult) -> TaskSet | None:
        data = {
            key: value for key, value in run.settings.items() if key.startswith(("data.", "inference.limit"))
        }
        key = repr((data, run.partition_draws))  # the same for runs with the same tasks
        if key not in self._tasks:
            from arc_experiments.run import load_run  # imports torch

            try:
                self._tasks[key] = load_run(run.folder.path).predicted_tasks()
            except (ValueError, OSError):
                self._tasks[key] = None
        return self._tasks[key]


def render(compared: ComparedRuns) -> str:
    """The page as text."""
    return fill("comparison/page.html.j2", **values_of(compared))


def values_of(compared: ComparedRuns) -> dict[str, Any]:
    """What the page says of a comparison, by the names of its template."""
    words, answers = MetricFormat(metric=compared.metric), _Answers()
    shown = [row for _, row in compared.differences.iterrows() if row.group in compared.gains]
    num_cards = min(MAX_CARDS, MAX_CARDS_IN_ALL // (2 * len(shown))) if shown else 0
    duels = [(row, list(_sides(compared, row.group, words, num_cards, answers))) for row in shown]
    lacking = {duel.task for _, sides in duels for *_, cards in sides for duel in cards if not duel.tests}
    return {
        "title": ", ".join(compared.settings.get("setting", ())) or "Runs of one config",
        "metric": compared.metric,
        "direction": direction(compared.metric),
        "asked": compared.asked,
        "num_runs": plural(len(compared.runs), "finished run"),
        "num_groups": plural(len(compared.groups), "group"),
        "notices": compared.notices,
        "tables": list(tables(compared)),
        "sentences": list(sentences(compared)),
        **charts_of(compared),
        "task_map": _task_map(compared) if words.is_share else None,
        "duels": duels,
        "gain_words": "points of 100" if words.is_share else compared.metric,
        "lacking": sorted(lacking),
    }


def charts_of(compared: ComparedRuns) -> dict[str, Chart | None]:
    """The charts of the page by name; None where there is nothing to draw."""
    words = MetricFormat(metric=compared.metric)
    return {
        "scores": charts.scores_chart(compared, words),
        "cost": charts.cost_chart(compared, words),
        "losses": charts.losses_chart(compared),
    }


def _task_map(compared: ComparedRuns) -> list[tuple[str, int, list[tuple[str, str]]]] | None:
    """Name, colour number and (opacity, words) by task of each group, for tasks that any run has right.

    The easiest task comes first. None if scores by task are not known, or no task was ever right.
    """
    runs, groups = compared.runs.loc[compared.shares.index], list(compared.groups.group)
    means = compared.shares.groupby([runs.group, runs.task_list]).mean().groupby("group").mean()
    if len(means) < len(groups):
        return None
    totals = means.sum()
    tasks = totals[totals > 0].sort_values(ascending=False, kind="stable").index
    return (
        [
            (group, place % NUM_COLOURS, [_cell(task, means.loc[group, task]) for task in tasks])
            for place, group in enumerate(groups)
        ]
        if len(tasks)
        else None
    )


def _cell(task: str, share: float) -> tuple[str, str]:
    return ("0", task) if pd.isna(share) else (f"{0.07 + 0.93 * share:.2f}", f"{task}: {percent(share)}")


def _sides(
    compared: ComparedRuns, group: str, words: MetricFormat, num_cards: int, answers: _Answers
) -> Iterator[tuple[str, str, list[tuple[str, str]], list[Duel]]]:
    """Title, state, tasks with their gains, and pictures of the first: better ones, then worse ones."""
    for title, state, sign in (("Better", "solved", 1), ("Worse", "unsolved", -1)):
        gains = changed(compared.gains, group, sign)
        texts = [(task, f"{'+' if gain > 0 else ''}{_gain(gain, words)}") for task, gain in gains.items()]
        duels = [_duel(compared, group, task, text, sign, answers) for task, text in texts[:num_cards]]
        yield title, state, texts, duels


def _gain(gain: float, words: MetricFormat) -> str:
    return number(100 * gain, 0) if words.is_share else f"{gain:.3g}"


def _duel(compared: ComparedRuns, group: str, task: str, gain: str, sign: int, answers: _Answers) -> Duel:
    first = compared.groups.group[0]
    runs = _extreme_run(compared, first, task, -sign), _extreme_run(compared, group, task, sign)
    before, after = (answers.card(run, task) for run in runs)
    return Duel(
        task=task,
        gain=gain,
        runs=(runs[0].name, runs[1].name),
        demonstrations=before.demonstrations if before else (),
        tests=tuple(zip(before.tests, after.tests, strict=True)) if before and after else (),
    )


def _extreme_run(compared: ComparedRuns, group: str, task: str, sign: int) -> RunResult:
    """The run of a group with the most of a task (sign 1), or the least (sign -1)."""
    of_group = compared.shares.index[compared.runs.group[compared.shares.index] == group]
    found: Any = (sign * compared.shares.loc[of_group, task]).idxmax()
    result: RunResult = compared.runs.result[found]
    return result


def _files(folder: Path) -> RunFiles | None:
    try:
        return read_run(folder)
    except (ValueError, OSError):
        return None
