"""What fits into memory at once: batches that do not are worked on in halves, down to single pieces.

32,768 tokens asked for; out of memory  ->  16,384 + 16,384, and 16,384 at the most from then on
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate.utils import release_memory
from accelerate.utils.memory import should_reduce_batch_size

log = logging.getLogger(__name__)

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class NoRoom(ValueError):
    """A piece of work that does not fit into memory by itself."""


class Room:
    """How many tokens are worked on at once.

    Attributes:
        batch_tokens: as configured; batches are planned by it.
        tokens: what has not been seen to be too much.
    """

    def __init__(self, batch_tokens: int) -> None:
        self.batch_tokens = self.tokens = batch_tokens

    def in_parts(
        self,
        pieces: Sequence[Piece],
        num_tokens: Callable[[Sequence[Piece]], int],
        work: Callable[[Sequence[Piece]], list[Result]],
    ) -> list[Result]:
        """The results of all pieces: of all at once if there is room, else of as few at a time as it takes.

        Raises:
            NoRoom: one piece does not fit by itself.
        """
        if len(pieces) == 1 or num_tokens(pieces) <= self.tokens:
            try:
                return work(pieces)
            except Exception as error:
                has_been_divided = isinstance(error, NoRoom)
                if not (has_been_divided or is_out_of_memory(error)):
                    raise
                if len(pieces) == 1 and has_been_divided:
                    raise
                if len(pieces) == 1:
                    raise NoRoom(str(error)) from error
            # What did not fit is free only now: the error held it.
            release_memory()
            self._shrink(num_tokens(pieces[: (len(pieces) + 1) // 2]))
        middle = (len(pieces) + 1) // 2
        first = self.in_parts(pieces[:middle], num_tokens, work)
        return first + self.in_parts(pieces[middle:], num_tokens, work)

    def _shrink(self, tokens: int) -> None:
        if tokens < self.tokens:
            log.warning("out of memory: from here on at most %d tokens at once", tokens)
            self.tokens = tokens


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the CPU had no memory left for what was asked of it."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )
