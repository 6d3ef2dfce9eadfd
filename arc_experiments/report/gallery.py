"""Answers in pictures: what each task asked, what was expected, what was answered.

In: the tasks with solutions and the candidates. Out: a `TaskCard` per task for the templates, which draw its
grids; or pixels, for a tracker. Attempts are chosen and compared as scoring does it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_experiments.report.wording import number, plural, times
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.selection import NUM_ATTEMPTS, Ranked, Rule, select, votes_then_log_probability
from arc_experiments.scoring.submission import ATTEMPTS, Submission
from arc_experiments.tasks.grids import Grid, to_pixels
from arc_experiments.tasks.task import Pair, Task, TaskSet

MAX_TEXTS = 16  # invalid answers shown of a test output
MAX_GRIDS = 16  # distinct grids shown of a test output
GAP = 12  # pixels between grids


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """A distinct grid that was answered.

    Attributes:
        verdict: "right", "wrong", or "unknown" if there is no solution to compare with.
        difference: how a wrong answer differs from the solution, in words.
        log_probability: "" if no model wrote it.
        views: name of each view that gave this grid, and how often if more than once.
    """

    grid: Grid
    verdict: str
    difference: str
    votes: str
    log_probability: str
    views: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TestCard:
    """One test output; `answers` are the first `MAX_GRIDS` distinct grids, best first, `invalid` the first
    `MAX_TEXTS`.
    """

    heading: str
    input: Grid
    expected: Grid | None
    answers: tuple[ShownAnswer, ...]
    num_grids: int
    invalid: tuple[Candidate, ...]
    num_invalid: int
    reasons: tuple[tuple[str, int], ...]
    num_candidates: int

    @property
    def attempts(self) -> tuple[ShownAnswer, ...]:
        return self.answers[:NUM_ATTEMPTS]

    @property
    def solved(self) -> bool:
        return any(answer.verdict == "right" for answer in self.attempts)


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """One task; `predicted` is False if the model was not asked, so that nothing counts."""

    id: str
    anchor: str
    demonstrations: tuple[Pair, ...]
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

    Args:
        num_scored: `score.num_tasks`, the denominator: the first `num_scored` tasks were asked, and one of
            them without candidates is unanswered. None if nothing was scored: tasks with candidates were
            asked.
        rule: orders the answers.

    Raises:
        ValueError: a candidate of none of the tasks.
    """
    by_output: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.task_id not in tasks or candidate.test_index >= len(tasks[candidate.task_id].test):
            raise ValueError(
                f"predictions.jsonl answers test output {candidate.test_index} of task "
                f"{candidate.task_id!r}, which is not among the {plural(len(tasks), 'task')}: make the "
                "report with the tasks of the run"
            )
        by_output[candidate.task_id, candidate.test_index].append(candidate)
    asked = {task_id for task_id, _ in by_output} | set(tasks.ids[: num_scored or 0] if by_output else ())
    return tuple(
        TaskCard(
            id=task.id,
            anchor=f"task-{index}",
            demonstrations=task.train,
            tests=tuple(_test_card(task, i, by_output[task.id, i], rule) for i in range(len(task.test))),
            predicted=task.id in asked,
        )
        for index, task in enumerate(tasks)
    )


def _test_card(task: Task, index: int, candidates: Sequence[Candidate], rule: Rule) -> TestCard:
    pair = task.test[index]
    invalid = sorted((c for c in candidates if c.grid is None), key=lambda candidate: candidate.view)
    ranked = select(candidates, rule)
    return TestCard(
        heading=f"Test {index + 1} of {len(task.test)}" if len(task.test) > 1 else "Test",
        input=pair.input,
        expected=pair.output,
        answers=tuple(_answer(one, pair.output, candidates) for one in ranked[:MAX_GRIDS]),
        num_grids=len(ranked),
        invalid=tuple(invalid[:MAX_TEXTS]),
        num_invalid=len(invalid),
        reasons=tuple(Counter(str(candidate.reason) for candidate in invalid).most_common()),
        num_candidates=len(candidates),
    )


def _answer(ranked: Ranked, expected: Grid | None, candidates: Sequence[Candidate]) -> ShownAnswer:
    # Its views are those of answered grids, if there are any; another run's may have other names.
    by_programs = ranked.support is not None and not ranked.support.num_answers
    alike = [candidate for candidate in candidates if (candidate.program is not None) == by_programs]
    names = {candidate.view: _view_name(candidate) for candidate in alike}
    is_generated = any(candidate.num_tokens for candidate in candidates)
    right = expected is not None and np.array_equal(ranked.grid, expected)
    return ShownAnswer(
        grid=ranked.grid,
        verdict="unknown" if expected is None else "right" if right else "wrong",
        difference="" if expected is None or right else difference(ranked.grid, expected),
        votes=f"{ranked.votes} of {plural(len(candidates), 'vote')}",
        log_probability=number(ranked.log_probability, 3) if is_generated else "",
        views=tuple(
            f"{view}: {names[view]}" + (f", {count} times" if count > 1 else "")
            for view, count in Counter(ranked.views).items()
        ),
    )


def _view_name(candidate: Candidate) -> str:
    return f"{candidate.transforms} ({candidate.origin})" if candidate.origin else candidate.transforms


def difference(grid: Grid, expected: Grid) -> str:
    """How a wrong grid differs, in words."""
    if grid.shape != expected.shape:
        return f"{size(grid)} instead of {size(expected)}"
    return f"{np.count_nonzero(grid != expected)} of {plural(expected.size, 'cell')} wrong"


def size(grid: Grid) -> str:
    """Rows by columns in words."""
    return times(*grid.shape)


@dataclass(frozen=True, kw_only=True)
class AnswerPicture:
    """Pixels (rows, columns, 3 for red, green and blue) and a caption."""

    caption: str
    pixels: NDArray[np.uint8]


def answer_pictures(tasks: Iterable[Task], attempts: Submission) -> list[AnswerPicture]:
    """Draw input, attempts and solution of each test output side by side on white; all of one size."""
    rows, captions = [], []
    for task in tasks:
        for i, (pair, entry) in enumerate(zip(task.test, attempts[task.id], strict=True), start=1):
            answers = [np.asarray(entry[name], dtype=np.uint8) for name in ATTEMPTS]
            grids, verdict = [pair.input, *answers], "not judged"
            if pair.output is not None:
                grids.append(pair.output)
                is_right = any(np.array_equal(answer, pair.output) for answer in answers)
                verdict = "right" if is_right else "wrong"
            shown = ", ".join(["input", *ATTEMPTS, "solution"][: len(grids)]).replace("_", " ")
            rows.append(_side_by_side(grids))
            captions.append(f"{task.id}, test {i}, {verdict}: {shown}")
    height = max((row.shape[0] for row in rows), default=0)
    width = max((row.shape[1] for row in rows), default=0)
    return [
        AnswerPicture(caption=caption, pixels=_on_white(row, height, width))
        for caption, row in zip(captions, rows, strict=True)
    ]


def _side_by_side(grids: Sequence[Grid]) -> NDArray[np.uint8]:
    pictures = [to_pixels(grid) for grid in grids]
    height = max(picture.shape[0] for picture in pictures)
    return np.hstack([_on_white(picture, height, picture.shape[1] + GAP) for picture in pictures])[:, :-GAP]


def _on_white(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pad to this size on the right and below."""
    rows, columns, _ = picture.shape
    return np.pad(picture, ((0, height - rows), (0, width - columns), (0, 0)), constant_values=255)
