r"""Views of tasks -> prompts -> answers -> candidates, saved batch by batch.

    request (task 0a1b2c3d, test 0, view 3) -> "I10\n...O" -> "22\n02\n" -> grid, turned back by the view

A killed evaluation goes on after its last whole batch: batches depend on the requests alone.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from arc_experiments.augmentation import NotInImage, View, draw_views
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
    processes: PartialState,
    on_progress: Callable[[int, int], None],
) -> list[Candidate]:
    """Answer every request, batches shared out among the processes; candidates in the order of the requests.

    Args:
        partial: candidates of finished batches are kept in this folder, a file a process, while the work goes on.
        on_progress: called with (requests done, requests in all) before the first and after each batch; of several
            processes each takes the others to be as far as itself.
    """
    partial.mkdir(exist_ok=True)
    asked = [request for request in requests if request.ids is not None]
    done = _read_partial(partial)
    processes.wait_for_everyone()  # all have read before one writes
    for request in requests:
        if request.ids is None:
            done[request.key] = _candidate(request, "", 0, 0.0, None, "too_long")
    earlier, fresh_here = len(done), 0
    on_progress(earlier, len(requests))
    lengths = [len(request.ids) for request in asked if request.ids is not None]
    batches = plan_batches(lengths, extra=max_new_tokens, batch_tokens=batch_tokens)
    with (partial / f"{processes.process_index}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a line that a kill has torn
        for batch in batches[processes.process_index :: processes.num_processes]:
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
                fresh_here += len(fresh)
                everywhere = earlier + fresh_here * processes.num_processes
                on_progress(min(everywhere, len(requests)), len(requests))
    processes.wait_for_everyone()
    done |= _read_partial(partial)
    return [done[request.key] for request in requests]


def _read_partial(partial: Path) -> dict[tuple[str, int, int], Candidate]:
    """Candidates of earlier attempts and of the other processes, but for lines torn by a kill."""
    found: dict[tuple[str, int, int], Candidate] = {}
    for file in sorted(partial.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError, KeyError):
                candidate = Candidate.from_json(line.decode())
                found[candidate.task_id, candidate.test_index, candidate.view] = candidate
    return found


def _read(prompt: Prompt, request: Request, answer: Answer) -> Candidate:
    text, grid, reason = prompt.decode(answer.ids), None, None
    try:
        grid = request.view.undo(prompt.read(text)) if answer.finished else None
        reason = None if answer.finished else "unfinished"
    except (UnreadableGrid, NotInImage) as error:
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
