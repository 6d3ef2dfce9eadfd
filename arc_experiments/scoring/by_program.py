"""Scores of programs, beside those of the grids that they give: the part `score.programs` of metrics.json.

    {"num_tasks": 8, "sampled": 1024, "valid": 610, "distinct": 433, "verified": 41, "right": 40,
     "by_num_sampled": [{"sampled": 1, "valid": 0.6, "distinct": 1.0, "verified": 0.04, "right": 0.04,
                         "interval": {"verified": [0.0, 0.1], "right": [0.0, 0.1]}}, ...],
     "first_verified": {"0a1b2c3d": 17, ...}, "most_sampled": 128,
     "verified_wrong": {"programs": 30, "wrong": 1, "tasks": 5, "tasks_wrong": 0},
     "reasons": {"raised": 301, "syntax": 113}}

A program is valid if it gave a grid for each demonstration, verified if all of them were right, and right if
all test outputs of its task are. Programs are the same if they have one normal form and were written for one
view.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, fsum
from typing import Any

import numpy as np

from arc_experiments.scoring.candidates import Candidate, ProgramAnswer
from arc_experiments.scoring.per_output import mean, solutions
from arc_experiments.scoring.uncertainty import share_intervals
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import TaskSet

SHARES = ("verified", "right")  # those of a row that are shares of tasks


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """One sampled program; `view` is the one it was written for."""

    program: ProgramAnswer
    view: int
    right: bool

    @property
    def valid(self) -> bool:
        return self.program.reason is None

    @property
    def name(self) -> tuple[int, str]:
        return self.view, self.program.program.text


def program_scores(tasks: TaskSet, candidates: Iterable[Candidate]) -> dict[str, Any] | None:
    """Every number about the programs among these candidates; None if there is none.

    Over all tasks with solutions, also those without a program. `by_num_sampled` says what 1, 2, 4, ... and
    all sampled programs of a task would have given, without bias: `valid` and `distinct` are numbers of
    programs a task, `verified` and `right` shares of tasks with at least one (pass@n; Chen et al., 2021,
    Evaluating Large Language Models Trained on Code). A task with fewer programs gives all it has.

    - `first_verified`: of each task with a verified program, how many programs were sampled when the first
      one came (samples by number, those of one number by view).
    - `most_sampled`: the most programs that a task got.
    - `verified_wrong`: of the distinct verified programs those with a wrong test output, and of the tasks
      with a verified program those where none of them is right.
    - `reasons`: why sampled programs are not valid.

    Raises:
        ValueError: no task has solutions.
    """
    sampled = _sampled(solutions(tasks), candidates)
    every = [one for programs in sampled.values() for one in programs]
    if not every:
        return None
    most = max(map(len, sampled.values()))
    numbers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return {
        "num_tasks": len(sampled),
        "sampled": len(every),
        "valid": sum(one.valid for one in every),
        "distinct": sum(len(_distinct(programs)) for programs in sampled.values()),
        "verified": sum(one.program.verified for one in every),
        "right": sum(one.right for one in every),
        "by_num_sampled": [_expected(list(sampled.values()), number) for number in [*numbers, most]],
        "first_verified": _first_verified(sampled),
        "most_sampled": most,
        "verified_wrong": _verified_wrong(sampled.values()),
        "reasons": _reasons(every),
    }


def verified_tasks(candidates: Iterable[Candidate]) -> frozenset[str] | None:
    """The tasks with a verified program, which needs no solutions; None if programs were not asked for."""
    answers = [(one.task_id, one.program) for one in candidates if one.program is not None]
    return frozenset(task_id for task_id, program in answers if program.verified) if answers else None


def _sampled(
    expected: Mapping[str, Sequence[Grid]], candidates: Iterable[Candidate]
) -> dict[str, list[_Sampled]]:
    """The sampled programs of each task, by the number of the sample, then by view."""
    by_sample: dict[str, dict[tuple[int, int], list[Candidate]]] = {
        task_id: defaultdict(list) for task_id in expected
    }
    for one in candidates:
        if one.program is not None and one.task_id in by_sample:
            by_sample[one.task_id][one.sample, one.view].append(one)
    return {
        task_id: [_read(groups[key], expected[task_id]) for key in sorted(groups)]
        for task_id, groups in by_sample.items()
    }


def _read(group: Sequence[Candidate], expected: Sequence[Grid]) -> _Sampled:
    """One program, from its candidates for all test outputs."""
    assert group[0].program is not None
    right = {
        one.test_index
        for one in group
        if one.grid is not None and np.array_equal(one.grid, expected[one.test_index])
    }
    return _Sampled(program=group[0].program, view=group[0].view, right=len(right) == len(expected))


def _expected(by_task: Sequence[Sequence[_Sampled]], number: int) -> dict[str, Any]:
    """What `number` of the sampled programs of each task give."""
    rows = [_expected_of(programs, min(number, len(programs))) for programs in by_task]
    shares = [{name: row[name] for name in SHARES} for row in rows]
    return {
        "sampled": number,
        **{name: mean([row[name] for row in rows]) for name in rows[0]},
        "interval": share_intervals(shares),
    }


def _expected_of(programs: Sequence[_Sampled], number: int) -> dict[str, float]:
    """The means over all choices of `number` of these programs."""
    total, distinct = len(programs), _distinct(programs)
    num_valid = sum(one.valid for one in programs)
    return {
        "valid": number * num_valid / total if total else 0.0,
        "distinct": fsum(_chance(total, count, number) for count in distinct.values()),
        "verified": _chance(total, sum(one.program.verified for one in programs), number),
        "right": _chance(total, sum(one.right for one in programs), number),
    }


@lru_cache(maxsize=2**16)
def _chance(total: int, count: int, number: int) -> float:
    """The probability that `number` of `total` things include one of these `count`."""
    return 1 - comb(total - count, number) / comb(total, number)


def _distinct(programs: Iterable[_Sampled]) -> Counter[tuple[int, str]]:
    """How often each program was sampled."""
    return Counter(one.name for one in programs if one.program.is_program)


def _first_verified(sampled: Mapping[str, Sequence[_Sampled]]) -> dict[str, int]:
    places = {
        task_id: next((place for place, one in enumerate(programs, 1) if one.program.verified), None)
        for task_id, programs in sampled.items()
    }
    return {task_id: place for task_id, place in places.items() if place is not None}


def _verified_wrong(by_task: Iterable[Sequence[_Sampled]]) -> dict[str, int]:
    verified = [
        {one.name: one.right for one in programs if one.program.verified}.values() for programs in by_task
    ]
    return {
        "programs": sum(map(len, verified)),
        "wrong": sum(not right for task in verified for right in task),
        "tasks": sum(bool(task) for task in verified),
        "tasks_wrong": sum(bool(task) and not any(task) for task in verified),
    }


def _reasons(programs: Iterable[_Sampled]) -> dict[str, int]:
    reasons = Counter(one.program.reason for one in programs if one.program.reason is not None)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
