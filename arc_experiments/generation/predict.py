r"""Views of tasks -> prompts -> answers -> candidates, saved batch by batch.

    request (task 0a1b2c3d, test 0, view 3) -> "I10\n...O" -> "22\n02\n" -> grid, turned back by the view

A killed evaluation goes on after its last whole batch: batches depend on the requests alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from arc_experiments.augmentation import NotInImage, View, draw_views
from arc_experiments.generation.batching import Room
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Answer, Engine, Key, Limits, plan_batches
from arc_experiments.generation.fitting import Question, answer_within
from arc_experiments.generation.resuming import Record, in_batches
from arc_experiments.prompts import Prompt, UnreadableGrid
from arc_experiments.prompts.tokens import Ids
from arc_experiments.scoring.selection import Candidate
from arc_experiments.tasks import TaskSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One question to the model; `ids` is None where not even one demonstration fits the prompt."""

    task_id: str
    test_index: int
    view: View
    ids: Ids | None
    num_dropped: int = 0

    @property
    def key(self) -> Key:
        return self.task_id, self.test_index, self.view.index


def make_requests(tasks: TaskSet, prompt: Prompt, *, num_views: int, seed: int) -> list[Request]:
    """All questions in order: task, test pair, view. Solutions are neither needed nor looked at."""
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


def predict(
    model: Any,
    prompt: Prompt,
    requests: list[Request],
    *,
    max_new_tokens: int,
    room: Room,
    partial: Path,
    processes: PartialState,
    on_progress: Callable[[int, int], None],
    engine: Engine | None = None,
) -> list[Candidate]:
    """Answer every request, batches shared out among the processes; candidates in the order of the requests.

    Args:
        room: for prompts and answers; batches that do not fit are answered in parts.
        partial: candidates of finished batches are kept in this folder while the work goes on.
        on_progress: called with (requests done, requests in all) before the first and after each batch.
        engine: one greedy answer a request by transformers, if left out.

    Raises:
        NoRoom: a prompt does not fit into memory by itself.
    """
    engine = engine or Transformers()
    limits = Limits(max_new_tokens=max_new_tokens, stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
    asked = [(request, request.ids) for request in requests if request.ids is not None]

    def answer(batch: Sequence[int]) -> list[list[Record]]:
        questions = [Question(key=asked[place][0].key, prompt=asked[place][1]) for place in batch]
        return [
            [_read(prompt, asked[place][0], sample, one).to_record() for sample, one in enumerate(group)]
            for place, group in zip(batch, answer_within(room, engine, model, questions, limits), strict=True)
        ]

    num_too_long = len(requests) - len(asked)
    keys = [request.key for request, _ in asked]
    found = in_batches(
        keys,
        plan_batches(
            [len(ids) for _, ids in asked],
            extra=max_new_tokens,
            batch_tokens=room.batch_tokens,
            rows_per_prompt=engine.rows_per_prompt,
        ),
        answer,
        partial=partial,
        processes=processes,
        on_progress=lambda done: on_progress(done + num_too_long, len(requests)),
    )
    done = {
        key: [Candidate.from_record(record) for record in group]
        for key, group in zip(keys, found, strict=True)
    }
    return [
        candidate
        for request in requests
        for candidate in done.get(request.key, [unanswered(request, "too_long")])
    ]


def unanswered(request: Request, reason: str) -> Candidate:
    """What stands for the answer to a request that was not asked."""
    return _candidate(request, 0, text="", num_tokens=0, log_probability=0.0, grid=None, reason=reason)


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
