r"""Templates: a prompt's texts around its grids, for each kind of question.

The texts themselves are in `conf/prompt`; a new format is a file there.

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
from typing import Literal

from arc_experiments.config.schema import PICTURES
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import Grid

TEST = -1  # the number of the test pair, which follows the demonstrations

Side = Literal["input", "output"]
PROGRAM = "\ue002"  # marks the program inside a text, by a private-use character that no template contains
PICTURE = re.compile("\ue004(-?[0-9]+):(input|output|sheet)\ue005")  # marks a picture inside a text


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


def _mark(text: str, pair: int) -> str:
    text = text.replace("{input}", mark(pair, "input")).replace("{output}", mark(pair, "output"))
    for name, shown in (("input_picture", "input"), ("output_picture", "output"), ("sheet", "sheet")):
        text = text.replace(f"{{{name}}}", f"\ue004{pair}:{shown}\ue005")
    return text.replace("{program}", PROGRAM)
