"""Answers in tokens -> candidates: grids are turned back by their views; programs are run before that.

"line(3,0,0,0,5)" in view rot90, task with two test inputs  ->  two candidates, each with the program's grid
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arc_experiments.augmentation import NotInImage
from arc_experiments.generation.engine import Answer, Key
from arc_experiments.generation.requests import Request
from arc_experiments.programs.languages import UnreadableProgram, language
from arc_experiments.programs.sandbox import Outcome, Sandbox
from arc_experiments.programs.verification import Verdict, verify
from arc_experiments.prompts import Prompt, UnreadableGrid
from arc_experiments.scoring.candidates import Candidate, ProgramAnswer
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Program

Answers = Mapping[Key, Sequence[Answer]]
"""The answers to each request, by its key."""


def unanswered(request: Request, reason: str) -> list[Candidate]:
    """Make the invalid candidates of a request that was not asked."""
    nothing = {"text": "", "num_tokens": 0, "log_probability": 0.0}
    return [
        _candidate(request, test_index, 0, grid=None, reason=reason, **nothing)
        for test_index in request.test_indices
    ]


def read_grids(
    prompt: Prompt, requests: Sequence[Request], answers: Answers, first_sample: int
) -> list[list[Candidate]]:
    """Read the grids in the answers to each request.

    Args:
        first_sample: the number of each request's first answer.
    """
    return [
        [
            _read_grid(prompt, request, sample, answer)
            for sample, answer in enumerate(answers[request.key], first_sample)
        ]
        for request in requests
    ]


def _read_grid(prompt: Prompt, request: Request, sample: int, answer: Answer) -> Candidate:
    text, grid, reason = prompt.decode(answer.ids), None, None
    try:
        grid = request.view.undo(prompt.read(text)) if answer.finished else None
        reason = None if answer.finished else "unfinished"
    except (UnreadableGrid, NotInImage) as error:
        reason = error.reason
    return _candidate(request, request.test_index, sample, **_words(text, answer), grid=grid, reason=reason)


@dataclass(frozen=True, kw_only=True)
class ProgramReader:
    """Reads the programs in answers, and runs them on the task as they saw it."""

    sandbox: Sandbox

    def read(
        self, prompt: Prompt, requests: Sequence[Request], answers: Answers, first_sample: int
    ) -> list[list[Candidate]]:
        """Return a candidate per answer and test input (see `read_grids`).

        Answers with the same program in normal form to the same request are run once.
        """
        groups = [
            [
                _read_program(prompt, request, sample, answer)
                for sample, answer in enumerate(answers[request.key], first_sample)
            ]
            for request in requests
        ]
        readable = {one.name: one for group in groups for one in group if one.reason is None}
        work = [(one.request.seen, one.program) for one in readable.values() if one.request.seen is not None]
        verdicts = dict(zip(readable, verify(self.sandbox, work), strict=True))
        return [
            [candidate for one in group for candidate in _candidates_of(one, verdicts.get(one.name))]
            for group in groups
        ]


@dataclass(frozen=True, kw_only=True)
class _Written:
    """An answer to the question for a program; `reason` says why it is none."""

    request: Request
    sample: int
    text: str
    answer: Answer
    program: Program
    reason: str | None

    @property
    def name(self) -> tuple[Key, Program]:
        return self.request.key, self.program


def _read_program(prompt: Prompt, request: Request, sample: int, answer: Answer) -> _Written:
    text, reason = prompt.decode(answer.ids), None if answer.finished else "unfinished"
    program = Program(language=prompt.language, text=text)
    try:
        if answer.finished:
            found = prompt.read_program(text)
            program = replace(found, text=language(found.language).normalise(found.text))
    except UnreadableProgram as error:
        reason = error.reason
    return _Written(request=request, sample=sample, text=text, answer=answer, program=program, reason=reason)


def _candidates_of(written: _Written, verdict: Verdict | None) -> Iterator[Candidate]:
    """What a program gives for each test input; without a verdict it was not run."""
    request, reason = written.request, written.reason
    assert request.seen is not None
    answer = ProgramAnswer(
        program=written.program,
        demonstrations=(False,) * len(request.seen.train) if verdict is None else verdict.demonstrations,
        right_cells=0.0 if verdict is None else verdict.right_cells,
        reason=reason if verdict is None else next((o.reason for o in verdict.outcomes if o.reason), None),
    )
    for test_index in request.test_indices:
        outcome = Outcome() if verdict is None else verdict.tests[test_index]
        yield _candidate(
            request,
            test_index,
            written.sample,
            **_words(written.text, written.answer),
            grid=None if outcome.grid is None else request.view.undo(outcome.grid),
            reason=reason or outcome.reason,
            program=answer,
        )


def _words(text: str, answer: Answer) -> dict[str, Any]:
    return {"text": text, "num_tokens": answer.num_tokens, "log_probability": answer.log_probability}


def _candidate(
    request: Request, test_index: int, sample: int, *, grid: Grid | None, reason: str | None, **found: Any
) -> Candidate:
    return Candidate(
        task_id=request.task_id,
        test_index=test_index,
        view=request.view.index,
        sample=sample,
        transforms=request.view.name,
        grid=grid,
        reason=reason,
        **found,
    )
