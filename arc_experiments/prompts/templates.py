r"""Templates: a prompt's texts around its grids, for each kind of question, and its turns of a chat.

Prompts with the same number of demonstrations share a layout: fixed texts with slots for grids between them.
With one demonstration, in the compact prompt:

    prompt   "<bos>I"  (0, input)  "\nO"  (0, output)  "\nI"  (test, input)  "\nO"
    answer   ""  (test, output)  "\n"

The fixed texts include what every grid's text begins and ends with (`GridText.head`, `GridText.tail`), since
tokenizers merge newlines and backticks with the characters that follow. For the same reason programs and
pictures have no slots: a program is written into the text around it, and so are a picture's tokens.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import TemplateError

from arc_experiments.config.schema import PICTURES
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import Grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEST = -1  # the number of the test pair, which follows the demonstrations

Side = Literal["input", "output"]
PROGRAM = "\ue002"  # marks the program inside a text, by a private-use character that no template contains
PICTURE = re.compile("\ue004(-?[0-9]+):(input|output|sheet)\ue005")  # marks a picture inside a text
# Some chat templates (Llama 3's) write today's date into the prompt, which must not change from day to day.
# They take it from `date_string`, or from a clock function, which a macro of the same name overrides.
TEMPLATE_DATE = "26 Jul 2024"
NO_CLOCK = f"{{% macro strftime_now(format) %}}{TEMPLATE_DATE}{{% endmacro %}}"


@dataclass(frozen=True)
class Slot:
    """A slot for one grid."""

    pair: int
    side: Side

    def grid(self, pairs: list[Pair]) -> Grid:
        grid = getattr(pairs[self.pair], self.side)
        assert grid is not None, "a task without this output cannot be written"
        return grid  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Shown:
    """A picture of one grid, or of all that a question shows (`side` "sheet")."""

    pair: int
    side: Side | Literal["sheet"]

    def rows(self, pairs: list[Pair]) -> tuple[tuple[Grid, ...], ...]:
        """Return the grids of the picture, row by row."""
        if self.side != "sheet":
            return ((Slot(self.pair, self.side).grid(pairs),),)
        shown = [Slot(number, side) for number in range(len(pairs) - 1) for side in ("input", "output")]
        grids = [slot.grid(pairs) for slot in shown]
        return (*zip(grids[::2], grids[1::2], strict=True), (pairs[TEST].input,))


@dataclass(frozen=True)
class Layout:
    """A text with slots: `texts[0]`, the grid of `slots[0]`, `texts[1]`, ..., the last text."""

    texts: tuple[str, ...]
    slots: tuple[Slot, ...]

    @property
    def has_program(self) -> bool:
        return any(PROGRAM in text for text in self.texts)

    def with_program(self, program: str) -> "Layout":
        """Return the layout with the program written into its text."""
        return Layout(tuple(text.replace(PROGRAM, program) for text in self.texts), self.slots)

    @property
    def pictures(self) -> tuple[Shown, ...]:
        """Return what its pictures show, in the order of the text."""
        found = [mark for text in self.texts for mark in PICTURE.findall(text)]
        return tuple(Shown(int(pair), side) for pair, side in found)

    def with_pictures(self, written: Iterable[str]) -> "Layout":
        """Return the layout with what stands for each picture written into its text."""
        each = iter(written)
        return Layout(tuple(PICTURE.sub(lambda _: next(each), text) for text in self.texts), self.slots)

    def write(self, pairs: list[Pair], grid_text: GridText) -> list[str]:
        """Return fixed texts and the grids' cores alternately, an odd number of texts."""
        pieces = [""] * (2 * len(self.slots) + 1)
        pieces[::2] = self.texts
        pieces[1::2] = [grid_text.write_core(slot.grid(pairs)) for slot in self.slots]
        return pieces


def mark(pair: int, side: Side) -> str:
    """Mark a slot inside a text, by private-use characters that no template contains."""
    return f"\ue000{pair}:{side}\ue001"


def split(text: str, grid_text: GridText) -> Layout:
    """Convert a text with marks to a layout."""
    parts = re.split("\ue000(-?[0-9]+):(input|output)\ue001", text)
    texts, pairs, sides = parts[::3], parts[1::3], parts[2::3]
    before = ["", *[grid_text.tail] * len(pairs)]
    after = [*[grid_text.head] * len(pairs), ""]
    return Layout(
        texts=tuple(map("".join, zip(before, texts, after, strict=True))),
        slots=tuple(Slot(int(pair), side) for pair, side in zip(pairs, sides, strict=True)),  # type: ignore[arg-type]
    )


@dataclass(frozen=True, kw_only=True)
class Template:
    """The texts of one kind of question.

    {input} and {output} are replaced by grids, {input_picture} and {output_picture} by pictures of them,
    {sheet} by one picture of all demonstrations and the test input, {program} by the task's program,
    {language} by what is said of its language, {number} by a demonstration's number, {end} by the end of an
    answer.
    """

    introduction: str
    demonstration: str
    question: str
    answer: str

    @property
    def learnt(self) -> Side:
        """Return the side of the demonstrations that may have a loss: that of the answer, or the output."""
        return "input" if "{input}" in self.answer else "output"

    @property
    def names_language(self) -> bool:
        return "{language}" in self.introduction + self.question

    @property
    def shows_test_input(self) -> bool:
        return any(name in self.question for name in ("{input}", "{input_picture}", "{sheet}"))

    @property
    def shows_pictures(self) -> bool:
        texts = self.introduction + self.demonstration + self.question
        return any(name in texts for name in PICTURES)

    def write_prompt(self, num_demonstrations: int, end: str, language: str = "") -> str:
        """Write all but the answer, with marks for grids and program.

        Args:
            language: what is said of the program's language.
        """
        demonstration = self.demonstration.replace("{end}", end)
        shown = [
            _mark(demonstration.replace("{number}", str(number + 1)), number)
            for number in range(num_demonstrations)
        ]
        introduction, question = (
            text.replace("{language}", language) for text in (self.introduction, self.question)
        )
        return _mark(introduction, TEST) + "".join(shown) + _mark(question, TEST)

    def write_answer(self) -> str:
        return _mark(self.answer, TEST)


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    """Write a conversation with the tokenizer's chat template, independently of the date.

    Raises:
        TemplateError: the template refuses these turns.
    """
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=NO_CLOCK + tokenizer.get_chat_template(),
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        date_string=TEMPLATE_DATE,
    )
    return str(text)


def render_parts(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    """Write a conversation whose contents are lists of parts, of text and pictures.

    Some templates want the system text as a string all the same, and some leave out what they do not expect.

    Raises:
        TemplateError: the template refuses these turns, or leaves out a text of theirs.
    """
    texts = [part["text"] for each in messages for part in each["content"] if part["type"] == "text"]
    refusals: list[str] = []
    for strings in ((), ("system",)):
        typed = [
            {**each, "content": "".join(part.get("text", "") for part in each["content"])}
            if each["role"] in strings
            else each
            for each in messages
        ]
        try:
            written = render(tokenizer, typed, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            refusals.append(str(error))
            continue
        lost = next((text for text in texts if text.strip() not in written), None)
        if lost is None:
            return written
        refusals.append(f"it leaves out {lost[:40]!r}")
    raise TemplateError(refusals[0])


def _mark(text: str, pair: int) -> str:
    text = text.replace("{input}", mark(pair, "input")).replace("{output}", mark(pair, "output"))
    for name, shown in (("input_picture", "input"), ("output_picture", "output"), ("sheet", "sheet")):
        text = text.replace(f"{{{name}}}", f"\ue004{pair}:{shown}\ue005")
    return text.replace("{program}", PROGRAM)


class Chat:
    """Wraps the user's text in the tokenizer's chat template, or in a begin token and the system text.

    Args:
        use_template: use the chat template if the tokenizer has one.
        placeholder: what chat templates write for a picture; None for a prompt without pictures.

    Attributes:
        end_id: the token that ends an answer: the chat template's end of turn, else the end of text.
        end: its text.

    Raises:
        ValueError: the tokenizer has no such token, or its chat template refuses these turns.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        system: str | None,
        use_template: bool,
        placeholder: str | None = None,
    ) -> None:
        self._tokenizer, self._system, self._placeholder = tokenizer, system, placeholder
        self._use_template = use_template and tokenizer.chat_template is not None
        self.end_id = self._find_end()
        self.end = str(tokenizer.decode([self.end_id]))

    def around(self, user: str) -> str:
        """Return the whole text up to where the model continues."""
        if self._use_template:
            text = self._render([("user", user)], add_generation_prompt=True)
            return text if self._placeholder is None else _with_marks(text, self._placeholder, user)
        begin = self._tokenizer.bos_token or ""
        return f"{begin}{self._system}\n\n{user}" if self._system else f"{begin}{user}"

    def _render(self, turns: list[tuple[str, str]], *, add_generation_prompt: bool) -> str:
        turns = [("system", self._system), *turns] if self._system else turns
        has_pictures = self._placeholder is not None
        write, content = (render_parts, _parts) if has_pictures else (render, str)
        messages = [{"role": role, "content": content(text)} for role, text in turns]
        try:
            return write(self._tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise ValueError(
                f"the model's chat template refuses the prompt ({error}): some accept no system text, so "
                "try prompt.system=null, or switch the template off with prompt.chat=never"
            ) from error

    def _find_end(self) -> int:
        if self._use_template:
            answer = "\ue003"
            turns = [("user", "."), ("assistant", answer)]
            after = self._render(turns, add_generation_prompt=False).split(answer)[1].strip()
            if after:
                return int(self._tokenizer(after, add_special_tokens=False)["input_ids"][0])
        if self._tokenizer.eos_token_id is None:
            raise ValueError("model: its tokenizer has no end-of-text token, so no answer could ever end")
        return int(self._tokenizer.eos_token_id)


def _parts(text: str) -> list[dict[str, str]]:
    """Write a turn as parts of text and pictures."""
    texts = PICTURE.split(text)[::3]
    parts: list[dict[str, str]] = []
    for number, part in enumerate(texts):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": part}] if part else []
    return parts


def _with_marks(rendered: str, placeholder: str, user: str) -> str:
    """Put the marks of pictures back where a chat template wrote a placeholder for each.

    Raises:
        ValueError: it wrote more or fewer.
    """
    marks = [match.group() for match in PICTURE.finditer(user)]
    texts = rendered.split(placeholder)
    if len(texts) != len(marks) + 1:
        raise ValueError(
            f"the model's chat template writes {len(texts) - 1} pictures of {len(marks)}: switch it off with "
            "prompt.chat=never"
        )
    return "".join(text + mark for text, mark in zip(texts, [*marks, ""], strict=True))
