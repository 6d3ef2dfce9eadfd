"""Encode a task as tokens with labels within a maximum length; read an answer's text as a grid."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arc_experiments.prompts.encoding import Encoded, Encoder, tokenize
from arc_experiments.prompts.grid_text import GridText, UnreadableGrid
from arc_experiments.prompts.language import AnswerLanguage
from arc_experiments.prompts.ready_rows import RowEncoder
from arc_experiments.prompts.templates import KINDS, MAIN, Chat, Kind, Template, split
from arc_experiments.prompts.tokens import Ids, TokenTable, probe_tasks
from arc_experiments.tasks import Pair, Row, Task
from arc_experiments.tasks.grids import MAX_SIDE, Grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """An encoded question that fits into the prompt's max_length.

    Attributes:
        task: without the dropped demonstrations.
    """

    encoded: Encoded
    task: Task
    test_index: int
    kind: Kind
    num_dropped: int


class Prompt:
    """Writes tasks for one tokenizer and reads answers.

    Args:
        system, introduction, demonstration, question, answer: the template's parts; {input}, {output},
            {number} and {end} are replaced by grids, the demonstration's number and the end of an answer.
        loss_on: "test_output"; or "all_outputs", which includes the outputs of all demonstrations but the
            first (in input_from_inputs: the inputs).
        chat: use the tokenizer's chat template if it has one.
        max_length: longest sample in tokens, see `fit`.
        fit: "drop" demonstrations of a sample that is too long, or "redraw" it.
        kinds: weights with which `sample` draws the kinds of question; None: only the main one.
        input_from_inputs, output_from_outputs: these kinds' templates, without the system text.
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
        fit: str = "drop",
        kinds: Mapping[Kind, float] | None = None,
        input_from_inputs: Mapping[str, str] | None = None,
        output_from_outputs: Mapping[str, str] | None = None,
    ) -> None:
        self._tokenizer, self._grid = tokenizer, grid
        texts = {"introduction": introduction, "demonstration": demonstration, "question": question}
        templates = (texts | {"answer": answer}, input_from_inputs, output_from_outputs)
        self._templates = {
            kind: Template(**texts) for kind, texts in zip(KINDS, templates, strict=True) if texts is not None
        }
        weights = {kind: (kinds or {MAIN: 1.0}).get(kind, 0.0) for kind in KINDS}
        self._kinds = [kind for kind in KINDS if weights[kind] > 0]
        assert MAIN in self._kinds, "the main kind is always trained on"
        assert set(self._kinds) <= self._templates.keys(), "a kind that is drawn needs its template"
        self._bounds = np.cumsum([weights[kind] for kind in self._kinds]) / sum(weights.values())
        self._all_outputs, self._redraws = loss_on == "all_outputs", fit == "redraw"
        self._chat = Chat(tokenizer, system=system, use_template=chat)
        self._rows = RowEncoder(tokenizer, self._chat.end_id)
        self.max_length = max_length
        self._encoders: dict[tuple[Kind, int], Encoder] = {}
        self._table = TokenTable(grid, self.tokenize)
        self.exact_table = False  # until verified
        self.table_refused: str | None = None  # why not, if verified and refused

    def tokenize(self, text: str) -> Ids:
        """Tokenize a text without adding special tokens; int32, shape (tokens,)."""
        return tokenize(self._tokenizer, text)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Return the tokens that end an answer: the ends of the turn and of the text."""
        end, eos = self._chat.end_id, self._tokenizer.eos_token_id
        return (end,) if eos in (None, end) else (end, eos)

    @property
    def pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return self._chat.end_id if pad is None else pad

    def longest_answer(self) -> int:
        """Return the most tokens, end included, that an answer can take."""
        return self._encoder(MAIN, 1).max_answer_tokens(MAX_SIDE, MAX_SIDE)

    def encode(
        self, task: Task, test_index: int = 0, *, kind: Kind = MAIN, with_answer: bool = True
    ) -> Encoded:
        """Encode the prompt and, unless `with_answer` is False, the answer of one test pair."""
        encoder = self._encoder(kind, len(task.train))
        encode = encoder.by_table if self._has_table(kind) else encoder.by_tokenizer
        return encode(_pairs(task, test_index), with_answer=with_answer)

    def _has_table(self, kind: Kind) -> bool:
        return self.exact_table and kind in self._kinds  # the others were not verified

    def encode_prompt(self, task: Task, test_index: int = 0) -> Ids:
        """Encode the prompt alone, up to where the model continues."""
        return self.encode(task, test_index, with_answer=False).input_ids

    def text(self, task: Task, test_index: int = 0, *, kind: Kind = MAIN) -> str:
        """Write the text that `encode` encodes, without the end token."""
        return "".join(self._encoder(kind, len(task.train)).texts(_pairs(task, test_index)))

    def fit(
        self, task: Task, test_index: int = 0, *, kind: Kind = MAIN, with_answer: bool = True
    ) -> Fitted | None:
        """Encode within `max_length`, dropping as few demonstrations as needed, the last first.

        Returns None if not even one demonstration fits.
        """
        encoded, num_dropped = self.encode(task, test_index, kind=kind, with_answer=with_answer), 0
        if len(encoded) > self.max_length:
            num_dropped = self._num_to_drop(task, test_index, kind, with_answer)
            if num_dropped == len(task.train):
                return None
            task = _shorter(task, num_dropped)
            encoded = self.encode(task, test_index, kind=kind, with_answer=with_answer)
        return Fitted(encoded=encoded, task=task, test_index=test_index, kind=kind, num_dropped=num_dropped)

    def _num_to_drop(self, task: Task, test_index: int, kind: Kind, with_answer: bool) -> int:
        """Return how many demonstrations to drop; all of them if not even one fits."""

        def fits(num_dropped: int) -> bool:
            smaller = _shorter(task, num_dropped)
            if self._has_table(kind):
                encoder, pairs = self._encoder(kind, len(smaller.train)), _pairs(smaller, test_index)
                return encoder.num_tokens(pairs, with_answer=with_answer) <= self.max_length
            return (
                len(self.encode(smaller, test_index, kind=kind, with_answer=with_answer)) <= self.max_length
            )

        return bisect_left(range(len(task.train)), True, key=fits)

    def sample(self, task: Task, rng: np.random.Generator) -> Fitted | None:
        """Draw a test pair of the task and a kind of question, and fit them as a training sample.

        Returns None if it does not fit and another task must be drawn. Consumes the rng equally for all
        weights.
        """
        test_index = int(rng.integers(len(task.test)))
        kind = self._kinds[bisect_right(self._bounds[:-1], rng.random())]
        fitted = self.fit(task, test_index, kind=kind)
        return None if fitted is None or (self._redraws and fitted.num_dropped) else fitted

    def fit_row(self, row: Row) -> Fitted | None:
        """Encode a ready row, independently of the template; return None if it does not fit."""
        encoded = self._rows.encode(row)
        if len(encoded) > self.max_length:
            return None
        return Fitted(encoded=encoded, task=row, test_index=0, kind=MAIN, num_dropped=0)

    def fit_whole(self, task: Task) -> list[Fitted | None]:
        """Fit each test pair with a known output, or the ready row, as validation does."""
        if isinstance(task, Row):
            return [self.fit_row(task)]
        return [
            self.fit(task, test_index) for test_index, pair in enumerate(task.test) if pair.output is not None
        ]

    def check_rows(self, rows: Iterable[Row]) -> None:
        """Raise ValueError if the tokenizer loses characters of these rows or cannot write them at all."""
        for row in rows:
            self._rows.check_known(row)

    def read(self, text: str) -> Grid:
        """Read the grid in an answer's text, given without its end token.

        Raises:
            UnreadableGrid: with a reason, see `GridText.read`; "no_grid" if the answer's fixed words are
                missing.
        """
        before, after = self._templates[MAIN].answer.split("{output}")
        text = text.strip()
        if not text.startswith(before.strip()):
            raise UnreadableGrid("no_grid" if text else "empty")
        if not text.endswith(after.strip()):
            raise UnreadableGrid("unclosed")
        return self._grid.read(text.removeprefix(before.strip()).removesuffix(after.strip()))

    def decode(self, ids: Any) -> str:
        return str(self._tokenizer.decode(ids))

    @property
    def num_ids(self) -> int:
        """Return the number of tokens of the tokenizer."""
        return len(self._tokenizer)

    def answer_language(self) -> AnswerLanguage:
        """Return the language of the answers that `read` reads."""
        answer = split(self._templates[MAIN].write_answer(), self._grid)
        return AnswerLanguage(self._grid, *answer.texts)

    def verify(self, tasks: Iterable[Task]) -> None:
        """Compare the look-up table with the tokenizer; use it only if they always agree.

        Args:
            tasks: real ones, tried before those of `probe_tasks`.

        Raises:
            ValueError: the tokenizer cannot write a character of the prompt.
        """
        self.exact_table, self.table_refused = False, None
        tasks, agrees = [*tasks, *probe_tasks()], True
        for kind in self._kinds:
            for task in tasks:
                encoder, pairs = self._encoder(kind, len(task.train)), _pairs(task, 0)
                truth = encoder.by_tokenizer(pairs, with_answer=True)
                self._check_known(encoder.texts(pairs), truth)
                agrees = agrees and truth.equals(encoder.by_table(pairs, with_answer=True))
        self.exact_table = agrees
        self.table_refused = None if agrees else "the tokenizer merges text over the edges of cells"

    def _check_known(self, texts: tuple[str, str], encoded: Encoded) -> None:
        """Refuse a tokenizer that loses part of the text, or spaces of the answer, which `read` needs."""
        prompt, answer = (self.decode(ids) for ids in np.split(encoded.input_ids[:-1], [encoded.num_prompt]))
        is_whole = "".join(texts[0].split()) == "".join(prompt.split())
        if is_whole and texts[1].strip() == answer.strip():
            return
        text, back = (texts[1], answer) if is_whole else (texts[0], prompt)
        unknown = "".join(sorted(set(text) - set(back) - {"\n"}))
        raise ValueError(
            f"prompt: this model's tokenizer ({len(self._tokenizer)} tokens) cannot write this prompt: "
            f"{text[:60]!r} comes back as {back[:60]!r}{f', without {unknown!r}' if unknown else ''}; choose "
            "another prompt (prompt=compact) or grid text (prompt/grid=minimal)"
        )

    def _encoder(self, kind: Kind, num_demonstrations: int) -> Encoder:
        key = (kind, num_demonstrations)
        if key not in self._encoders:
            template = self._templates[kind]
            self._encoders[key] = Encoder(
                prompt=self._chat.around(template.write_prompt(num_demonstrations, self._chat.end)),
                answer=template.write_answer(),
                learnt=template.asked if self._all_outputs else None,
                grid_text=self._grid,
                table=self._table,
                tokenizer=self._tokenizer,
                end_id=self._chat.end_id,
                end=self._chat.end,
            )
        return self._encoders[key]


def _pairs(task: Task, test_index: int) -> list[Pair]:
    """Return the demonstrations, then the test pair, which is `pairs[TEST]`."""
    return [*task.train, task.test[test_index]]


def _shorter(task: Task, num_dropped: int) -> Task:
    kept = task.train[: len(task.train) - num_dropped]
    return Task(id=task.id, train=kept, test=task.test, split=task.split)
