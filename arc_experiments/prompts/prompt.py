"""Encode a task as tokens with labels within a maximum length; read an answer's text as grid or program."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from arc_experiments.pictures.drawing import Picture
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.pictures.writer import PictureWriter
from arc_experiments.programs.languages import Grammar
from arc_experiments.programs.languages import language as find_language
from arc_experiments.prompts.answer_language import AnswerLanguage, GridAnswers, ProgramAnswers
from arc_experiments.prompts.chat import Chat
from arc_experiments.prompts.encoders import Encoders
from arc_experiments.prompts.encoding import IGNORED, Encoded, tokenize
from arc_experiments.prompts.grid_text import GridText, UnreadableGrid
from arc_experiments.prompts.kinds import KINDS, PROGRAM_KINDS, QUESTIONS, Asked, Kind, WeightedKinds
from arc_experiments.prompts.ready_rows import RowEncoder
from arc_experiments.prompts.templates import Template, split
from arc_experiments.prompts.tokens import Ids, probe_tasks
from arc_experiments.tasks import Pair, Program, Row, Task
from arc_experiments.tasks.grids import MAX_SIDE, Grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_WITH_PICTURES = 2  # questions that are compared with what the model's processor makes of them
LONGEST_PROGRAM = 512  # tokens of an answer with a program, unless `inference.max_new_tokens` says otherwise


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
        loss_on: "test_output", the answer alone; or "all_outputs", which includes the outputs of all
            demonstrations but the first (in input_from_inputs: the inputs).
        chat: use the tokenizer's chat template if it has one.
        max_length: longest sample in tokens, see `fit`.
        fit: "drop" demonstrations of a sample that is too long, or "redraw" it.
        asks: what validation and inference ask for, a "grid" or a "program".
        kinds: weights with which `sample` draws the kinds of question; None: only the main one.
        input_from_inputs, output_from_outputs, program_from_examples, output_from_program: these kinds'
            templates, without the system text.
        languages: what {language} becomes, by the language of the program.
        language: the language of the programs that are asked for where a task's own is unknown.
        pictures: draws and writes the pictures of templates that show some.
        images: writes the images of ready rows that have some.
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
        asks: Asked = "grid",
        kinds: Mapping[Kind, float] | None = None,
        input_from_inputs: Mapping[str, str] | None = None,
        output_from_outputs: Mapping[str, str] | None = None,
        program_from_examples: Mapping[str, str] | None = None,
        output_from_program: Mapping[str, str] | None = None,
        languages: Mapping[str, str] | None = None,
        language: str | None = None,
        pictures: PictureWriter | None = None,
        images: PictureInputs | None = None,
    ) -> None:
        self._tokenizer, self._grid = tokenizer, grid
        texts = {"introduction": introduction, "demonstration": demonstration, "question": question}
        templates = (
            texts | {"answer": answer},
            input_from_inputs,
            output_from_outputs,
            program_from_examples,
            output_from_program,
        )
        self._templates = {
            kind: Template(**texts) for kind, texts in zip(KINDS, templates, strict=True) if texts is not None
        }
        self.asks, self.main = asks, QUESTIONS[asks]
        weights = kinds or {self.main: 1.0}
        self._drawn = WeightedKinds([(kind, weights.get(kind, 0.0)) for kind in KINDS])
        self._drawn_of_grids = WeightedKinds(
            [(kind, weights.get(kind, 0.0)) for kind in KINDS if kind not in PROGRAM_KINDS]
        )
        assert self.main in self._drawn.kinds, "the main kind is always trained on"
        assert set(self._drawn.kinds) <= self._templates.keys(), "a kind that is drawn needs its template"
        self.redraws = fit == "redraw"
        self.pictures = pictures
        inputs = images if pictures is None else pictures.inputs
        placeholder = None if inputs is None else inputs.placeholder  # templates of vision models take parts
        self._chat = Chat(tokenizer, system=system, use_template=chat, placeholder=placeholder)
        self._rows = RowEncoder(tokenizer, self._chat.end_id, images)
        self.max_length = max_length
        self._encoders = Encoders(
            tokenizer,
            grid,
            self._chat,
            self._templates,
            languages or {},
            language=language,
            learns_demonstrations=loss_on == "all_outputs",
            pictures=pictures,
        )
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

    @property
    def trains_on_programs(self) -> bool:
        """Whether some kind of question that `sample` draws needs a task's program."""
        return any(kind in PROGRAM_KINDS for kind in self._drawn.kinds)

    @property
    def asks_once(self) -> bool:
        """Whether one answer covers all test pairs: a program, asked for without showing a test input."""
        return self.asks == "program" and not self._templates[self.main].shows_test_input

    @property
    def language(self) -> str:
        """Return the language of the programs that are asked for where a task's own is unknown.

        Raises:
            ValueError: nobody said which.
        """
        return self._encoders.language

    def longest_answer(self, kind: Kind | None = None) -> int:
        """Return the most tokens, end included, that an answer can take; of a program, that are allowed.

        Args:
            kind: of question; None: the main one.
        """
        kind = kind or self.main
        if kind == "program_from_examples":
            return LONGEST_PROGRAM
        return self._encoders.of(probe_tasks()[0], kind).max_answer_tokens(MAX_SIDE, MAX_SIDE)

    def encode(
        self, task: Task, test_index: int = 0, *, kind: Kind | None = None, with_answer: bool = True
    ) -> Encoded:
        """Encode the prompt and, unless `with_answer` is False, the answer of one test pair.

        Args:
            kind: of question; None: the main one.
        """
        kind = kind or self.main
        encoder = self._encoders.of(task, kind)
        assert task.program is not None or not _needs_program(kind, with_answer), f"{task.id} has no program"
        encode = encoder.by_table if self._has_table(kind) else encoder.by_tokenizer
        encoded = encode(_pairs(task, test_index), _program(task), with_answer=with_answer)
        if with_answer and kind == "program_from_examples" and task.program and task.program.open_end:
            encoded.labels[-1] = IGNORED
        return encoded

    def _has_table(self, kind: Kind) -> bool:
        return self.exact_table and kind in self._drawn.kinds  # the others were not verified

    def encode_prompt(self, task: Task, test_index: int = 0) -> Ids:
        """Encode the prompt alone, up to where the model continues."""
        return self.encode(task, test_index, with_answer=False).input_ids

    def text(self, task: Task, test_index: int = 0, *, kind: Kind | None = None) -> str:
        """Write the text that `encode` encodes, without the end token."""
        encoder = self._encoders.of(task, kind or self.main)
        return "".join(encoder.texts(_pairs(task, test_index), _program(task)))

    def fit(
        self, task: Task, test_index: int = 0, *, kind: Kind | None = None, with_answer: bool = True
    ) -> Fitted | None:
        """Encode within `max_length`, dropping as few demonstrations as needed, the last first.

        Pictures must have room for their cells as well. Returns None if not even one demonstration fits.
        """
        kind = kind or self.main
        encoded, num_dropped = self.encode(task, test_index, kind=kind, with_answer=with_answer), 0
        if not self._has_room(encoded):
            num_dropped = self._num_to_drop(task, test_index, kind, with_answer)
            if num_dropped == len(task.train):
                return None
            task = _shorter(task, num_dropped)
            encoded = self.encode(task, test_index, kind=kind, with_answer=with_answer)
        return Fitted(encoded=encoded, task=task, test_index=test_index, kind=kind, num_dropped=num_dropped)

    def _has_room(self, encoded: Encoded) -> bool:
        drawn = (picture for picture in encoded.pictures if isinstance(picture, Picture))
        return len(encoded) <= self.max_length and all(picture.has_room for picture in drawn)

    def _num_to_drop(self, task: Task, test_index: int, kind: Kind, with_answer: bool) -> int:
        """Return how many demonstrations to drop; all of them if not even one fits."""

        def fits(num_dropped: int) -> bool:
            smaller = _shorter(task, num_dropped)
            if self._has_table(kind):
                encoder, pairs = self._encoders.of(smaller, kind), _pairs(smaller, test_index)
                length = encoder.num_tokens(pairs, _program(smaller), with_answer=with_answer)
                return length <= self.max_length
            return self._has_room(self.encode(smaller, test_index, kind=kind, with_answer=with_answer))

        return bisect_left(range(len(task.train)), True, key=fits)

    def draw_kind(self, task: Task, rng: np.random.Generator) -> Kind:
        """Draw a kind of question by weight, one without programs if the task has none."""
        drawn = self._drawn if task.program is not None else self._drawn_of_grids
        return drawn.at(rng.random())

    def sample(self, task: Task, rng: np.random.Generator, kind: Kind | None = None) -> Fitted | None:
        """Draw a test pair of the task and a kind of question, and fit them as a training sample.

        Returns None if it does not fit and another task must be drawn. Consumes the rng equally for all
        weights.

        Args:
            kind: that was drawn before.
        """
        test_index = int(rng.integers(len(task.test)))
        fitted = self.fit(task, test_index, kind=kind or self.draw_kind(task, rng))
        return None if fitted is None or (self.redraws and fitted.num_dropped) else fitted

    def least_length(self, task: Task, kind: Kind | None = None, *, in_training: bool = True) -> int:
        """Return the fewest tokens to which `sample` could shorten the task, or `fit_whole` in validation."""
        if isinstance(task, Row):
            return len(self._rows.encode(task))
        is_whole = in_training and self.redraws
        least = task if is_whole else _shorter(task, len(task.train) - 1)
        known = [number for number, pair in enumerate(task.test) if pair.output is not None]
        asked = known or range(len(task.test))
        return min(len(self.encode(least, number, kind=kind or self.main)) for number in asked)

    def fit_row(self, row: Row) -> Fitted | None:
        """Encode a ready row, independently of the template; return None if it does not fit."""
        encoded = self._rows.encode(row)
        if len(encoded) > self.max_length:
            return None
        return Fitted(encoded=encoded, task=row, test_index=0, kind=self.main, num_dropped=0)

    def has_answer(self, task: Task) -> bool:
        """Return whether some answer of the task is known: its program, a test output, or a ready row."""
        if self.asks == "program" and not isinstance(task, Row):
            return task.program is not None
        return isinstance(task, Row) or any(pair.output is not None for pair in task.test)

    def fit_whole(self, task: Task) -> list[Fitted | None]:
        """Fit each test pair with a known answer, or the ready row, as validation does."""
        if isinstance(task, Row):
            return [self.fit_row(task)]
        if self.asks == "program":
            asked = range(1 if self.asks_once else len(task.test)) if self.has_answer(task) else ()
            return [self.fit(task, test_index) for test_index in asked]
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
        before, after = self._templates["output_from_examples"].answer.split("{output}")
        text = text.strip()
        if not text.startswith(before.strip()):
            raise UnreadableGrid("no_grid" if text else "empty")
        if not text.endswith(after.strip()):
            raise UnreadableGrid("unclosed")
        return self._grid.read(text.removeprefix(before.strip()).removesuffix(after.strip()))

    def read_program(self, text: str) -> Program:
        """Read the program in an answer's text, given without its end token; it is not normalised.

        Raises:
            UnreadableProgram: with a reason, see `Language.extract`.
        """
        before, after = self._templates["program_from_examples"].answer.split("{program}")
        text = text.strip().removeprefix(before.strip()).removesuffix(after.strip())
        return Program(language=self.language, text=find_language(self.language).extract(text))

    def decode(self, ids: Any) -> str:
        return str(self._tokenizer.decode(ids))

    @property
    def num_ids(self) -> int:
        """Return the number of tokens of the tokenizer."""
        return len(self._tokenizer)

    def grid_answers(self) -> AnswerLanguage:
        """Return the language of the answers that `read` reads."""
        answer = split(self._templates["output_from_examples"].write_answer(), self._grid)
        return GridAnswers(self._grid, *answer.texts)

    def program_answers(self, grammar: Grammar) -> AnswerLanguage:
        """Return the language of the answers with programs that a grammar allows."""
        return ProgramAnswers(grammar, *self._templates["program_from_examples"].answer.split("{program}"))

    def verify(self, tasks: Iterable[Task]) -> None:
        """Compare the look-up table with the tokenizer; use it only if they always agree.

        Prompts with pictures have no table; they are compared with the model's processor.

        Args:
            tasks: real ones, tried before those of `probe_tasks`.

        Raises:
            ValueError: the tokenizer cannot write a character of the prompt, or the processor makes something
                else of its pictures.
        """
        self.exact_table, self.table_refused = False, None
        tasks, agrees, num_seen = [*tasks, *probe_tasks()], True, Counter[Kind]()
        program = next((task.program for task in tasks if task.program is not None), None)
        tasks = [replace(task, program=task.program or program) for task in tasks]
        for kind, task in product(self._drawn.kinds, tasks):
            with_answer = program is not None or not _needs_program(kind, with_answer=True)
            if program is None and _needs_program(kind, with_answer=False):
                continue
            encoder, asked = self._encoders.of(task, kind), (_pairs(task, 0), _program(task))
            truth = encoder.by_tokenizer(*asked, with_answer=with_answer)
            prompt, answer = encoder.texts(*asked)
            self._check_known(prompt, answer if with_answer else "", truth)
            if self._templates[kind].shows_pictures:
                if num_seen[kind] < NUM_WITH_PICTURES:
                    encoder.verify_pictures(*asked)
                num_seen[kind] += 1
                continue
            agrees = agrees and truth.equals(encoder.by_table(*asked, with_answer=with_answer))
        self.exact_table = agrees and not num_seen
        self.table_refused = None if agrees else "the tokenizer merges text over the edges of cells"

    def _check_known(self, prompt: str, answer: str, encoded: Encoded) -> None:
        """Refuse a tokenizer that loses part of the text, or spaces of the answer, which `read` needs."""
        ids = encoded.input_ids
        back = self.decode(ids[: encoded.num_prompt]), self.decode(ids[encoded.num_prompt : -1])
        is_whole = "".join(prompt.split()) == "".join(back[0].split())
        if is_whole and answer.strip() == back[1].strip():
            return
        text, back_text = (answer, back[1]) if is_whole else (prompt, back[0])
        unknown = "".join(sorted(set(text) - set(back_text) - {"\n"}))
        raise ValueError(
            f"prompt: this model's tokenizer ({len(self._tokenizer)} tokens) cannot write this prompt: "
            f"{text[:60]!r} comes back as {back_text[:60]!r}{f', without {unknown!r}' if unknown else ''}; "
            "choose another prompt (prompt=compact) or grid text (prompt/grid=minimal)"
        )


def _needs_program(kind: Kind, with_answer: bool) -> bool:
    """Return whether a text of this kind has the task's program in it."""
    return kind == "output_from_program" or (with_answer and kind in PROGRAM_KINDS)


def _program(task: Task) -> str:
    return "" if task.program is None else task.program.text


def _pairs(task: Task, test_index: int) -> list[Pair]:
    """Return the demonstrations, then the test pair, which is `pairs[TEST]`."""
    return [*task.train, task.test[test_index]]


def _shorter(task: Task, num_dropped: int) -> Task:
    return replace(task, train=task.train[: len(task.train) - num_dropped])
