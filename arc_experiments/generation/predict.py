r"""Views of tasks -> prompts -> answers -> candidates, saved batch by batch.

    request (task 0a1b2c3d, test 0, view 3) -> "I10\n...O" -> "22\n02\n" -> grid, turned back by the view

A killed evaluation goes on after its last whole batch: batches depend on the requests alone.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_experiments.augmentation import View, draw_views
from arc_experiments.generation.engine import Answer, generate, plan_batches
from arc_experiments.grids import Grid
from arc_experiments.prompts import Prompt, UnreadableGrid
from arc_experiments.prompts.tokens import Ids
from arc_experiments.selection import Candidate
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
    def key(self) -> tuple[str, int, int]:
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
    batch_tokens: int,
    partial: Path,
    on_progress: Callable[[int, int], None],
) -> list[Candidate]:
    """Answer every request; the candidates come in the order of the requests.

    Args:
        partial: candidates of finished batches are kept in this file while the work goes on.
        on_progress: called with (requests done, requests in all) after each batch.
    """
    asked = [request for request in requests if request.ids is not None]
    done = {(c.task_id, c.test_index, c.view): c for c in _read_partial(partial)}
    for request in requests:
        if request.ids is None:
            done[request.key] = _candidate(request, "", 0, 0.0, None, "too_long")
    lengths = [len(request.ids) for request in asked if request.ids is not None]
    with partial.open("a", encoding="utf-8") as file:
        for batch in plan_batches(lengths, extra=max_new_tokens, batch_tokens=batch_tokens):
            chosen = [asked[position] for position in batch]
            if not all(request.key in done for request in chosen):
                answers = generate(
                    model,
                    [request.ids for request in chosen if request.ids is not None],
                    max_new_tokens=max_new_tokens,
                    stop_ids=prompt.stop_ids,
                    pad_id=prompt.pad_id,
                )
                fresh = [_read(prompt, *pair) for pair in zip(chosen, answers, strict=True)]
                file.write("".join(f"{candidate.to_json()}\n" for candidate in fresh))
                file.flush()
                done |= {request.key: candidate for request, candidate in zip(chosen, fresh, strict=True)}
            on_progress(len(done), len(requests))
    return [done[request.key] for request in requests]


def _read_partial(partial: Path) -> Iterable[Candidate]:
    """Candidates of an earlier attempt; a line torn by a kill ends them, and is cut off."""
    if not partial.exists():
        return
    whole = 0
    for line in partial.read_bytes().splitlines(keepends=True):
        try:
            candidate = Candidate.from_json(line.decode())
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError):
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        yield candidate
    with partial.open("r+b") as file:
        file.truncate(whole)


def _read(prompt: Prompt, request: Request, answer: Answer) -> Candidate:
    text, grid, reason = prompt.decode(answer.ids), None, None
    try:
        grid = request.view.undo(prompt.read(text)) if answer.finished else None
        reason = None if answer.finished else "unfinished"
    except UnreadableGrid as error:
        reason = error.reason
    return _candidate(request, text, answer.num_tokens, answer.log_probability, grid, reason)


def _candidate(
    request: Request,
    text: str,
    num_tokens: int,
    log_probability: float,
    grid: Grid | None,
    reason: str | None,
) -> Candidate:
    return Candidate(
        task_id=request.task_id,
        test_index=request.test_index,
        view=request.view.index,
        transforms=request.view.name,
        text=text,
        num_tokens=num_tokens,
        log_probability=log_probability,
        grid=grid,
        reason=reason,
    )
