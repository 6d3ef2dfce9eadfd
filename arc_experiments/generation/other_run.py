"""Grids that another run has answered, which stand in where no program is verified."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from arc_experiments.config.plurals import plural
from arc_experiments.config.schema import NEED_LIKELIHOODS
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import Task, TaskSet

KEY = "inference.fallback_run"


def grids_of_run(folder: Path, asked: TaskSet, tasks: TaskSet) -> list[Candidate]:
    """Read a run's answers to these tasks; programs among them, and what they gave, are left out.

    Args:
        asked: what the run was to answer.

    Raises:
        ValueError: the run is not finished, or has not answered all of these tasks with grids.
    """
    if not (folder / "metrics.json").exists():
        raise ValueError(
            f"{KEY}={folder}: that run has no metrics.json, so it is not finished: finish it first"
        )
    found = [one for one in _read(folder / "predictions.jsonl") if one.program is None]
    answered = {(one.task_id, one.test_index) for one in found}
    covered = [
        task
        for task in tasks
        if task.id in asked
        and _is_same(task, asked[task.id])
        and all((task.id, test_index) in answered for test_index in range(len(task.test)))
    ]
    if len(covered) < len(tasks):
        missing = next(task.id for task in tasks if task not in covered)
        raise ValueError(
            f"{KEY}={folder}: of the {plural(len(tasks), 'task')} to answer, that run has answered "
            f"{len(covered)} with grids (not {missing}, for example): name a run of grids on the same tasks, "
            "or ask for fewer (inference.limit)"
        )
    return [replace(one, origin=str(folder)) for one in found if one.task_id in tasks]


def check_likelihoods(candidates: Iterable[Candidate], rule: str) -> None:
    """Raise ValueError if the selection rule needs likelihoods, and these candidates have none."""
    if rule in NEED_LIKELIHOODS and any(one.grid is not None and not one.likelihoods for one in candidates):
        raise ValueError(
            f"inference.selection={rule} needs likelihoods, which the answers of {KEY} do not have: take "
            "inference.selection=votes_then_log_probability, or evaluate that run with "
            "inference.scoring_views=8"
        )


def _read(file: Path) -> Iterator[Candidate]:
    if not file.is_file():
        raise ValueError(
            f"{KEY}={file.parent}: that run has no {file.name}: name one that has answered tasks"
        )
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield Candidate.from_json(line)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error


def _is_same(task: Task, other: Task) -> bool:
    """Whether two tasks show a solver the same grids."""
    return TaskSet([task]).without_solutions().hash() == TaskSet([other]).without_solutions().hash()
