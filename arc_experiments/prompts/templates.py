r"""Templates: a prompt's texts around its grids, for each kind of question, and its turns of a chat.

Prompts with the same number of demonstrations share a layout: fixed texts with slots for grids between them.
With one demonstration, in the compact prompt:

    prompt   "<bos>I"  (0, input)  "\nO"  (0, output)  "\nI"  (test, input)  "\nO"
    answer   ""  (test, output)  "\n"

The fixed texts include what every grid's text begins and ends with (`GridText.head`, `GridText.tail`), since
tokenizers merge newlines and backticks with the characters that follow. For the same reason a program has no
slot: it is written into the text around it.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import TemplateError

from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import Grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEST = -1  # the number of the test pair, which follows the demonstrations

Side = Literal["input", "output"]
PROGRAM = "\ue002"  # marks the program inside a text, by a private-use character that no template contains
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

    {input} and {output} are replaced by grids, {program} by the task's program, {language} by what is said of
    its language, {number} by a demonstration's number, {end} by the end of an answer.
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
        return "{input}" in self.question

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
        return introduction + "".join(shown) + _mark(question, TEST)

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


def _mark(text: str, pair: int) -> str:
    text = text.replace("{input}", mark(pair, "input")).replace("{output}", mark(pair, "output"))
    return text.replace("{program}", PROGRAM)


class Chat:
    """Wraps the user's text in the tokenizer's chat template, or in a begin token and the system text.

    Args:
        use_template: use the chat template if the tokenizer has one.

    Attributes:
        end_id: the token that ends an answer: the chat template's end of turn, else the end of text.
        end: its text.

    Raises:
        ValueError: the tokenizer has no such token, or its chat template refuses these turns.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, system: str | None, use_template: bool
    ) -> None:
        self._tokenizer, self._system = tokenizer, system
        self._use_template = use_template and tokenizer.chat_template is not None
        self.end_id = self._find_end()
        self.end = str(tokenizer.decode([self.end_id]))

    def around(self, user: str) -> str:
        """Return the whole text up to where the model continues."""
        if self._use_template:
            return self._render([{"role": "user", "content": user}], add_generation_prompt=True)
        begin = self._tokenizer.bos_token or ""
        return f"{begin}{self._system}\n\n{user}" if self._system else f"{begin}{user}"

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        if self._system:
            messages = [{"role": "system", "content": self._system}, *messages]
        try:
            return render(self._tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise ValueError(
                f"the model's chat template refuses the prompt ({error}): some accept no system text, so try "
                "prompt.system=null, or switch the template off with prompt.chat=never"
            ) from error

    def _find_end(self) -> int:
        if self._use_template:
            answer = "\ue003"
            turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": answer}]
            after = self._render(turns, add_generation_prompt=False).split(answer)[1].strip()
            if after:
                return int(self._tokenizer(after, add_special_tokens=False)["input_ids"][0])
        if self._tokenizer.eos_token_id is None:
            raise ValueError("model: its tokenizer has no end-of-text token, so no answer could ever end")
        return int(self._tokenizer.eos_token_id)
