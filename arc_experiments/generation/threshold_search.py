r"""All answers with at least a given probability, found exactly, as prefixes that grow by a token a step.

A prefix is at least as probable as anything that continues it, so one below the threshold p is dropped with
all its continuations. Prefixes of one length have together at most probability 1, so at most 1/p of them
survive; those of several prompts are the rows of one batch. (The answers are those of the depth-first search
of the ARChitects, da-fr/arc-prize-2024.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache

from arc_experiments.generation.constraint import Constraint
from arc_experiments.generation.engine import (
    Answer,
    Asked,
    Key,
    Limits,
    pad_left,
    positions,
    read_prompts,
    select_rows,
)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """All answers of at least probability `threshold`, the most probable first, or else the greedy answer.

    A prefix that is probable enough when the tokens run out is an unfinished answer. If there are several end
    tokens, an answer ends with the most probable one.

    Attributes:
        constraint: drops answers with other tokens; the probabilities of the rest do not change.
    """

    threshold: float = 0.1
    constraint: Constraint | None = None

    @property
    def rows_per_prompt(self) -> int:
        """Two, so that some prompts can branch; `answer` never computes more rows than that on average."""
        return 2

    @property
    def num_samples(self) -> int:
        return 1

    def only(self, samples: Sequence[int]) -> "Threshold":
        return self

    def answer(
        self, model: Any, prompts: Sequence[Asked], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        """Answer each prompt of one batch, from the most to the least probable answer.

        A batch that branches into more rows than planned is searched again in halves, down to single prompts.
        """
        with torch.inference_mode():
            found = self._search(model, prompts, limits)
        if found is None:
            middle = len(prompts) // 2
            first = self.answer(model, prompts[:middle], keys[:middle], limits)
            return first + self.answer(model, prompts[middle:], keys[middle:], limits)
        return found

    def _search(self, model: Any, prompts: Sequence[Asked], limits: Limits) -> list[list[Answer]] | None:
        """The answers to each prompt, or None if several prompts need more rows than planned."""
        most_rows = math.inf if len(prompts) == 1 else self.rows_per_prompt * len(prompts)
        inputs = pad_left(prompts, limits.pad_id, model.device)
        mask = inputs["attention_mask"]
        stop_ids = torch.tensor(limits.stop_ids, dtype=torch.int64, device=mask.device)
        cache, logits = read_prompts(model, inputs["input_ids"], mask)
        found = _Searched(len(prompts), math.log(self.threshold))
        paths = _Paths.at_prompts(len(prompts), mask.device)
        for step in range(1, limits.max_new_tokens + 1):
            next_token = _one_end(logits.float().log_softmax(-1), stop_ids)
            rows, paths = paths.grown(next_token, found.bound, self.constraint)
            ends = torch.isin(paths.ids[:, -1], stop_ids)
            found.add(paths.only(ends), finished=True)
            alive = ~ends & found.still_wanted(paths)
            rows, paths = rows[alive], paths.only(alive)
            if step == limits.max_new_tokens or not len(rows):
                break
            if len(rows) > most_rows:
                return None
            mask, logits = _read_last(model, paths.ids, rows, mask, cache)
        found.add(paths, finished=False)
        return found.sorted()


def _read_last(
    model: Any, ids: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor, cache: Cache
) -> tuple[torch.Tensor, torch.Tensor]:
    """Continue rows of the cache by the last token of each.

    Returns:
        The attention mask of these rows, and the logits after them, (rows, vocabulary).
    """
    if not torch.equal(rows, torch.arange(len(mask), device=rows.device)):
        select_rows(cache, rows)
    mask = torch.cat([mask[rows], mask.new_ones((len(rows), 1))], dim=1)
    output = model(
        input_ids=ids[:, -1:],
        attention_mask=mask,
        position_ids=positions(mask)[:, -1:],
        past_key_values=cache,
        use_cache=True,
    )
    return mask, output.logits[:, -1]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Paths:
    """Prefixes of answers, a row each.

    Attributes:
        owner: position of the prompt; int64, shape (rows,).
        ids: int64, shape (rows, steps).
        log_probability: float64, shape (rows,).
        is_greedy: whether every token was the most probable one; bool, shape (rows,).
        state: of the constraint; int64, shape (rows,).
    """

    owner: torch.Tensor
    ids: torch.Tensor
    log_probability: torch.Tensor
    is_greedy: torch.Tensor
    state: torch.Tensor

    @classmethod
    def at_prompts(cls, num_prompts: int, device: torch.device) -> "_Paths":
        """Start with the empty prefix of each prompt."""
        return cls(
            owner=torch.arange(num_prompts, device=device),
            ids=torch.empty((num_prompts, 0), dtype=torch.int64, device=device),
            log_probability=torch.zeros(num_prompts, dtype=torch.float64, device=device),
            is_greedy=torch.ones(num_prompts, dtype=torch.bool, device=device),
            state=torch.full((num_prompts,), Constraint.start, device=device),
        )

    def only(self, rows: torch.Tensor) -> "_Paths":
        """Select prefixes by a mask or by indices."""
        return _Paths(**{name: values[rows] for name, values in vars(self).items()})

    def grown(
        self, next_token: torch.Tensor, bound: float, constraint: Constraint | None
    ) -> tuple[torch.Tensor, "_Paths"]:
        """Continue prefixes by all tokens that keep them above the bound, greedy ones by the best token too.

        Args:
            next_token: log-probabilities, shape (rows, vocabulary).

        Returns:
            The row that each new prefix continues, and the new prefixes.
        """
        if constraint is not None:
            next_token = next_token.masked_fill(~constraint.mask(self.state.tolist(), next_token), -torch.inf)
        total = self.log_probability[:, None] + next_token.double()
        best = next_token.argmax(-1, keepdim=True)
        is_greedy = (
            torch.zeros_like(total, dtype=torch.bool).scatter_(1, best, True) & self.is_greedy[:, None]
        )
        rows, ids = ((total >= bound) | is_greedy).nonzero(as_tuple=True)
        before = self.only(rows)
        state = before.state
        if constraint is not None:
            state = state.new_tensor(constraint.after(state.tolist(), ids.tolist()))
        return rows, _Paths(
            owner=before.owner,
            ids=torch.cat([before.ids, ids[:, None]], dim=1),
            log_probability=total[rows, ids],
            is_greedy=is_greedy[rows, ids],
            state=state,
        )


def _one_end(next_token: torch.Tensor, stop_ids: torch.Tensor) -> torch.Tensor:
    """Set the log-probabilities of all end tokens but the most probable to -inf, in place."""
    if len(stop_ids) < 2:
        return next_token
    ends = next_token[:, stop_ids]
    best = torch.zeros_like(ends, dtype=torch.bool).scatter_(1, ends.argmax(-1, keepdim=True), True)
    next_token[:, stop_ids] = ends.masked_fill(~best, -torch.inf)
    return next_token


class _Searched:
    """Collects the answers to each prompt.

    Args:
        bound: the logarithm of the threshold.
    """

    def __init__(self, num_prompts: int, bound: float) -> None:
        self.bound = bound
        self._answers: list[list[Answer]] = [[] for _ in range(num_prompts)]

    def add(self, paths: _Paths, *, finished: bool) -> None:
        """Add these as answers; the last token of finished ones is an end token."""
        rows = (paths.owner.tolist(), paths.ids.tolist(), paths.log_probability.tolist())
        for owner, ids, log_probability in zip(*rows, strict=True):
            answer = Answer(
                ids=tuple(ids[:-1] if finished else ids),
                num_tokens=len(ids),
                log_probability=log_probability,
                finished=finished,
            )
            self._answers[owner].append(answer)

    def still_wanted(self, paths: _Paths) -> torch.Tensor:
        """Which prefixes can become answers: those below the bound only if their prompt has none yet."""
        answered = torch.tensor(list(map(bool, self._answers)), device=paths.owner.device)
        return (paths.log_probability >= self.bound) | ~answered[paths.owner]

    def sorted(self) -> list[list[Answer]]:
        """The answers to each prompt, the most probable first: those above the bound, or else all."""
        return [
            sorted(
                [answer for answer in group if answer.log_probability >= self.bound] or group,
                key=lambda answer: (-answer.log_probability, answer.ids),
            )
            for group in self._answers
        ]
