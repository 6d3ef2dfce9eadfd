r"""Likelihoods: how probable each distinct answer to a test input is under several views of the task.

    candidate [[2, 2]] of task 0a1b2c3d, view 3 (rot90, 1 <-> 2)  ->  log p("1\n1\n" | the prompt of view 3)

The views are the same for every candidate. Each view's prompt is read once; all candidates go on from its keys and
values as the rows of one batch.
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.nn.functional import cross_entropy

from arc_experiments.augmentation import View, draw_views
from arc_experiments.generation.batching import Room
from arc_experiments.generation.cache import positions, read_prompts, rows_of
from arc_experiments.generation.engine import pad_left, plan_batches
from arc_experiments.generation.fitting import no_room_for
from arc_experiments.generation.resuming import Record, in_batches
from arc_experiments.prompts import Prompt
from arc_experiments.prompts.tokens import Ids
from arc_experiments.scoring.selection import Candidate, Likelihood
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid

MAX_LOGITS = 2**27  # numbers held at once: half a gigabyte in float32

GridKey = tuple[tuple[int, ...], bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One view's prompt, and each distinct candidate as it is seen in that view.

    Attributes:
        grids: the candidates in the original orientation and colours; `answers` are their tokens, with the end.
    """

    task_id: str
    test_index: int
    view: View
    prompt: Ids
    grids: tuple[Grid, ...]
    answers: tuple[Ids, ...]

    @property
    def num_tokens(self) -> int:
        """Of the prompt and the longest candidate."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def name(self) -> tuple[str, int, int, str]:
        """Task, test output, view, and a few digits that stand for the candidates."""
        digest = hashlib.sha256(b"".join(grid.tobytes() + bytes(grid.shape) for grid in self.grids))
        return self.task_id, self.test_index, self.view.index, digest.hexdigest()[:16]


def with_likelihoods(
    model: Any,
    prompt: Prompt,
    tasks: TaskSet,
    candidates: Sequence[Candidate],
    *,
    num_views: int,
    seed: int,
    room: Room,
    partial: Path,
    processes: PartialState,
    on_progress: Callable[[int, int], None],
) -> list[Candidate]:
    """The candidates, each valid one with its likelihood under the first `num_views` views of its task.

    A view whose prompt does not fit is left out for all candidates of that test input.

    Args:
        tasks: those of the candidates; solutions are neither needed nor looked at.
        room: for prompts and candidates; batches that do not fit are computed in parts.
        partial: likelihoods of finished batches are kept in this folder while the work goes on.
        on_progress: called with (prompts done, prompts in all) before the first and after each batch.
    """
    asked = list(_comparisons(prompt, tasks, candidates, num_views=num_views, seed=seed))

    def values_of(part: Sequence[Comparison]) -> list[list[float]]:
        prompts, answers = [one.prompt for one in part], [one.answers for one in part]
        with no_room_for(part[0].task_id, part[0].num_tokens):
            return log_probabilities(model, prompts, answers, pad_id=prompt.pad_id, room=room)

    def compare(batch: Sequence[int]) -> list[list[Record]]:
        chosen = [asked[position] for position in batch]
        found = room.in_parts(chosen, _num_tokens, values_of)
        return [
            [
                {"log_probability": value, "num_tokens": len(ids)}
                for value, ids in zip(values, one.answers, strict=True)
            ]
            for values, one in zip(found, chosen, strict=True)
        ]

    results = in_batches(
        [one.name for one in asked],
        plan_batches(
            [one.num_tokens for one in asked],
            extra=0,
            batch_tokens=room.batch_tokens,
            rows_per_prompt=[len(one.answers) for one in asked],
        ),
        compare,
        partial=partial,
        processes=processes,
        on_progress=lambda done: on_progress(done, len(asked)),
    )
    likelihoods: dict[tuple[str, int, GridKey], list[Likelihood]] = defaultdict(list)
    for one, records in zip(asked, results, strict=True):
        for grid, record in zip(one.grids, records, strict=True):
            likelihoods[one.task_id, one.test_index, _key(grid)].append(
                Likelihood(view=one.view.index, **record)
            )
    return [_joined(candidate, likelihoods) for candidate in candidates]


def _num_tokens(part: Sequence[Comparison]) -> int:
    return sum(len(one.answers) for one in part) * max(one.num_tokens for one in part)


def _joined(candidate: Candidate, likelihoods: dict[tuple[str, int, GridKey], list[Likelihood]]) -> Candidate:
    if candidate.grid is None:
        return candidate
    found = likelihoods[candidate.task_id, candidate.test_index, _key(candidate.grid)]
    return dataclasses.replace(candidate, likelihoods=tuple(found))


def _comparisons(
    prompt: Prompt, tasks: TaskSet, candidates: Iterable[Candidate], *, num_views: int, seed: int
) -> Iterator[Comparison]:
    """In order: task, test pair, view. The distinct candidates come in the order in which they were given."""
    grids: dict[tuple[str, int], dict[GridKey, Grid]] = defaultdict(dict)
    for candidate in candidates:
        if candidate.grid is not None:
            grids[candidate.task_id, candidate.test_index].setdefault(_key(candidate.grid), candidate.grid)
    for task in tasks.without_solutions():
        views = draw_views(task, num_views, seed)
        for test_index in range(len(task.test)):
            distinct = tuple(grids[task.id, test_index].values())
            for view in views if distinct else ():
                seen = [view.apply(_answered(task, test_index, grid)) for grid in distinct]
                fitted = prompt.fit(seen[0], test_index, with_answer=False)
                if fitted is not None:
                    yield Comparison(
                        task_id=task.id,
                        test_index=test_index,
                        view=view,
                        prompt=fitted.encoded.input_ids,
                        grids=distinct,
                        answers=tuple(answer_ids(prompt, one.test[test_index]) for one in seen),
                    )


def _answered(task: Task, test_index: int, grid: Grid) -> Task:
    """The task with the grid as the output of this test pair."""
    pairs = list(task.test)
    pairs[test_index] = dataclasses.replace(pairs[test_index], output=grid)
    return dataclasses.replace(task, test=tuple(pairs))


def answer_ids(prompt: Prompt, pair: Pair) -> Ids:
    """The tokens of a pair's output, with the end; they are the same behind any prompt."""
    encoded = prompt.encode(Task(id="", train=(pair,), test=(pair,)))
    return encoded.input_ids[encoded.num_prompt :]


def _key(grid: Grid) -> GridKey:
    return grid.shape, grid.tobytes()


def log_probabilities(
    model: Any,
    prompts: Sequence[Ids],
    answers: Sequence[Sequence[Ids]],
    *,
    pad_id: int,
    room: Room,
) -> list[list[float]]:
    """Of each prompt's answers: the summed log-probability of their tokens behind that prompt.

    Args:
        room: answers are computed in as many parts as it takes; prompts are all read at once.

    Raises:
        NoRoom: one answer does not fit beside the prompts.
    """
    rows = [(place, ids) for place, group in enumerate(answers) for ids in group]
    with torch.inference_mode():
        inputs = pad_left(prompts, pad_id, model.device)
        mask = inputs["attention_mask"]
        cache, logits = read_prompts(model, inputs["input_ids"], mask)
        first = logits.log_softmax(-1)
        longest = max(len(ids) for _, ids in rows)
        size = max(1, MAX_LOGITS // (longest * logits.shape[1]))
        totals: list[float] = []
        for start in range(0, len(rows), size):
            totals += room.in_parts(
                rows[start : start + size],
                lambda part: len(part) * (mask.shape[1] + longest),
                lambda part: _continued(model, cache, mask, first, part, pad_id),
            )
    values = iter(totals)
    return [[next(values) for _ in group] for group in answers]


def _continued(
    model: Any,
    cache: Any,
    mask: torch.Tensor,
    first: torch.Tensor,
    rows: Sequence[tuple[int, Ids]],
    pad_id: int,
) -> list[float]:
    """The log-probabilities of these answers, each behind the prompt of its number.

    Args:
        first: log-probabilities of each prompt's next token.
    """
    device, longest = mask.device, max(len(ids) for _, ids in rows)
    owners = torch.tensor([place for place, _ in rows], device=device)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    is_answer = torch.zeros_like(ids)
    for row, (_, values) in enumerate(rows):
        ids[row, : len(values)] = torch.from_numpy(values)
        is_answer[row, : len(values)] = 1
    ids, is_answer = ids.to(device), is_answer.to(device)
    totals = first[owners, ids[:, 0]].double()
    if longest > 1:
        whole = torch.cat([mask[owners], is_answer[:, :-1]], dim=1)
        logits = model(
            input_ids=ids[:, :-1],
            attention_mask=whole,
            position_ids=positions(whole)[:, mask.shape[1] :],
            past_key_values=rows_of(cache, owners),
            use_cache=True,
        ).logits
        losses = cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").double()
        totals -= (losses * is_answer[:, 1:]).sum(-1)
    return [float(total) for total in totals]
