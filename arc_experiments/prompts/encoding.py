"""Encode tasks as token ids and labels: by look-up table if that equals the tokenizer, else by the tokenizer.

Labels are made here, -100 wherever there is no loss, and never inferred from a chat template.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arc_experiments.prompts.grid_text import GridText
from arc_experiments.prompts.templates import Side, Slot, split
from arc_experiments.prompts.tokens import Ids, TokenTable
from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import Grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A prompt with or without its answer: ids and labels, int32, shape (tokens,).

    Attributes:
        num_prompt: number of tokens before the answer.
    """

    input_ids: Ids
    labels: Ids
    num_prompt: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def equals(self, other: "Encoded") -> bool:
        """Return whether ids, labels and the start of the answer are the same."""
        return (
            self.num_prompt == other.num_prompt
            and np.array_equal(self.input_ids, other.input_ids)
            and np.array_equal(self.labels, other.labels)
        )


def tokenize(tokenizer: "PreTrainedTokenizerBase", text: str) -> Ids:
    """Tokenize a text without adding special tokens; int32, shape (tokens,)."""
    return np.array(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)


class Encoder:
    """Encodes tasks for one kind of question and one number of demonstrations.

    The methods take `pairs`: the demonstrations, then the test pair.

    Args:
        prompt, answer: texts with marks for grids; the answer has one.
        learnt: the side that has a loss in all demonstrations but the first, in addition to the answer.
        end_id: the answer's last token.
        end: its text, which has a loss after each learnt output as after the answer.
    """

    def __init__(
        self,
        *,
        prompt: str,
        answer: str,
        learnt: Side | None,
        grid_text: GridText,
        table: TokenTable,
        tokenizer: "PreTrainedTokenizerBase",
        end_id: int,
        end: str,
    ) -> None:
        self._grid_text, self._table, self._tokenizer, self._end_id = grid_text, table, tokenizer, end_id
        self._prompt, self._answer = split(prompt, grid_text), split(answer, grid_text)
        self._slots = (*self._prompt.slots, *self._answer.slots)
        self._learnt = frozenset(
            number for number, slot in enumerate(self._prompt.slots) if slot.side == learnt and slot.pair > 0
        )
        fixed = [tokenize(tokenizer, text) for text in self._prompt.texts]
        before, after = (tokenize(tokenizer, text) for text in self._answer.texts)
        after = np.append(after, np.int32(end_id))
        self._fixed = fixed
        self._fixed_with_answer = [*fixed[:-1], np.concatenate([fixed[-1], before]), after]
        self._num_answer_fixed = len(before) + len(after)
        self._num_closing = {number: self._closing(number, end) for number in self._learnt}  # characters
        self._num_closing_tokens = {
            number: int(np.sum(self._learn(self._prompt.texts[number + 1], [(0, count)])[1] != IGNORED))
            for number, count in self._num_closing.items()
        }

    def _closing(self, number: int, end: str) -> int:
        """Return how many characters after a learnt grid are learnt too: an answer's ending, or a newline."""
        closing = self._answer.texts[-1] + end
        return len(closing) if self._prompt.texts[number + 1].startswith(closing) else 1

    def texts(self, pairs: list[Pair]) -> tuple[str, str]:
        """Write prompt and answer as text, without the end token."""
        prompt, answer = (layout.write(pairs, self._grid_text) for layout in (self._prompt, self._answer))
        return "".join(prompt), "".join(answer)

    def num_tokens(self, pairs: list[Pair], *, with_answer: bool) -> int:
        """Return the number of tokens of `by_table` without making them."""
        slots, fixed = self._parts(with_answer)
        return sum(map(len, fixed)) + sum(self._table.num_tokens(slot.grid(pairs)) for slot in slots)

    def max_answer_tokens(self, height: int, width: int) -> int:
        """Return the most tokens, end included, that an answer of this shape takes."""
        return self._num_answer_fixed + self._table.max_tokens(height, width)

    def by_table(self, pairs: list[Pair], *, with_answer: bool) -> Encoded:
        """Encode by look-up."""
        slots, fixed = self._parts(with_answer)
        grids = [slot.grid(pairs) for slot in slots]
        ids = self._table.write(fixed, grids)
        num_prompt = len(ids)
        if with_answer:
            num_prompt -= self._num_answer_fixed + self._table.num_tokens(grids[-1])
        labels = np.full(len(ids), IGNORED, np.int32)
        labels[num_prompt:] = ids[num_prompt:]
        if self._learnt:
            for start, end in self._learnt_spans(grids):
                labels[start:end] = ids[start:end]
        return Encoded(input_ids=ids, labels=labels, num_prompt=num_prompt)

    def by_tokenizer(self, pairs: list[Pair], *, with_answer: bool) -> Encoded:
        """Encode with the tokenizer; a token has a label if it lies inside a learnt text."""
        pieces = self._prompt.write(pairs, self._grid_text)
        ends = np.cumsum([len(piece) for piece in pieces])
        spans = [
            (ends[2 * number], ends[2 * number + 1] + count) for number, count in self._num_closing.items()
        ]
        ids, labels = self._learn("".join(pieces), spans)
        num_prompt = len(ids)
        if with_answer:
            answer = tokenize(self._tokenizer, "".join(self._answer.write(pairs, self._grid_text)))
            answer = np.append(answer, np.int32(self._end_id))
            ids, labels = np.concatenate([ids, answer]), np.concatenate([labels, answer])
        return Encoded(input_ids=ids, labels=labels, num_prompt=num_prompt)

    def _parts(self, with_answer: bool) -> tuple[tuple[Slot, ...], list[Ids]]:
        return (self._slots, self._fixed_with_answer) if with_answer else (self._prompt.slots, self._fixed)

    def _learnt_spans(self, grids: list[Grid]) -> list[tuple[int, int]]:
        """Return start and end of the demonstrations' learnt grids and their endings, in tokens."""
        spans, place = [], 0
        for number, fixed in enumerate(self._fixed[:-1]):
            start = place + len(fixed)
            place = start + self._table.num_tokens(grids[number])
            if number in self._learnt:
                spans.append((start, place + self._num_closing_tokens[number]))
        return spans

    def _learn(self, text: str, spans: list[tuple[int, int]]) -> tuple[Ids, Ids]:
        """Return ids, and labels for those that lie entirely within one of these spans of characters."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=bool(spans))
        ids = np.array(encoded["input_ids"], dtype=np.int32)
        labels = np.full_like(ids, IGNORED)
        if spans:
            offsets = np.array(encoded["offset_mapping"]).reshape(-1, 2)
            # Some tokenizers exclude spaces from a token's offsets: a token begins where its predecessor
            # ends.
            starts = np.minimum(offsets[:, 0], np.concatenate([[0], offsets[:, 1]])[:-1])
            for start, end in spans:
                inside = (starts >= start) & (offsets[:, 1] <= end)
                labels[inside] = ids[inside]
        return ids, labels
