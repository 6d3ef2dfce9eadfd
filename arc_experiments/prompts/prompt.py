"""A task as tokens with labels, and the answer's text as a grid.

Labels are made here, -100 wherever the loss does not look, and never inferred from a chat template.
"""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from arc_experiments.grids import MAX_SIDE, Grid
from arc_experiments.prompts.grid_text import GridText, UnreadableGrid
from arc_experiments.prompts.layout import TEST, Field, Layout, Piece, slot, split_slots
from arc_experiments.prompts.tokens import Ids, TokenTable
from arc_experiments.tasks import Pair, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
Length = TypeVar("Length", bound=Sized)
# Some chat templates (Llama 3.2) write today's date into the prompt; a date in the prompt is no constant.
TEMPLATE_DATE = "26 Jul 2024"


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A prompt with its answer: ids and labels, int32, shape (tokens,)."""

    input_ids: Ids
    labels: Ids

    def __len__(self) -> int:
        return len(self.input_ids)


class Prompt:
    """Writes tasks for one tokenizer, reads answers.

    Args:
        system, introduction, demonstration, question, answer: the template's parts; {input}, {output} and
            {number} stand for grids and the demonstration's number.
        loss_on: "test_output", or "all_outputs": the demonstrations' outputs too, from the second on.
        chat: use the tokenizer's chat template where it has one.
        max_length: longest sample in tokens, see `fit`.
    """

    def __init__(
        self,
        *,
        tokenizer: "PreTrainedTokenizerBase",
        grid: GridText,
        system: str | None,
        introduction: str,
        demonstration: str,
        question: str,
        answer: str,
        loss_on: str,
        chat: bool,
        max_length: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._grid = grid
        self._system, self._introduction = system, introduction
        self._demonstration, self._question, self._answer = demonstration, question, answer
        self._all_outputs = loss_on == "all_outputs"
        self._chat = chat and tokenizer.chat_template is not None
        self.max_length = max_length
        self._layouts: dict[int, Layout] = {}
        self._table = TokenTable(grid, self.tokenize)
        self._end = self._find_end()
        self.exact_table = False  # until verified
        self.table_refused: str | None = None  # why not, if verified and refused

    def tokenize(self, text: str) -> Ids:
        """The tokenizer's own answer, without added special tokens."""
        return np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: the end of the turn, and of the text."""
        eos = self._tokenizer.eos_token_id
        return (self._end,) if eos in (None, self._end) else (self._end, eos)

    @property
    def pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return self._end if pad is None else pad

    def longest_answer(self) -> int:
        """Tokens of the largest grid's answer, with its end."""
        full = Pair(input=np.zeros((1, 1), np.uint8), output=np.zeros((MAX_SIDE, MAX_SIDE), np.uint8))
        text = "".join(self._text(piece, [full]) for piece in self._layout(0).answer)
        return len(self.tokenize(text)) + 1

    def encode(self, task: Task, test_index: int = 0) -> Encoded:
        """Prompt and answer of one test pair. The output must be there."""
        pairs, layout = _pairs(task, test_index), self._layout(len(task.train))
        parts = self._parts if self.exact_table else self._parts_by_tokenizer
        prompt, prompt_labels = parts(layout.prompt, pairs)
        answer, _ = parts(layout.answer, pairs)
        answer = np.append(answer, np.int32(self._end))
        return Encoded(
            input_ids=np.concatenate([prompt, answer]), labels=np.concatenate([prompt_labels, answer])
        )

    def encode_prompt(self, task: Task, test_index: int = 0) -> Ids:
        """The prompt alone, up to where the model is to go on."""
        pairs, layout = _pairs(task, test_index), self._layout(len(task.train))
        parts = self._parts if self.exact_table else self._parts_by_tokenizer
        return parts(layout.prompt, pairs)[0]

    def text(self, task: Task, test_index: int = 0) -> str:
        """What `encode` gives the ids of, without the end token."""
        pairs, layout = _pairs(task, test_index), self._layout(len(task.train))
        return "".join(self._text(piece, pairs) for piece in (*layout.prompt, *layout.answer))

    def fit(
        self, task: Task, test_index: int, encode: Callable[[Task, int], Length]
    ) -> tuple[Length, Task, int] | None:
        """Drop demonstrations, the last first, until `encode(task, test_index)` is within `max_length`.

        Args:
            encode: `self.encode` or `self.encode_prompt`.

        Returns:
            What `encode` gave, the task it was given, and how many demonstrations were dropped; None where
            not even one demonstration fits.
        """
        for dropped in range(len(task.train)):
            kept = task.train[: len(task.train) - dropped]
            smaller = Task(id=task.id, train=kept, test=task.test, split=task.split)
            encoded = encode(smaller, test_index)
            if len(encoded) <= self.max_length:
                return encoded, smaller, dropped
        return None

    def read(self, text: str) -> Grid:
        """The grid in an answer's text (without its end token).

        Raises:
            UnreadableGrid: with a reason, see `GridText.read`; "no_grid" where the answer's fixed words miss.
        """
        before, after = self._answer.split("{output}")
        text = text.strip()
        if not text.startswith(before.strip()):
            raise UnreadableGrid("no_grid" if text else "empty")
        if not text.endswith(after.strip()):
            raise UnreadableGrid("unclosed")
        return self._grid.read(text.removeprefix(before.strip()).removesuffix(after.strip()))

    def decode(self, ids: Any) -> str:
        return str(self._tokenizer.decode(ids))

    def verify(self, tasks: Iterable[Task]) -> None:
        """Compare the look-up table with the tokenizer on real tasks; use it only if they always agree.

        Raises:
            ValueError: the tokenizer does not know a character of the prompt.
        """
        self.exact_table, reason = False, None
        if not self._table.usable:
            reason = "cells are not of equal length in tokens"
        for task in tasks:
            pairs, layout = _pairs(task, 0), self._layout(len(task.train))
            for pieces in (layout.prompt, layout.answer):
                truth = self._parts_by_tokenizer(pieces, pairs)
                self._check_known("".join(self._text(piece, pairs) for piece in pieces), truth[0])
                if reason is None and not all(map(np.array_equal, truth, self._parts(pieces, pairs))):
                    reason = "the tokenizer merges text over the edges of cells"
        self.exact_table, self.table_refused = reason is None, reason

    def _check_known(self, text: str, ids: Ids) -> None:
        """Refuse a tokenizer that loses part of the text (some drop what they do not know)."""
        back = self.decode(ids)
        if "".join(back.split()) != "".join(text.split()) or len(self.tokenize("\n")) == 0:
            raise ValueError(
                f"prompt: this model's tokenizer ({len(self._tokenizer)} tokens) cannot write this prompt: "
                f"{text[:60]!r} comes back as {back[:60]!r}; choose another prompt (prompt=compact)"
            )

    def _layout(self, num_demonstrations: int) -> Layout:
        if num_demonstrations not in self._layouts:
            numbers = range(num_demonstrations)
            shown = [
                self._demonstration.replace("{number}", str(number + 1))
                .replace("{input}", slot(number, "input"))
                .replace("{output}", slot(number, "output"))
                for number in numbers
            ]
            question = self._question.replace("{input}", slot(TEST, "input"))
            answer = self._answer.replace("{output}", slot(TEST, "output"))
            prompt = self._around(self._introduction + "".join(shown) + question)
            self._layouts[num_demonstrations] = Layout(
                split_slots(prompt, self._grid), split_slots(answer, self._grid)
            )
        return self._layouts[num_demonstrations]

    def _around(self, user: str) -> str:
        """The user's text in the chat template, or after the system text and the begin token."""
        if self._chat:
            return self._render([{"role": "user", "content": user}], add_generation_prompt=True)
        begin = self._tokenizer.bos_token or ""
        return f"{begin}{self._system}\n\n{user}" if self._system else f"{begin}{user}"

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        if self._system:
            messages = [{"role": "system", "content": self._system}, *messages]
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                date_string=TEMPLATE_DATE,
            )
        )

    def _find_end(self) -> int:
        """The token that ends an answer: the chat template's end of turn, else the end of text."""
        if self._chat:
            mark = "\ue002"
            turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": mark}]
            after = self._render(turns, add_generation_prompt=False).split(mark)[1].strip()
            if after:
                return int(self.tokenize(after)[0])
        if self._tokenizer.eos_token_id is None:
            raise ValueError("model: its tokenizer has no end-of-text token, so no answer could ever end")
        return int(self._tokenizer.eos_token_id)

    def _has_loss(self, piece: Piece) -> bool:
        """Whether a piece of the prompt is predicted: the outputs from the second demonstration on."""
        return self._all_outputs and isinstance(piece, Field) and piece.side == "output" and piece.pair > 0

    def _text(self, piece: Piece, pairs: list[Pair]) -> str:
        return piece.text(pairs, self._grid) if isinstance(piece, Field) else piece

    def _parts(self, pieces: tuple[Piece, ...], pairs: list[Pair]) -> tuple[Ids, Ids]:
        """Ids and labels by the look-up table."""
        ids = [self._table.piece(piece, pairs) for piece in pieces]
        labels = [
            part if self._has_loss(piece) else np.full(len(part), IGNORED, np.int32)
            for piece, part in zip(pieces, ids, strict=True)
        ]
        return np.concatenate(ids), np.concatenate(labels)

    def _parts_by_tokenizer(self, pieces: tuple[Piece, ...], pairs: list[Pair]) -> tuple[Ids, Ids]:
        """Ids and labels by the tokenizer; a token has a label if it lies inside a predicted piece."""
        texts = [self._text(piece, pairs) for piece in pieces]
        ends = np.cumsum([len(text) for text in texts])
        encoded = self._tokenizer("".join(texts), add_special_tokens=False, return_offsets_mapping=True)
        ids = np.array(encoded["input_ids"], dtype=np.int32)
        offsets = np.array(encoded["offset_mapping"])
        labels = np.full(len(ids), IGNORED, np.int32)
        for piece, start, end in zip(pieces, [0, *ends], ends, strict=False):
            if self._has_loss(piece):
                inside = (offsets[:, 0] >= start) & (offsets[:, 1] <= end)
                labels[inside] = ids[inside]
        return ids, labels


def _pairs(task: Task, test_index: int) -> list[Pair]:
    """Demonstrations, then the one test pair: `pairs[TEST]` is the last."""
    return [*task.train, task.test[test_index]]
