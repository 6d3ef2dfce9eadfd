r"""Questions -> answers -> candidates, batch by batch.

request (task 0a1b2c3d, test 0, view 3) -> "I10\n...O" -> "22\n02\n" -> grid, turned back by the view
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from arc_experiments.generation.batching import PromptBatch, TokenBudget, plan_batches
from arc_experiments.generation.engine import Answer, Engine, Key, Limits
from arc_experiments.generation.reading import ProgramReader, read_grids, unanswered
from arc_experiments.generation.requests import Request
from arc_experiments.generation.rescoring import RescoringBatch, join_likelihoods, make_rescoring_requests
from arc_experiments.generation.resuming import ResumableResults
from arc_experiments.prompts import Encoded, Prompt
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import TaskSet

OnProgress = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one kind of question is answered.

    Attributes:
        max_new_tokens: of an answer.
        programs: reads the answers; None: they are grids.
    """

    engine: Engine
    max_new_tokens: int
    programs: ProgramReader | None = None


class Predictor:
    """Answers requests, and rescores the answers, with the options of one composition.

    All processes predict together and share the batches. Batches depend on the requests alone, so a killed
    evaluation resumes after its last whole batch; a batch that does not fit into memory is computed in parts.

    Args:
        way: how questions are answered.
        grids: how questions for grids are answered if `way` is that of programs. None: they are not asked.
        batch_tokens: how many tokens are computed at once, unless memory runs out.
        scoring_views: how many views candidates are rescored under; 0 for no rescoring.
        seed: of the views that candidates are rescored under.
        autocast: the context in which the model computes.
    """

    def __init__(
        self,
        prompt: Prompt,
        way: Way,
        *,
        grids: Way | None = None,
        batch_tokens: int,
        scoring_views: int,
        seed: int,
        processes: PartialState,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._prompt, self._way, self._grids = prompt, way, grids
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
            first_sample: the number of each request's first answer, on which sampled answers depend. Above 0,
                grids beside programs are not asked for again.

        Raises:
            OutOfMemory: a prompt does not fit into memory by itself.
        """
        if first_sample:
            requests = [one for one in requests if self._way_of(one) is self._way]
        asked = [(one, one.encoded) for one in requests if one.encoded is not None]
        num_too_long = len(requests) - len(asked)
        results = ResumableResults(
            folder,
            [request.key for request, _ in asked],
            self._processes,
            lambda done: on_progress(done + num_too_long, len(requests)),
        )
        for batch in results.unfinished(self._plan(asked)):
            of_batch = [asked[position] for position in batch]
            candidates = self._answer(model, of_batch, first_sample)
            results.add(batch, [[one.to_record() for one in group] for group in candidates])
        found = {request.key: records for (request, _), records in zip(asked, results.all(), strict=True)}
        return [
            candidate
            for request in requests
            for candidate in (
                map(Candidate.from_record, found[request.key])
                if request.key in found
                else unanswered(request, "too_long")
            )
        ]

    def by_way(self, requests: Sequence[Request]) -> list[tuple[Way, list[Request]]]:
        """Return the ways of answering, each with its requests."""
        ways = [self._way] if self._grids is None else [self._way, self._grids]
        return [(way, [one for one in requests if self._way_of(one) is way]) for way in ways]

    def _way_of(self, request: Request) -> Way:
        return self._grids if self._grids is not None and request.seen is None else self._way

    def _plan(self, asked: Sequence[tuple[Request, Encoded]]) -> list[list[int]]:
        """Group the positions of these prompts into batches, each answered in one way."""
        batches = []
        for way in filter(None, (self._way, self._grids)):
            places = [place for place, (request, _) in enumerate(asked) if self._way_of(request) is way]
            planned = plan_batches(
                [len(asked[place][1]) for place in places],
                extra=way.max_new_tokens,
                batch_tokens=self.budget.planned,
                rows_per_prompt=way.engine.rows_per_prompt,
            )
            batches += [[places[position] for position in batch] for batch in planned]
        return batches

    def _answer(
        self, model: Any, asked: Sequence[tuple[Request, Encoded]], first_sample: int
    ) -> list[list[Candidate]]:
        """Answer the prompts of one batch; return the candidates of each request."""
        requests, prompt = [request for request, _ in asked], self._prompt
        way = self._way_of(requests[0])
        limits = Limits(max_new_tokens=way.max_new_tokens, stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
        engine = way.engine
        if first_sample:
            engine = engine.only(range(first_sample, first_sample + engine.num_samples))
        prompts = [(request.key, encoded) for request, encoded in asked]
        whole = PromptBatch(engine=engine, limits=limits, prompts=prompts)
        with self._autocast():
            answers = self.budget.in_parts(whole, lambda part: part.answer(model))
        by_key: dict[Key, list[Answer]] = defaultdict(list)
        for key, answer in answers:
            by_key[key].append(answer)
        read = read_grids if way.programs is None else way.programs.read
        return read(prompt, requests, by_key, first_sample)

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
                records = self.budget.in_parts(whole, lambda part: part.score(model, prompt, self.budget))
            results.add(batch, records)
        return join_likelihoods(candidates, requests, results.all())
