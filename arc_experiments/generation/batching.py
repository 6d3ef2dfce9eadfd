"""What is computed at once: batches are planned by a number of tokens, and halved when memory runs out.

32,768 tokens planned; out of memory  ->  16,384 + 16,384, and at most 16,384 at once from then on
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from accelerate.utils import release_memory
from accelerate.utils.memory import should_reduce_batch_size

from arc_experiments.generation.engine import Answer, Asked, Engine, Key, Limits

log = logging.getLogger(__name__)

Part = TypeVar("Part", bound="Divisible")
Result = TypeVar("Result")


class OutOfMemory(ValueError):
    """A piece of work that does not fit into memory by itself; the message names it and the remedies."""


def plan_batches(
    lengths: Sequence[int], *, extra: int, batch_tokens: int, rows_per_prompt: int | Sequence[int] = 1
) -> list[list[int]]:
    """Group positions so that rows x (longest + extra) stays within `batch_tokens`, longest first.

    The same lengths give the same batches, so an interrupted evaluation can resume with them.

    Args:
        rows_per_prompt: of each position, or one number for all.
    """
    rows = [rows_per_prompt] * len(lengths) if isinstance(rows_per_prompt, int) else rows_per_prompt
    batches: list[list[int]] = []
    taken = 0
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        longest = lengths[batches[-1][0]] if batches else 0
        taken += rows[position]
        if not batches or taken * (longest + extra) > batch_tokens:
            batches.append([])
            taken = rows[position]
        batches[-1].append(position)
    return batches


class Divisible(Protocol):
    """Work that can be computed in parts, which take memory for `num_rows` x `row_tokens`."""

    @property
    def num_rows(self) -> int:
        """Rows of one call of the model."""

    @property
    def row_tokens(self) -> int:
        """The longest row, in tokens."""

    @property
    def task_id(self) -> str:
        """The task that work belongs to if it cannot be divided."""

    def halves(self) -> "Sequence[Self]":
        """Divide it; empty if it cannot be divided."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptBatch:
    """Prompts that an engine answers at once; halved by prompts, and a single prompt by its samples."""

    engine: Engine
    limits: Limits
    prompts: Sequence[tuple[Key, Asked]]

    @property
    def num_rows(self) -> int:
        return len(self.prompts) * self.engine.rows_per_prompt

    @property
    def row_tokens(self) -> int:
        return max(len(ids) for _, ids in self.prompts) + self.limits.max_new_tokens

    @property
    def task_id(self) -> str:
        return self.prompts[0][0][0]

    def halves(self) -> "list[PromptBatch]":
        if len(self.prompts) > 1:
            return [replace(self, prompts=half) for half in halves_of(self.prompts)]
        samples = halves_of(range(self.engine.num_samples))
        return [replace(self, engine=self.engine.only(half)) for half in samples]

    def answer(self, model: Any) -> list[tuple[Key, Answer]]:
        """Answer all of it at once, in order."""
        keys = [key for key, _ in self.prompts]
        found = self.engine.answer(model, [ids for _, ids in self.prompts], keys, self.limits)
        return [(key, answer) for key, answers in zip(keys, found, strict=True) for answer in answers]


class TokenBudget:
    """How many tokens are computed at once.

    Attributes:
        planned: as configured; batches are planned with it.
        tokens: the planned number, or less once that ran out of memory.
    """

    def __init__(self, planned: int) -> None:
        self.planned = self.tokens = planned

    def in_parts(self, whole: Part, compute: Callable[[Part], list[Result]]) -> list[Result]:
        """Compute all at once if budget and memory allow it, else half by half, however often it takes.

        Raises:
            OutOfMemory: work that cannot be divided does not fit by itself.
        """
        halves = whole.halves()
        if not halves or whole.num_rows * whole.row_tokens <= self.tokens:
            try:
                return compute(whole)
            except Exception as error:
                if not (isinstance(error, OutOfMemory) or is_out_of_memory(error)):
                    raise
                if not halves:
                    raise _too_large(whole, error) from error
            # Only now is the memory free: the error's traceback held the tensors.
            release_memory()
            self._shrink(halves[0].num_rows * halves[0].row_tokens)
        return [result for half in halves for result in self.in_parts(half, compute)]

    def _shrink(self, tokens: int) -> None:
        if tokens < self.tokens:
            log.warning("out of memory: at most %d tokens at once from here on", tokens)
            self.tokens = tokens


def halves_of(pieces: Sequence[Any]) -> list[Any]:
    """Divide a sequence, the first half not shorter; empty if it holds one piece only."""
    middle = (len(pieces) + 1) // 2
    return [pieces[:middle], pieces[middle:]] if len(pieces) > 1 else []


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the CPU had not enough memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def _too_large(work: Divisible, error: Exception) -> OutOfMemory:
    if isinstance(error, OutOfMemory) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return OutOfMemory(
        f"task {work.task_id}: one prompt with its answer, up to {work.row_tokens:,} tokens, does not fit "
        "into memory by itself (inference.batch_tokens limits several together): lower prompt.max_length or "
        "inference.max_new_tokens, raise inference.threshold if that is the engine, use a smaller model or "
        f"model.quantisation=4bit, or a GPU that nobody else uses ({error})"
    )
