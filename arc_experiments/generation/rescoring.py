r"""How probable each distinct answer to a test input is under several views of the task.

    candidate [[2, 2]] of task 0a1b2c3d, view 3 (rot90, 1 <-> 2)  ->  log p("1\n1\n" | the prompt of view 3)

All candidates are scored under the same views (see `likelihoods`).
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from arc_experiments.augmentation import View, draw_views
from arc_experiments.generation.batching import TokenBudget, halves_of
from arc_experiments.generation.likelihoods import log_probabilities, log_probabilities_anew
from arc_experiments.generation.resuming import Record
from arc_experiments.prompts import Encoded, Prompt
from arc_experiments.prompts.kinds import QUESTIONS
from arc_experiments.prompts.tokens import Ids
from arc_experiments.scoring.candidates import Candidate, Likelihood
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid

GridKey = tuple[tuple[int, ...], bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class RescoringRequest:
    """One view's prompt, and each distinct candidate as it looks in that view.

    Attributes:
        grids: the candidates in the original orientation and colours.
        answers: their tokens in the view, with the end token.
    """

    task_id: str
    test_index: int
    view: View
    prompt: Encoded
    grids: tuple[Grid, ...]
    answers: tuple[Ids, ...]

    @property
    def num_tokens(self) -> int:
        """Of the prompt and the longest candidate."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def name(self) -> tuple[str, int, int, str]:
        """Task, test output, view, and a digest of the candidates."""
        digest = hashlib.sha256(b"".join(grid.tobytes() + bytes(grid.shape) for grid in self.grids))
        return self.task_id, self.test_index, self.view.index, digest.hexdigest()[:16]


def make_rescoring_requests(
    prompt: Prompt, tasks: TaskSet, candidates: Iterable[Candidate], *, num_views: int, seed: int
) -> Iterator[RescoringRequest]:
    """Write the prompts that candidates are scored after, in order: task, test pair, view.

    Grids that programs gave are not scored. A view whose prompt does not fit is left out for all candidates
    of that test input.

    Args:
        tasks: those of the candidates; solutions are neither needed nor looked at.
    """
    grids: dict[tuple[str, int], dict[GridKey, Grid]] = defaultdict(dict)
    for candidate in candidates:
        if candidate.grid is not None and candidate.program is None:
            grids[candidate.task_id, candidate.test_index].setdefault(_key(candidate.grid), candidate.grid)
    for task in tasks.without_solutions():
        views = draw_views(task, num_views, seed)
        for test_index in range(len(task.test)):
            distinct = tuple(grids[task.id, test_index].values())
            for view in views if distinct else ():
                seen = [view.apply(_answered(task, test_index, grid)) for grid in distinct]
                fitted = prompt.fit(seen[0], test_index, kind=QUESTIONS["grid"], with_answer=False)
                if fitted is not None:
                    yield RescoringRequest(
                        task_id=task.id,
                        test_index=test_index,
                        view=view,
                        prompt=fitted.encoded,
                        grids=distinct,
                        answers=tuple(answer_ids(prompt, one.test[test_index]) for one in seen),
                    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RescoringBatch:
    """Requests whose prompts are read at once."""

    requests: Sequence[RescoringRequest]

    @property
    def num_rows(self) -> int:
        return sum(len(request.answers) for request in self.requests)

    @property
    def row_tokens(self) -> int:
        return max(request.num_tokens for request in self.requests)

    @property
    def task_id(self) -> str:
        return self.requests[0].task_id

    def halves(self) -> "list[RescoringBatch]":
        return [RescoringBatch(requests=half) for half in halves_of(self.requests)]

    def score(self, model: Any, prompt: Prompt, budget: TokenBudget) -> list[list[Record]]:
        """Score the candidates of each request, a record each."""
        prompts = [request.prompt for request in self.requests]
        answers = [request.answers for request in self.requests]
        if prompt.pictures is not None:
            inputs = prompt.pictures.inputs
            scores = log_probabilities_anew(
                model, prompts, answers, inputs, pad_id=prompt.pad_id, budget=budget
            )
        else:
            ids = [encoded.input_ids for encoded in prompts]
            scores = log_probabilities(model, ids, answers, pad_id=prompt.pad_id, budget=budget)
        return [
            [{"log_probability": value, "num_tokens": len(ids)} for value, ids in zip(*pair, strict=True)]
            for pair in zip(scores, answers, strict=True)
        ]


def join_likelihoods(
    candidates: Iterable[Candidate],
    requests: Iterable[RescoringRequest],
    results: Iterable[list[Record]],
) -> list[Candidate]:
    """Give each valid candidate its likelihoods.

    Args:
        results: the records of each request, see `RescoringBatch.score`.
    """
    likelihoods: dict[tuple[str, int, GridKey], list[Likelihood]] = defaultdict(list)
    for request, records in zip(requests, results, strict=True):
        for grid, record in zip(request.grids, records, strict=True):
            likelihoods[request.task_id, request.test_index, _key(grid)].append(
                Likelihood(view=request.view.index, **record)
            )
    return [
        candidate
        if candidate.grid is None
        else dataclasses.replace(
            candidate,
            likelihoods=tuple(likelihoods[candidate.task_id, candidate.test_index, _key(candidate.grid)]),
        )
        for candidate in candidates
    ]


def _answered(task: Task, test_index: int, grid: Grid) -> Task:
    """The task with the grid as the output of this test pair."""
    pairs = list(task.test)
    pairs[test_index] = dataclasses.replace(pairs[test_index], output=grid)
    return dataclasses.replace(task, test=tuple(pairs))


def answer_ids(prompt: Prompt, pair: Pair) -> Ids:
    """Encode a pair's output, with the end token; its tokens are the same after any prompt."""
    encoded = prompt.encode(Task(id="", train=(pair,), test=(pair,)), kind=QUESTIONS["grid"])
    return encoded.input_ids[encoded.num_prompt :]


def _key(grid: Grid) -> GridKey:
    return grid.shape, grid.tobytes()
