"""The gallery: what each validation task asked, what was expected, what was answered.

In: the tasks with solutions and the candidates. Out: a `TaskCard` a task, holding the words and pictures that
the template puts in place. Attempts are chosen and compared as scoring does it.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from arc_experiments.report.format import number, plural, times
from arc_experiments.scoring.selection import (
    NUM_ATTEMPTS,
    Candidate,
    Ranked,
    Rule,
    select,
    votes_then_log_probability,
)
from arc_experiments.tasks.grids import Grid, to_svg
from arc_experiments.tasks.task import Pair, Task, TaskSet

PICTURE_SIDE = 132  # pixels of a picture's longer side, where its cells can be between 4 and 16 pixels
TEXT_LENGTH = 400  # characters shown of an answer that is not valid
MAX_TEXTS = 16  # shown of the answers to a test output that are not valid


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A grid and its size in words (rows by columns)."""

    svg: Markup
    size: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A distinct grid that was answered.

    Attributes:
        verdict: "right", "wrong", or "unknown" where there is no solution to compare with.
        difference: how a wrong answer differs from the solution, in words.
        log_probability: "" where no model has written it.
        views: name of each view that gave this grid.
    """

    picture: Picture
    verdict: str
    difference: str
    votes: str
    log_probability: str
    views: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class InvalidAnswer:
    """A candidate without grid: the parser's reason, and the beginning of what the model wrote."""

    reason: str
    view: str
    text: str
    num_left_out: int


@dataclass(frozen=True, kw_only=True)
class TestCard:
    """One test output; `answers` are all distinct grids, best first, `invalid` the first `MAX_TEXTS`."""

    heading: str
    input: Picture
    expected: Picture | None
    answers: tuple[Answer, ...]
    invalid: tuple[InvalidAnswer, ...]
    num_invalid: int
    reasons: tuple[tuple[str, int], ...]
    num_candidates: int

    @property
    def attempts(self) -> tuple[Answer, ...]:
        return self.answers[:NUM_ATTEMPTS]

    @property
    def solved(self) -> bool:
        return any(answer.verdict == "right" for answer in self.attempts)


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """One task; `predicted` is False where nothing was asked of the model, so that nothing counts."""

    id: str
    anchor: str
    demonstrations: tuple[tuple[Picture, Picture | None], ...]
    tests: tuple[TestCard, ...]
    predicted: bool

    @property
    def num_solved(self) -> int:
        return sum(test.solved for test in self.tests)

    @property
    def state(self) -> str:
        """solved, partly, unsolved, unknown (no solutions) or waiting (not predicted)."""
        if not self.predicted:
            return "waiting"
        if any(test.expected is None for test in self.tests):
            return "unknown"
        return "solved" if self.num_solved == len(self.tests) else "partly" if self.num_solved else "unsolved"

    @property
    def filters(self) -> tuple[str, ...]:
        """The filter buttons under which the card is shown, beside "all"."""
        if not self.predicted:
            return ()
        has_valid = "valid" if any(test.answers for test in self.tests) else "no-valid"
        solved = {"solved": "solved", "partly": "unsolved", "unsolved": "unsolved"}.get(self.state)
        return (has_valid,) if solved is None else (solved, has_valid)


def task_cards(
    tasks: TaskSet,
    candidates: Sequence[Candidate],
    num_scored: int | None,
    rule: Rule = votes_then_log_probability,
) -> tuple[TaskCard, ...]:
    """A card for every task, in order.

    `num_scored` is `score.num_tasks`, the denominator: the first so many tasks were asked, and one of them
    without candidates is unanswered. None where nothing was scored: the asked ones have candidates. `rule` orders the
    answers.

    Raises:
        ValueError: a candidate of none of the tasks.
    """
    by_output: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.task_id not in tasks or candidate.test_index >= len(tasks[candidate.task_id].test):
            raise ValueError(
                "predictions.jsonl answers "
                f"test output {candidate.test_index} of task {candidate.task_id!r}, "
                f"which is not among the {len(tasks)} tasks: make the report with the tasks of the run"
            )
        by_output[candidate.task_id, candidate.test_index].append(candidate)
    asked = {task_id for task_id, _ in by_output} | set(tasks.ids[: num_scored or 0] if by_output else ())
    return tuple(
        _task_card(
            task, index, [by_output[task.id, i] for i in range(len(task.test))], task.id in asked, rule
        )
        for index, task in enumerate(tasks)
    )


def _task_card(
    task: Task, index: int, groups: Sequence[Sequence[Candidate]], predicted: bool, rule: Rule
) -> TaskCard:
    several = len(task.test) > 1
    return TaskCard(
        id=task.id,
        anchor=f"task-{index}",
        demonstrations=tuple((picture(pair.input), picture_or_none(pair.output)) for pair in task.train),
        tests=tuple(
            _test_card(f"Test {i + 1} of {len(task.test)}" if several else "Test", pair, group, rule)
            for i, (pair, group) in enumerate(zip(task.test, groups, strict=True))
        ),
        predicted=predicted,
    )


def _test_card(heading: str, pair: Pair, candidates: Sequence[Candidate], rule: Rule) -> TestCard:
    invalid = sorted((c for c in candidates if c.grid is None), key=lambda candidate: candidate.view)
    return TestCard(
        heading=heading,
        input=picture(pair.input),
        expected=picture_or_none(pair.output),
        answers=tuple(_answer(ranked, pair.output, candidates) for ranked in select(candidates, rule)),
        invalid=tuple(_invalid_answer(candidate) for candidate in invalid[:MAX_TEXTS]),
        num_invalid=len(invalid),
        reasons=tuple(Counter(str(candidate.reason) for candidate in invalid).most_common()),
        num_candidates=len(candidates),
    )


def _answer(ranked: Ranked, expected: Grid | None, candidates: Sequence[Candidate]) -> Answer:
    names = {candidate.view: candidate.transforms for candidate in candidates}
    is_generated = any(candidate.num_tokens for candidate in candidates)
    right = expected is not None and np.array_equal(ranked.grid, expected)
    return Answer(
        picture=picture(ranked.grid),
        verdict="unknown" if expected is None else "right" if right else "wrong",
        difference="" if expected is None or right else _difference(ranked.grid, expected),
        votes=f"{ranked.votes} of {plural(len(candidates), 'vote')}",
        log_probability=number(ranked.log_probability, 3) if is_generated else "",
        views=tuple(f"{view}: {names[view]}" for view in ranked.views),
    )


def _invalid_answer(candidate: Candidate) -> InvalidAnswer:
    return InvalidAnswer(
        reason=str(candidate.reason),
        view=f"{candidate.view}: {candidate.transforms}",
        text=candidate.text[:TEXT_LENGTH],
        num_left_out=max(0, len(candidate.text) - TEXT_LENGTH),
    )


def _difference(grid: Grid, expected: Grid) -> str:
    if grid.shape != expected.shape:
        return f"{_size(grid)} instead of {_size(expected)}"
    return f"{np.count_nonzero(grid != expected)} of {plural(expected.size, 'cell')} wrong"


def picture(grid: Grid) -> Picture:
    """The grid at the size that fits a page."""
    cell = min(16, max(4, PICTURE_SIDE // max(grid.shape)))
    return Picture(svg=Markup(to_svg(grid, cell=cell)), size=_size(grid))


def picture_or_none(grid: Grid | None) -> Picture | None:
    """None for an output that is not known."""
    return None if grid is None else picture(grid)


def _size(grid: Grid) -> str:
    return times(*grid.shape)
