"""The layout of a prompt: static text with fields where grids go, the same for all tasks of one length.

"<bos>I" rows(0, input) "O" rows(0, output) "I" rows(test, input) "O"      the prompt
rows(test, output) "<eos>"                                                 the answer
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

from arc_experiments.grids import Grid
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks import Pair

TEST = -1  # the number of the test pair, which stands after the demonstrations

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Field:
    """A place that a grid fills: its height, its width, or its rows."""

    kind: Literal["height", "width", "rows"]
    pair: int
    side: Side

    def grid(self, pairs: list[Pair]) -> Grid:
        grid = getattr(pairs[self.pair], self.side)
        assert grid is not None, "a task without this output cannot be written"
        return grid  # type: ignore[no-any-return]

    def text(self, pairs: list[Pair], grid_text: GridText) -> str:
        grid = self.grid(pairs)
        if self.kind == "rows":
            return grid_text.write_rows(grid)
        return str(grid.shape[0 if self.kind == "height" else 1])


Piece = str | Field


@dataclass(frozen=True)
class Layout:
    """Prompt and answer as pieces; neighbouring static texts are one piece."""

    prompt: tuple[Piece, ...]
    answer: tuple[Piece, ...]


def slot(pair: int, side: Side) -> str:
    """A mark for a grid inside a text, of characters that no template holds (private use area)."""
    return f"\ue000{pair}:{side}\ue001"


def split_slots(text: str, grid_text: GridText) -> tuple[Piece, ...]:
    """Cut a text at its slots and put the grid text's own pieces in their places."""
    return tuple(_merge(_expand(text, grid_text)))


def _expand(text: str, grid_text: GridText) -> Iterator[Piece]:
    parts = re.split("\ue000(-?[0-9]+):(input|output)\ue001", text)
    yield parts[0]
    for index in range(1, len(parts), 3):
        pair, side, after = parts[index : index + 3]
        where: dict[str, Any] = {"pair": int(pair), "side": side}
        for literal, name, _, _ in Formatter().parse(grid_text.opening):
            yield literal
            if name is not None:
                yield Field(kind=name, **where)  # type: ignore[arg-type]
        yield Field(kind="rows", **where)
        yield grid_text.closing
        yield after


def _merge(pieces: Iterable[Piece]) -> Iterator[Piece]:
    static = ""
    for piece in pieces:
        if isinstance(piece, str):
            static += piece
            continue
        if static:
            yield static
        static = ""
        yield piece
    if static:
        yield static
