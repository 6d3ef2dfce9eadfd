r"""Views of tasks -> prompts -> answers -> candidates.

request (task 0a1b2c3d, test 0, view 3) -> "I10\n...O" -> "22\n02\n" -> grid, turned back by the view
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from arc_experiments.augmentation import NotInImage, View, draw_views
from arc_experiments.generation.batching import PromptBatch, TokenBudget, plan_batches
from arc_experiments.generation.engine import Answer, Engine, Key, Limits
from arc_experiments.generation.rescoring import RescoringBatch, join_likelihoods, make_rescoring_requests
from arc_experiments.generation.resuming import Record, ResumableResults
from arc_experiments.prompts import Prompt, UnreadableGrid
from arc_experiments.prompts.tokens import Ids
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import TaskSet

OnProgress = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One question to the model; `ids` is None if not even one demonstration fits the prompt."""

    task_id: str
    test_index: int
    view: View
    ids: Ids | None
    num_dropped: int = 0

    @property
    def key(self) -> Key:
        return self.task_id, self.test_index, self.view.index


def make_requests(tasks: TaskSet, prompt: Prompt, *, num_views: int, seed: int) -> list[Request]:
    """Write all questions in order: task, test pair, view. Solutions are neither needed nor looked at."""
    requests = []
    for task in tasks.without_solutions():
        views = [(view, view.apply(task)) for view in draw_views(task, num_views, seed)]
        for test_index in range(len(task.test)):
            for view, seen in views:
                fitted = prompt.fit(seen, test_index, with_answer=False)
                ids, dropped = (fitted.encoded.input_ids, fitted.num_dropped) if fitted else (None, 0)
                requests.append(
                    Request(task_id=task.id, test_index=test_index, view=view, ids=ids, num_dropped=dropped)
                )
    return requests


class Predictor:
    """Answers requests, and rescores the answers, with the options of one composition.

    All processes predict together and share the batches. Batches depend on the requests alone, so a killed
    evaluation resumes after its last whole batch; a batch that does not fit into memory is computed in parts.

    Args:
        max_new_tokens: of an answer.
        batch_tokens: how many tokens are computed at once, unless memory runs out.
        scoring_views: how many views candidates are rescored under; 0 for no rescoring.
        seed: of the views that candidates are rescored under.
        autocast: the context in which the model computes.
    """

    def __init__(
        self,
        prompt: Prompt,
        engine: Engine,
        *,
        max_new_tokens: int,
        batch_tokens: int,
        scoring_views: int,
        seed: int,
        processes: PartialState,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._prompt, self._engine = prompt, engine
        self._limits = Limits(max_new_tokens=max_new_tokens, stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
        self.budget = TokenBudget(batch_tokens)
        self._scoring_views, self._seed = scoring_views, seed
        self._processes, self._autocast = processes, autocast

    def predict(
        self,
        model: Any,
        requests: Sequence[Request],
        folder: Path,
        on_progress: OnProgress = ignore,
        *,
        first_sample: int = 0,
    ) -> list[Candidate]:
        """Answer every request; candidates come in the order of the requests.

        Args:
            folder: candidates of finished batches are kept here, and taken from here.
            on_progress: called with (requests done, requests in all) at the start and after each batch.
            first_sample: the number of each request's first answer, on which sampled answers depend.

        Raises:
            OutOfMemory: a prompt does not fit into memory by itself.
        """
        engine, asked = self._engine, [(one, one.ids) for one in requests if one.ids is not None]
        if first_sample:
            engine = engine.only(range(first_sample, first_sample + engine.num_samples))
        num_too_long = len(requests) - len(asked)
        results = ResumableResults(
            folder,
            [request.key for request, _ in asked],
            self._processes,
            lambda done: on_progress(done + num_too_long, len(requests)),
        )
        batches = plan_batches(
            [len(ids) for _, ids in asked],
            extra=self._limits.max_new_tokens,
            batch_tokens=self.budget.planned,
            rows_per_prompt=engine.rows_per_prompt,
        )
        for batch in results.unfinished(batches):
            prompts = [(asked[position][0].key, asked[position][1]) for position in batch]
            whole = PromptBatch(engine=engine, limits=self._limits, prompts=prompts)
            with self._autocast():
                answers = self.budget.in_parts(whole, lambda part: part.answer(model))
            of_batch = [asked[position][0] for position in batch]
            candidates = _read_answers(self._prompt, of_batch, answers, first_sample)
            results.add(batch, [[one.to_record() for one in group] for group in candidates])
        found = {request.key: records for (request, _), records in zip(asked, results.all(), strict=True)}
        return [candidate for request in requests for candidate in _candidates(request, found)]

    def with_likelihoods(
        self,
        model: Any,
        tasks: TaskSet,
        candidates: Sequence[Candidate],
        folder: Path,
        on_progress: OnProgress = ignore,
    ) -> list[Candidate]:
        """Give each valid candidate its likelihoods under the scoring views (see `rescoring`).

        Args:
            tasks: those of the candidates; solutions are neither needed nor looked at.
            folder: likelihoods of finished batches are kept here, and taken from here.
            on_progress: called with (prompts done, prompts in all) at the start and after each batch.

        Raises:
            OutOfMemory: a prompt with one candidate does not fit into memory by itself.
        """
        if self._scoring_views == 0:
            return list(candidates)
        prompt, num_views = self._prompt, self._scoring_views
        requests = list(
            make_rescoring_requests(prompt, tasks, candidates, num_views=num_views, seed=self._seed)
        )
        results = ResumableResults(
            folder,
            [request.name for request in requests],
            self._processes,
            lambda done: on_progress(done, len(requests)),
        )
        batches = plan_batches(
            [request.num_tokens for request in requests],
            extra=0,
            batch_tokens=self.budget.planned,
            rows_per_prompt=[len(request.answers) for request in requests],
        )
        for batch in results.unfinished(batches):
            whole = RescoringBatch(requests=[requests[position] for position in batch])
            with self._autocast():
                records = self.budget.in_parts(
                    whole, lambda part: part.score(model, prompt.pad_id, self.budget)
                )
            results.add(batch, records)
        return join_likelihoods(candidates, requests, results.all())


def _candidates(request: Request, found: dict[Key, list[Record]]) -> list[Candidate]:
    if request.key not in found:
        return [unanswered(request, "too_long")]
    return [Candidate.from_record(record) for record in found[request.key]]


def unanswered(request: Request, reason: str) -> Candidate:
    """Make the invalid candidate of a request that was not asked."""
    return _candidate(request, 0, text="", num_tokens=0, log_probability=0.0, grid=None, reason=reason)


def _read_answers(
    prompt: Prompt, requests: Sequence[Request], answers: Sequence[tuple[Key, Answer]], first_sample: int
) -> list[list[Candidate]]:
    """The candidates of each request, in the order of its answers."""
    by_key: dict[Key, list[Answer]] = defaultdict(list)
    for key, answer in answers:
        by_key[key].append(answer)
    return [
        [
            _read(prompt, request, sample, answer)
            for sample, answer in enumerate(by_key[request.key], first_sample)
        ]
        for request in requests
    ]


def _read(prompt: Prompt, request: Request, sample: int, answer: Answer) -> Candidate:
    text, grid, reason = prompt.decode(answer.ids), None, None
    try:
        grid = request.view.undo(prompt.read(text)) if answer.finished else None
        reason = None if answer.finished else "unfinished"
    except (UnreadableGrid, NotInImage) as error:
        reason = error.reason
    return _candidate(
        request,
        sample,
        text=text,
        num_tokens=answer.num_tokens,
        log_probability=answer.log_probability,
        grid=grid,
        reason=reason,
    )


def _candidate(request: Request, sample: int, **found: Any) -> Candidate:
    return Candidate(
        task_id=request.task_id,
        test_index=request.test_index,
        view=request.view.index,
        sample=sample,
        transforms=request.view.name,
        **found,
    )
