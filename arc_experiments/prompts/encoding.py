"""Encode tasks as token ids and labels: by look-up table if that equals the tokenizer, else by the tokenizer.

Labels are made here, -100 wherever there is no loss, and never inferred from a chat template.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from arc_experiments.pictures.drawing import AnyPicture, Picture
from arc_experiments.pictures.writer import PictureWriter
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.prompts.templates import Layout, Side, split
from arc_experiments.prompts.tokens import Ids, TokenTable
from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import Grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
NUM_REMEMBERED = 4096  # texts around programs, with their tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A prompt with or without its answer: ids and labels, int32, shape (tokens,).

    Attributes:
        num_prompt: number of tokens before the answer.
        pictures: in the order of their tokens.
    """

    input_ids: Ids
    labels: Ids
    num_prompt: int
    pictures: tuple[AnyPicture, ...] = ()

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


@lru_cache(maxsize=NUM_REMEMBERED)
def _tokenize_once(tokenizer: "PreTrainedTokenizerBase", text: str) -> Ids:
    return tokenize(tokenizer, text)


class Encoder:
    """Encodes tasks for one kind of question and one number of demonstrations.

    The methods take `pairs`: the demonstrations, then the test pair; and `program`: the text of the task's
    program, which is not looked at where the question has none.

    Args:
        prompt, answer: texts with marks for grids and program; the answer has one of either.
        learnt: the side that has a loss in all demonstrations but the first, in addition to the answer.
        end_id: the answer's last token.
        end: its text, which has a loss after each learnt output as after the answer.
        pictures: writes the pictures of a prompt that has some; such a prompt has no look-up table.
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
        pictures: PictureWriter | None = None,
    ) -> None:
        self._grid_text, self._table, self._tokenizer, self._end_id = grid_text, table, tokenizer, end_id
        self._prompt, self._answer = split(prompt, grid_text), split(answer, grid_text)
        self._pictures = pictures
        self._slots = (*self._prompt.slots, *self._answer.slots)
        self._learnt = frozenset(
            number for number, slot in enumerate(self._prompt.slots) if slot.side == learnt and slot.pair > 0
        )
        self._fixed = [tokenize(tokenizer, text) for text in self._prompt.texts]
        self._fixed_answer = [tokenize(tokenizer, text) for text in self._answer.texts]
        self._num_closing = {number: self._closing(number, end) for number in self._learnt}  # characters
        self._num_closing_tokens = {
            number: int(np.sum(self._learn(self._prompt.texts[number + 1], [(0, count)])[1] != IGNORED))
            for number, count in self._num_closing.items()
        }

    def _closing(self, number: int, end: str) -> int:
        """Return how many characters after a learnt grid are learnt too: an answer's ending, or a newline."""
        closing = (self._answer.texts[-1] if self._answer.slots else self._grid_text.tail) + end
        return len(closing) if self._prompt.texts[number + 1].startswith(closing) else 1

    def texts(self, pairs: list[Pair], program: str = "") -> tuple[str, str]:
        """Write prompt and answer as text, without the end token."""
        prompt, answer = (
            self._filled(layout, program, pairs)[0].write(pairs, self._grid_text)
            for layout in (self._prompt, self._answer)
        )
        return "".join(prompt), "".join(answer)

    def _filled(self, layout: Layout, program: str, pairs: list[Pair]) -> tuple[Layout, tuple[Picture, ...]]:
        """Return the layout with program and pictures in its texts, and the pictures."""
        layout = layout.with_program(program)
        if not layout.pictures:
            return layout, ()
        assert self._pictures is not None, "a prompt with pictures has something that writes them"
        pictures = tuple(self._pictures.make(shown.rows(pairs)) for shown in layout.pictures)
        return layout.with_pictures(map(self._pictures.text, pictures)), pictures

    def verify_pictures(self, pairs: list[Pair], program: str = "") -> None:
        """Raise UnknownInputs if the model's processor makes something else of prompt and pictures."""
        assert self._pictures is not None, "only of prompts with pictures"
        encoded = self.by_tokenizer(pairs, program, with_answer=False)
        layout = self._prompt.with_program(program)
        marked = layout.with_pictures([self._pictures.placeholder] * len(encoded.pictures))
        text = "".join(marked.write(pairs, self._grid_text))
        self._pictures.inputs.verify([text], [encoded.pictures], [encoded.input_ids])

    def num_tokens(self, pairs: list[Pair], program: str = "", *, with_answer: bool) -> int:
        """Return the number of tokens of `by_table` without making them."""
        prompt, answer = self._fixed_ids(program)
        count = self._count(self._prompt, prompt, pairs)
        return count + self._count(self._answer, answer, pairs) + 1 if with_answer else count

    def max_answer_tokens(self, height: int, width: int) -> int:
        """Return the most tokens, end included, that a grid of this shape takes as an answer."""
        return sum(map(len, self._fixed_answer)) + 1 + self._table.max_tokens(height, width)

    def by_table(self, pairs: list[Pair], program: str = "", *, with_answer: bool) -> Encoded:
        """Encode by look-up."""
        fixed, answer = self._fixed_ids(program)
        slots, num_answer = self._prompt.slots, 0
        if with_answer:
            num_answer = self._count(self._answer, answer, pairs) + 1
            between = np.concatenate([fixed[-1], answer[0]])
            fixed, slots = [*fixed[:-1], between, *answer[1:]], self._slots
            fixed[-1] = np.append(fixed[-1], np.int32(self._end_id))
        grids = [slot.grid(pairs) for slot in slots]
        ids = self._table.write(fixed, grids)
        num_prompt = len(ids) - num_answer
        labels = np.full(len(ids), IGNORED, np.int32)
        labels[num_prompt:] = ids[num_prompt:]
        if self._learnt:
            for start, end in self._learnt_spans(fixed, grids):
                labels[start:end] = ids[start:end]
        return Encoded(input_ids=ids, labels=labels, num_prompt=num_prompt)

    def by_tokenizer(self, pairs: list[Pair], program: str = "", *, with_answer: bool) -> Encoded:
        """Encode with the tokenizer; a token has a label if it lies inside a learnt text."""
        layout, pictures = self._filled(self._prompt, program, pairs)
        pieces = layout.write(pairs, self._grid_text)
        ends = np.cumsum([len(piece) for piece in pieces])
        spans = [
            (ends[2 * number], ends[2 * number + 1] + count) for number, count in self._num_closing.items()
        ]
        ids, labels = self._learn("".join(pieces), spans)
        num_prompt = len(ids)
        if with_answer:
            text = "".join(self._answer.with_program(program).write(pairs, self._grid_text))
            answer = np.append(tokenize(self._tokenizer, text), np.int32(self._end_id))
            ids, labels = np.concatenate([ids, answer]), np.concatenate([labels, answer])
        return Encoded(input_ids=ids, labels=labels, num_prompt=num_prompt, pictures=pictures)

    def _fixed_ids(self, program: str) -> tuple[list[Ids], list[Ids]]:
        """Return the ids of the texts between the grids of prompt and answer, with the program in them."""
        prompt, answer = (
            [_tokenize_once(self._tokenizer, text) for text in layout.with_program(program).texts]
            if layout.has_program
            else fixed
            for layout, fixed in ((self._prompt, self._fixed), (self._answer, self._fixed_answer))
        )
        return prompt, answer

    def _count(self, layout: Layout, fixed: list[Ids], pairs: list[Pair]) -> int:
        grids = (slot.grid(pairs) for slot in layout.slots)
        return sum(map(len, fixed)) + sum(map(self._table.num_tokens, grids))

    def _learnt_spans(self, fixed: list[Ids], grids: list[Grid]) -> list[tuple[int, int]]:
        """Return start and end of the demonstrations' learnt grids and their endings, in tokens."""
        spans, place = [], 0
        for number in range(len(self._prompt.slots)):
            start = place + len(fixed[number])
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
