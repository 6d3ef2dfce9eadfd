"""Two runs side by side, task by task: what the second one won and lost, in numbers and pictures.

In: two run folders that answered (some of) the same tasks. Out: a page that needs no other file, the same
bytes for the same files.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_experiments.composing.naming import slug
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.gallery import TaskCard, task_cards
from arc_experiments.report.run_charts import search_chart
from arc_experiments.report.summary import look_up, settings
from arc_experiments.report.svg import Chart
from arc_experiments.report.templates import fill, write_page
from arc_experiments.report.wording import duration, plural
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import tasks_asked
from arc_experiments.scoring.paired_difference import difference
from arc_experiments.scoring.per_output import HEADLINES, marks_by_task, means, solved, task_shares
from arc_experiments.tasks.task import TaskSet

PATHS = ("data.path", "model.adapter", "from_run", "submission")
STATES = {
    "won": ("Won", "more test outputs right than before"),
    "lost": ("Lost", "fewer test outputs right than before"),
    "neither": ("Right in neither", "not solved, as before"),
    "both": ("Right in both", "solved, as before"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """A run and the tasks it was asked."""

    run: RunFiles
    tasks: TaskSet


@dataclass(frozen=True, kw_only=True)
class VersusCard:
    """One task as each run answered it; `state` is a key of `STATES`."""

    state: str
    before: TaskCard
    after: TaskCard


def write_versus(folder: Path, tasks: TaskSet, other: Path, other_tasks: TaskSet) -> Path:
    """Compare the run in `folder` with another one, the baseline; write the page into `folder`.

    Raises:
        ValueError: no run folder, a run without answers, or no task with solutions that both have answered.
    """
    before = Answered(run=read_run(other), tasks=other_tasks)
    after = Answered(run=read_run(folder), tasks=tasks)
    path = folder / f"against-{slug(before.run.name)}.html"
    return write_page(path, render_versus(before, after))


def render_versus(before: Answered, after: Answered) -> str:
    """The page as text."""
    tasks = _common(before, after)
    first, second = _candidates(before.run, tasks), _candidates(after.run, tasks)
    gains = difference(tasks, first, second, after.run.rule, before.run.rule)
    scores = [
        means(task_shares(marks_by_task(tasks, found, one.run.rule)))
        for found, one in ((first, before), (second, after))
    ]
    cards = _cards(
        gains,
        task_cards(tasks, first, len(tasks), before.run.rule),
        task_cards(tasks, second, len(tasks), after.run.rule),
    )
    counts = Counter(card.state for card in cards)
    return fill(
        "report/versus.html.j2",
        before=before.run,
        after=after.run,
        scope=f"{plural(len(tasks), 'task')}, {plural(tasks.num_test_outputs, 'test output')}",
        asked=[part for one in (before, after) if (part := tasks_asked(one.run.metrics))],
        notices=list(_notices(before, after, tasks)),
        scores=scores,
        search=_search(before.run, after.run),
        difference={name: gains[name] for name in _comparable(before.run, after.run)},
        settings=list(_differing(before.run, after.run)),
        states=[(name, *words, counts[name]) for name, words in STATES.items()],
        cards=cards,
    )


def _search(before: RunFiles, after: RunFiles) -> Chart | None:
    """Draw both runs' solved tasks against programs, where both have asked for programs."""
    programs = [run.metrics.get("score", {}).get("programs", {}) for run in (before, after)]
    if not all("first_verified" in one for one in programs):
        return None
    return search_chart(dict(zip((f"A: {before.name}", f"B: {after.name}"), programs, strict=True)))


def _comparable(*runs: RunFiles) -> tuple[str, ...]:
    """The scores that all runs have; a file of attempts has no other candidates, and no votes."""
    if any(run.settings.get("submission") is not None for run in runs):
        return ("pass_at_2",)
    return HEADLINES


def _common(before: Answered, after: Answered) -> TaskSet:
    """The tasks with solutions that both runs were asked, cell for cell the same."""
    found = TaskSet(
        task
        for task in solved(after.tasks)
        if task.id in before.tasks and _digest(before.tasks, task.id) == _digest(after.tasks, task.id)
    )
    if not len(found):
        raise ValueError(
            f"{before.run.name} and {after.run.name} have no task with solutions in common: "
            "compare runs on one partition"
        )
    return found


def _digest(tasks: TaskSet, task_id: str) -> str:
    return tasks.select([task_id]).hash()


def _candidates(run: RunFiles, tasks: TaskSet) -> list[Candidate]:
    if not run.candidates:
        raise ValueError(f"{run.name} has no predictions.jsonl: name a run that has answered (job=evaluate)")
    return [candidate for candidate in run.candidates if candidate.task_id in tasks]


def _cards(gains: dict[str, Any], before: Sequence[TaskCard], after: Sequence[TaskCard]) -> list[VersusCard]:
    """Tasks with a difference first, otherwise in their order."""
    cards = []
    for old, new in zip(before, after, strict=True):
        state = "both" if new.state == "solved" else "neither"
        state = next((name for name in ("won", "lost") if new.id in gains[name]), state)
        cards.append(VersusCard(state=state, before=old, after=new))
    return sorted(cards, key=lambda card: list(STATES).index(card.state))


def _notices(before: Answered, after: Answered, tasks: TaskSet) -> Iterator[str]:
    """Which tasks are not compared, and whose scores are too good because of leaks."""
    for one, other in ((before, after), (after, before)):
        alone = [task_id for task_id in one.tasks.ids if task_id not in other.tasks]
        if alone:
            yield f"{plural(len(alone), 'task')} of {one.run.name} alone: not compared."
    shared = [task for task in after.tasks if task.id in before.tasks and task.id not in tasks]
    unsolved = [task for task in shared if not len(solved(TaskSet([task])))]
    if unsolved:
        yield f"{plural(len(unsolved), 'task')} without solutions: not compared."
    if len(shared) > len(unsolved):
        others = plural(len(shared) - len(unsolved), "task")
        yield f"{others} of the same id, but with other grids in each run: not compared."
    for one in (before, after):
        leaked = [task_id for task_id in one.run.metrics.get("leaked_tasks", ()) if task_id in tasks]
        if leaked:
            yield (
                f"{one.run.name} was trained on {plural(len(leaked), 'task')} of these, "
                "whole or in part (its leaks.json says how much)."
            )


def _is_same(before: RunFiles, after: RunFiles, key: str) -> bool:
    """Whether two compositions say the same, a folder by whatever path."""
    said = [look_up(run.settings, key) for run in (before, after)]
    if key in PATHS and None not in said:
        said = [Path(one).expanduser().absolute().resolve() for one in said]
    return bool(said[0] == said[1])


def _differing(before: RunFiles, after: RunFiles) -> Iterator[tuple[str, str, str]]:
    """The settings in which the runs differ, and what each cost."""
    first, second = settings(before), settings(after)
    for key in dict.fromkeys([*first, *second]):
        # What one of them leaves out, as it has no use for it, may be the same all the same.
        if first.get(key) != second.get(key) and not _is_same(before, after, key):
            yield key, first.get(key, ""), second.get(key, "")
    costs = [run.metrics.get("cost") for run in (before, after)]
    if any(costs):
        shown = [
            "" if cost is None else f"{duration(cost['device_seconds_per_task'])} on {cost['device']}"
            for cost in costs
        ]
        yield "time at work a task", shown[0], shown[1]
