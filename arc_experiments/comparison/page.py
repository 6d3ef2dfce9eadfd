"""A comparison as one page that stands alone: tables, pictures of the numbers, tasks won and lost with their answers.

In: a `Comparison`. Out: HTML without script or request, the same for the same folders.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from arc_experiments.comparison import figures
from arc_experiments.comparison.contrasts import Contrast, Scored
from arc_experiments.comparison.result import Comparison
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.tables import Unit, direction, sentences, tables
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.format import number, plural
from arc_experiments.report.gallery import TaskCard, TestCard, task_cards
from arc_experiments.report.page import environment
from arc_experiments.tasks.task import Pair, TaskSet

MAX_CARDS = 10  # tasks with pictures, won and lost each
MAX_CARDS_IN_ALL = 80


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
    demonstrations: tuple[Pair, ...]
    tests: tuple[tuple[TestCard, TestCard], ...]


@dataclass(frozen=True, kw_only=True)
class Side:
    """The tasks won, or lost, against the baseline: all by name, the first ones with pictures."""

    title: str
    state: str
    tasks: tuple[tuple[str, str], ...]
    duels: tuple[Duel, ...]


class _Answers:
    """Tasks and answers of run folders, each read once."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskSet | None] = {}
        self._files: dict[RunResult, RunFiles | None] = {}

    def card(self, run: RunResult, task: str) -> TaskCard | None:
        """The task as this run answered it; None where the folder or the tasks are not what they were."""
        tasks, files = self._tasks_of(run), self._files_of(run)
        if tasks is None or files is None or task not in tasks:
            return None
        candidates = [candidate for candidate in files.candidates if candidate.task_id == task]
        return task_cards(TaskSet([tasks[task]]), candidates, 1, files.rule)[0]

    def _tasks_of(self, run: RunResult) -> TaskSet | None:
        data = {
            key: value for key, value in run.settings.items() if key.startswith(("data.", "inference.limit"))
        }
        same = repr((data, run.partition_draws))  # runs of which have the same tasks
        if same not in self._tasks:
            from arc_experiments.run import load_run  # the run object stands over all stages

            try:
                self._tasks[same] = load_run(run.folder.path).predicted_tasks()
            except (ValueError, OSError):
                self._tasks[same] = None
        return self._tasks[same]

    def _files_of(self, run: RunResult) -> RunFiles | None:
        if run not in self._files:
            try:
                self._files[run] = read_run(run.folder.path)
            except (ValueError, OSError):
                self._files[run] = None
        return self._files[run]


def render(comparison: Comparison) -> str:
    """The page as text."""
    unit, groups, answers = Unit(metric=comparison.metric), comparison.groups, _Answers()
    told = [contrast for contrast in comparison.contrasts if contrast.gains]
    num_cards = min(MAX_CARDS, max(1, MAX_CARDS_IN_ALL // (2 * len(told)))) if told and unit.is_share else 0
    duels = [(contrast, list(_sides(contrast, unit, num_cards, answers))) for contrast in told]
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


def _sides(contrast: Contrast, unit: Unit, num_cards: int, answers: _Answers) -> Iterator[Side]:
    gains = contrast.gains or {}
    for title, state, tasks in (("Better", "solved", contrast.won), ("Worse", "unsolved", contrast.lost)):
        words = {task: f"{'+' if gains[task] > 0 else ''}{_gain(gains[task], unit)}" for task in tasks}
        yield Side(
            title=title,
            state=state,
            tasks=tuple(words.items()),
            duels=tuple(_duel(contrast, task, words[task], answers) for task in tasks[:num_cards]),
        )


def _gain(gain: float, unit: Unit) -> str:
    return number(100 * gain, 0) if unit.is_share else f"{gain:.3g}"


def _duel(contrast: Contrast, task: str, gain: str, answers: _Answers) -> Duel:
    won = (contrast.gains or {})[task] > 0
    runs = (_telling(contrast.baseline, task, most=not won), _telling(contrast.second, task, most=won))
    before, after = (answers.card(run, task) for run in runs)
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
