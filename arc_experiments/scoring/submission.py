"""Kaggle's submission: written from candidates, checked, and read back as candidates to be scored.

    {"007bbfb7": [{"attempt_1": [[7, 0], [0, 7]], "attempt_2": [[7, 0], [0, 0]]}], ...}

with one entry per test output. What is missing or malformed in somebody's file is listed and counts as wrong.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.per_output import by_output
from arc_experiments.scoring.selection import NUM_ATTEMPTS, Ranked, Rule, select, votes_then_log_probability
from arc_experiments.sources.parsing import load_json
from arc_experiments.tasks.grids import Grid, GridError, check_grid
from arc_experiments.tasks.task import TaskSet

Submission = dict[str, list[dict[str, list[list[int]]]]]

FILE = "submission.json"
WRITING_SHARE = 0.05  # of all the time, at most, for writing a growing submission again and again

ATTEMPTS = tuple(f"attempt_{number}" for number in range(1, NUM_ATTEMPTS + 1))
# What `score` says of candidates and cannot say of two attempts, or says twice.
NOT_OF_ATTEMPTS = ("pass_at_n", "vote_1", "vote_2", "by_selection", "lost")


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A mistake of a submission: its kind ("task missing") and the whole sentence."""

    kind: str
    text: str


def submission(
    tasks: TaskSet, candidates: Iterable[Candidate], rule: Rule = votes_then_log_probability
) -> Submission:
    """Two attempts for every test output of `tasks`, in their order; solutions are not looked at.

    A single distinct grid is given twice; without any, the attempts are [[0]].

    Raises:
        ValueError: a candidate of no task.
    """
    found = by_output(tasks, candidates)
    return {
        task.id: [_attempts(select(found[task.id, i], rule)) for i in range(len(task.test))] for task in tasks
    }


class GrowingSubmission:
    """Keeps the file whole and valid while answers come in: [[0]] where nothing is known yet.

    Args:
        tasks: all that must be answered; solutions are neither needed nor looked at.
        candidates: returns those that there are now.
    """

    def __init__(
        self, folder: RunFolder, tasks: TaskSet, rule: Rule, candidates: Callable[[], Sequence[Candidate]]
    ) -> None:
        self._folder, self._tasks, self._rule, self._candidates = folder, tasks, rule, candidates
        self._due = float("-inf")

    def write(self) -> None:
        """Put it on disk unless that was done a moment ago; a reader finds the old one or the new one."""
        start = time.monotonic()
        if start < self._due or self._folder.read_only:
            return
        attempts = submission(self._tasks, self._candidates(), self._rule)
        check_submission(attempts, self._tasks)
        self._folder.write_json(FILE, attempts)
        end = time.monotonic()
        self._due = end + (end - start) / WRITING_SHARE


def read_submission(path: Path) -> dict[str, Any]:
    """Read a submission file; only its being an object by task id is checked.

    Raises:
        ValueError: it cannot be read, is not JSON, names a task twice, or is no object.
    """
    try:
        found = load_json(path.expanduser().read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"submission={path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"submission={path}: {_no_mapping(found)}")
    return found


def check_submission(submission: object, tasks: TaskSet) -> None:
    """Accept a submission that answers every test output of `tasks` in Kaggle's format.

    Raises:
        ValueError: all mistakes, one a line.
    """
    mistakes = find_mistakes(submission, tasks)
    if mistakes:
        lines = "\n".join(f"  {mistake.text}" for mistake in mistakes)
        raise ValueError(f"the submission is not valid:\n{lines}")


def find_mistakes(submission: object, tasks: TaskSet) -> list[Mistake]:
    """All mistakes of a submission for these tasks.

    Raises:
        ValueError: it is not even a mapping.
    """
    if not isinstance(submission, dict):
        raise ValueError(_no_mapping(submission))
    strangers = [key for key in submission if key not in tasks]
    found = [Mistake(kind="unknown task", text=f"{key}: no such task, take it out") for key in strangers]
    for task in tasks:
        found += _mistakes_of(submission, task.id, len(task.test))
    return found


def attempted(submission: dict[str, Any], tasks: TaskSet) -> list[Candidate]:
    """The attempts as candidates, view 0 the first one; what is missing or no grid is not valid."""
    return [
        _candidate(task.id, test_index, number, entry.get(name))
        for task in tasks
        for test_index, entry in enumerate(_entries(submission.get(task.id))[: len(task.test)])
        for number, name in enumerate(ATTEMPTS)
    ]


def score_attempts(
    tasks: TaskSet, candidates: Sequence[Candidate], source_of: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """As `score`, without what needs votes; pass_at_1 is the first attempt alone, even if it is no grid.

    Raises:
        ValueError: as `score`.
    """
    found = score(tasks, candidates, source_of=source_of)
    first = score(tasks, [candidate for candidate in candidates if candidate.view == 0])
    intervals = {**found["interval"], "pass_at_1": first["interval"]["pass_at_1"]}
    found |= {"pass_at_1": first["pass_at_1"], "interval": _of_attempts(intervals)}
    return _of_attempts(found)


def _of_attempts(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in NOT_OF_ATTEMPTS}


def _attempts(ranked: Sequence[Ranked]) -> dict[str, list[list[int]]]:
    grids: list[list[list[int]]] = [one.grid.tolist() for one in ranked[:NUM_ATTEMPTS]] or [[[0]]]
    return {name: grids[min(i, len(grids) - 1)] for i, name in enumerate(ATTEMPTS)}


def _entries(entries: object) -> list[dict[str, Any]]:
    """The entries of a task; an empty one for each of another type."""
    if not isinstance(entries, list):
        return []
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def _candidate(task_id: str, test_index: int, number: int, cells: object) -> Candidate:
    grid: Grid | None = None
    reason: str | None = "missing" if cells is None else None
    try:
        grid = None if cells is None else _grid(cells)
    except GridError:
        reason = "not_a_grid"
    return Candidate(
        task_id=task_id,
        test_index=test_index,
        view=number,
        transforms=ATTEMPTS[number],
        text="" if grid is not None or cells is None else json.dumps(cells)[:1000],
        num_tokens=0,
        log_probability=0.0,
        grid=grid,
        reason=reason,
    )


def _grid(cells: object) -> Grid:
    """As `check_grid`; whole floats, as numpy and pandas like to write them (1.0), count as integers."""
    if isinstance(cells, list):
        cells = [list(map(_whole, row)) if isinstance(row, list) else row for row in cells]
    return check_grid(cells)


def _whole(cell: object) -> object:
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _mistakes_of(submission: dict[str, Any], task_id: str, num_outputs: int) -> Iterator[Mistake]:
    if task_id not in submission:
        yield Mistake(kind="task missing", text=f"{task_id}: the task is missing")
        return
    entries = submission[task_id]
    if not isinstance(entries, list):
        needs = f"needs a list of {num_outputs} entries, this is a {_kind(entries)}"
        yield Mistake(kind="task malformed", text=f"{task_id}: {needs}")
        return
    if len(entries) != num_outputs:
        kind = "test output missing" if len(entries) < num_outputs else "test output too many"
        text = f"{task_id}: has {len(entries)} entries for {num_outputs} test outputs"
        yield Mistake(kind=kind, text=text)
    for i, entry in enumerate(entries):
        for kind, text in _entry_mistakes(entry):
            yield Mistake(kind=kind, text=f"{task_id}[{i}]: {text}")


def _entry_mistakes(entry: object) -> Iterator[tuple[str, str]]:
    if not isinstance(entry, dict):
        yield "test output malformed", f"needs {' and '.join(ATTEMPTS)}, this is a {_kind(entry)}"
        return
    for name in ATTEMPTS:
        if name not in entry:
            yield "attempt missing", f"{name} is missing"
            continue
        try:
            _grid(entry[name])
        except GridError as error:
            yield "attempt not a grid", f"{name} is not a grid: {error}"
    for name in entry:
        if name not in ATTEMPTS:
            yield "attempt too many", f"{name} is not an attempt, take it out"


def _no_mapping(value: object) -> str:
    return f"a submission maps task ids to lists of attempts, this is a {_kind(value)}"


def _kind(value: object) -> str:
    return type(value).__name__
