r"""The layout of a prompt: fixed texts with slots between them where grids go.

Tasks with as many demonstrations have one layout; for one demonstration, in the compact prompt:

    prompt   "<bos>I"  (0, input)  "\nO"  (0, output)  "\nI"  (test, input)  "\nO"
    answer   ""  (test, output)  "\n"

What every grid's text begins and ends with (`GridText.head`, `GridText.tail`) belongs to the fixed texts:
tokenizers join newlines and backticks with those that follow.
"""

import re
from dataclasses import dataclass
from typing import Literal

from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks import Pair
from arc_experiments.tasks.grids import Grid

TEST = -1  # the number of the test pair, which stands after the demonstrations

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Slot:
    """The place of a grid."""

    pair: int
    side: Side

    def grid(self, pairs: list[Pair]) -> Grid:
        grid = getattr(pairs[self.pair], self.side)
        assert grid is not None, "a task without this output cannot be written"
        return grid  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Layout:
    """A text with slots: `texts[0]`, the grid of `slots[0]`, `texts[1]`, and so on to the last text."""

    texts: tuple[str, ...]
    slots: tuple[Slot, ...]

    def write(self, pairs: list[Pair], grid_text: GridText) -> list[str]:
        """Fixed texts and the grids' cores in turns: an odd number of texts."""
        pieces = [""] * (2 * len(self.slots) + 1)
        pieces[::2] = self.texts
        pieces[1::2] = [grid_text.write_core(slot.grid(pairs)) for slot in self.slots]
        return pieces


def mark(pair: int, side: Side) -> str:
    """A slot inside a text, of characters that no template holds (private use area)."""
    return f"\ue000{pair}:{side}\ue001"


def split(text: str, grid_text: GridText) -> Layout:
    """The layout of a text with marks."""
    parts = re.split("\ue000(-?[0-9]+):(input|output)\ue001", text)
    texts, pairs, sides = parts[::3], parts[1::3], parts[2::3]
    before = ["", *[grid_text.tail] * len(pairs)]
    after = [*[grid_text.head] * len(pairs), ""]
    return Layout(
        texts=tuple(map("".join, zip(before, texts, after, strict=True))),
        slots=tuple(Slot(int(pair), side) for pair, side in zip(pairs, sides, strict=True)),  # type: ignore[arg-type]
    )
