"""A comparison as one page that stands alone: tables, pictures of the numbers, tasks won and lost with their answers.

In: a `Comparison`. Out: HTML without script or request, the same for the same folders.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from arc_experiments.comparison import figures
from arc_experiments.comparison.result import Comparison
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.scored import Contrast, Scored
from arc_experiments.comparison.wording import Unit, direction, sentences, tables
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.gallery import Picture, TaskCard, TestCard, task_cards
from arc_experiments.report.page import environment
from arc_experiments.report.words import number, plural
from arc_experiments.tasks.task import TaskSet

MAX_CARDS = 10  # tasks with pictures, won and lost each


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A task that one group does better than the other, with the answers of a run of each that shows it.

    Attributes:
        demonstrations: pairs of input and output.
        tests: each test as the baseline's run answered it, and as the other's did; empty where nothing can be shown.
    """

    task: str
    gain: str
    runs: tuple[str, str]
    demonstrations: tuple[tuple[Picture, Picture | None], ...]
    tests: tuple[tuple[TestCard, TestCard], ...]


@dataclass(frozen=True, kw_only=True)
class Side:
    """The tasks won, or lost, against the baseline: all by name, the first ones with pictures."""

    title: str
    state: str
    tasks: tuple[tuple[str, str], ...]
    duels: tuple[Duel, ...]


def render(comparison: Comparison) -> str:
    """The page as text."""
    unit, groups = Unit(metric=comparison.metric), comparison.groups
    duels = [(contrast, list(_sides(contrast, unit))) for contrast in comparison.contrasts if contrast.gains]
    lacking = sorted(
        {duel.task for _, sides in duels for side in sides for duel in side.duels if not duel.tests}
    )
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            title=", ".join(one.key for one in comparison.keys) or "Runs of one config",
            metric=comparison.metric,
            direction=direction(comparison.metric),
            num_runs=plural(sum(len(one.values) for one in groups), "finished run"),
            num_groups=plural(len(groups), "group"),
            notices=comparison.notices,
            tables=list(tables(comparison)),
            sentences=list(sentences(comparison)),
            groups=[(figures.colour(place), one.name) for place, one in enumerate(groups)],
            scores=figures.scores_figure(groups, unit),
            cost=figures.cost_figure(groups, unit),
            losses=figures.losses_figure(groups),
            tasks=figures.tasks_figure(groups) if unit.is_share else None,
            duels=duels,
            gain_words="points of 100" if unit.is_share else comparison.metric,
            lacking=lacking,
        )
    )


def _sides(contrast: Contrast, unit: Unit) -> Iterator[Side]:
    gains = contrast.gains or {}
    for title, state, tasks in (("Better", "solved", contrast.won), ("Worse", "unsolved", contrast.lost)):
        words = {task: f"{'+' if gains[task] > 0 else ''}{_gain(gains[task], unit)}" for task in tasks}
        yield Side(
            title=title,
            state=state,
            tasks=tuple(words.items()),
            duels=tuple(_duel(contrast, task, words[task]) for task in tasks[:MAX_CARDS])
            if unit.is_share
            else (),
        )


def _gain(gain: float, unit: Unit) -> str:
    return number(100 * gain, 0) if unit.is_share else f"{gain:.3g}"


def _duel(contrast: Contrast, task: str, gain: str) -> Duel:
    won = (contrast.gains or {})[task] > 0
    runs = (_telling(contrast.baseline, task, most=not won), _telling(contrast.second, task, most=won))
    before, after = (_card(run.folder.path, task) for run in runs)
    return Duel(
        task=task,
        gain=gain,
        runs=(runs[0].name, runs[1].name),
        demonstrations=before.demonstrations if before else (),
        tests=tuple(zip(before.tests, after.tests, strict=True)) if before and after else (),
    )


def _telling(one: Scored, task: str, *, most: bool) -> RunResult:
    """The run with the most, or least, of a task."""
    known = [
        (float(share), run)
        for tasks, shares in one.shares.items()
        if shares is not None and task in tasks
        for share, run in zip(shares[:, sorted(tasks).index(task)], one.runs_of[tasks], strict=True)
    ]
    return (max if most else min)(known, key=lambda pair: pair[0])[1]


def _card(folder: Path, task: str) -> TaskCard | None:
    """The task as this run answered it; None where the folder or the tasks are not what they were."""
    tasks, run = _tasks(folder), _files(folder)
    if tasks is None or run is None or task not in tasks:
        return None
    candidates = [candidate for candidate in run.candidates if candidate.task_id == task]
    return task_cards(TaskSet([tasks[task]]), candidates, 1, run.rule)[0]


@cache
def _tasks(folder: Path) -> TaskSet | None:
    from arc_experiments.run import load_run  # the run object stands over all stages

    try:
        return load_run(folder).predicted_tasks()
    except (ValueError, OSError):
        return None


@cache
def _files(folder: Path) -> RunFiles | None:
    try:
        return read_run(folder)
    except (ValueError, OSError):
        return None
