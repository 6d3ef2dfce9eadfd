r"""The language of answers: which characters may follow a prefix of a valid answer.

With grids in the compact prompt, where an answer consists of the rows alone:

    ""         one of 0 to 9
    "12"       one of 0 to 9, or "\n", which ends the row and makes the grid two cells wide
    "12\n3"    one of 0 to 9 only
    "12\n34\n" one of 0 to 9, or the end

With frames, rows and grid end with padding; the first row determines the frame. Programs follow the grammar
of their language (`programs.languages.Grammar`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from arc_experiments.programs.languages import Grammar
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.tasks.grids import MAX_SIDE

Reading = tuple[str, Any]
"""The characters that must come next, and the place after them; None: the end."""

State = frozenset[Reading]
"""All readings of the text so far."""


class AnswerLanguage(ABC):
    """The answers that a prompt's template can write, read character by character.

    Attributes:
        alphabet: the characters that occur in answers.
        start: the state before the first one.
    """

    alphabet: frozenset[str]
    start: State

    def step(self, state: State, character: str) -> State:
        """Return the state after one more character; empty if it is not allowed."""
        return self._opened((text[1:], place) for text, place in state if text.startswith(character))

    def completes(self, state: State, character: str) -> bool:
        """Return whether this character may be the last of what must come at a place."""
        return any(text == character for text, _ in state)

    def is_end(self, state: State) -> bool:
        """Return whether an answer may end here."""
        return ("", None) in state

    def _opened(self, readings: Iterable[Reading]) -> State:
        """Replace places that await no characters by the places that may follow."""
        waiting, done = list(readings), set()
        while waiting:
            text, place = waiting.pop()
            if text or place is None:
                done.add((text, place))
            else:
                waiting.extend(self._next(place))
        return frozenset(done)

    @abstractmethod
    def _next(self, place: Any) -> Iterator[Reading]:
        """Yield what may follow a place."""


class GridPlace(NamedTuple):
    """A place in a grid's text; height, width and frame are None until the text determines them.

    Attributes:
        part: "row" before a row's number, "cell" before a cell, or "after" a cell.
        frame: the side that rows are padded to, 0 for none.
        row, column: number of finished rows, and of cells in the current row.
    """

    part: str
    height: int | None
    width: int | None
    frame: int | None = None
    row: int = 0
    column: int = 0


class GridAnswers(AnswerLanguage):
    """Answers that hold a grid of 1 to 30 rows and columns.

    Args:
        before, after: the answer's fixed texts, including `GridText.head` and `GridText.tail`.
    """

    def __init__(self, grid_text: GridText, before: str, after: str) -> None:
        self._grid_text, self._after = grid_text, after
        sizes: dict[str, GridPlace] = {}
        for height in range(1, MAX_SIDE + 1):
            for width in range(1, MAX_SIDE + 1):
                text = before + grid_text.write_sizes(height, width)
                sizes[text] = GridPlace(
                    "row",
                    height if "{height}" in grid_text.opening else None,
                    width if "{width}" in grid_text.opening else None,
                )
        self.start = self._opened(sizes.items())
        self.alphabet = frozenset(
            "".join([*sizes, *grid_text.cells, grid_text.separator, grid_text.fill_row(0, 1), after, "\n"])
            + ("0123456789 " if grid_text.row_numbers else "")
        )

    def _next(self, place: GridPlace) -> Iterator[Reading]:
        grid_text, row, column = self._grid_text, place.row, place.column
        if place.part == "row":
            yield f"{row + 1} " if grid_text.row_numbers else "", place._replace(part="cell")
        elif place.part == "cell":
            for cell in grid_text.cells:
                yield cell, place._replace(part="after", column=column + 1)
        else:
            if column < (place.width or MAX_SIDE):
                yield grid_text.separator, place._replace(part="cell")
            if column == (place.width or column):
                yield from self._ends_of_row(place)

    def _ends_of_row(self, place: GridPlace) -> Iterator[Reading]:
        grid_text, width, rows = self._grid_text, place.column, place.row + 1
        heights = [place.height] if place.height else range(rows, MAX_SIDE + 1)
        tallest = {grid_text.frame(height, width): height for height in heights}
        for frame, height in tallest.items():
            if place.frame not in (None, frame):
                continue
            filled = grid_text.fill_row(width, frame)
            if rows < height:
                yield f"{filled}\n", GridPlace("row", place.height, width, frame, rows)
            if rows == (place.height or rows) and frame == grid_text.frame(rows, width):
                yield filled + grid_text.fill_below(rows, frame) + self._after, None


class ProgramAnswers(AnswerLanguage):
    """Answers that hold a program which the grammar of its language allows.

    Args:
        before, after: the answer's fixed texts.
    """

    def __init__(self, grammar: Grammar, before: str, after: str) -> None:
        self._grammar, self._after = grammar, after
        self.start = self._opened([(before, grammar.start)])
        self.alphabet = frozenset(before + grammar.alphabet + after)

    def _next(self, place: Any) -> Iterator[Reading]:
        for text, following in self._grammar.following(place):
            yield (text + self._after, None) if following is None else (text, following)
