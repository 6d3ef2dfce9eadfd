"""The language `python`: a function of a grid, with numpy, in the forms in which such programs are published.

    def transform(grid):                     SOAR and Nemotron: lists in, lists or an array out
        return [row[::-1] for row in grid]

    def main(input_grid: np.ndarray):        BARC: arrays in and out, with helpers of its library `common`
        return input_grid.T

Of `common` there are `Color` and `np`. A program that uses other helpers cannot run: its reason is `import`,
and the message names them.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal

from arc_experiments.programs.languages import UnreadableProgram
from arc_experiments.programs.languages._python_forms import (
    Entry,
    find_entry,
    helpers_of_barc,
    normal_form,
)
from arc_experiments.programs.languages._reading import (
    MAX_CHARACTERS,
    fenced_blocks,
    source_of_prelude,
    statements,
)

_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_BEGINNING = re.compile(r"^(import |from \S+ import |def |class |@)", re.MULTILINE)
_MOST_CUTS = 20

_WITH_ARRAYS = """
from numpy import array as _array
_program = {name}
def transform(grid):
    return _program(_array(grid))
"""


class Python:
    """Functions named `transform`, or `main`, in Python; see the module."""

    name = "python"
    runs_in: Literal["monty", "process"] = "process"
    grammar = None

    @cached_property
    def prelude(self) -> str:
        return source_of_prelude(self.name)

    def extract(self, answer: str) -> str:
        """Return the last fenced block that defines the function, or that part of a text without fences."""
        answer = _THOUGHTS.sub("", answer)
        blocks = fenced_blocks(answer)
        for block in reversed(blocks):
            if _defines_entry(block):
                return block.strip()
        if not blocks:
            for text in _parts(answer):
                if _defines_entry(text):
                    return text.strip()
        whole = (blocks[-1] if blocks else answer).strip()
        find_entry(statements(whole))  # raises what is wrong with it
        return whole

    def normalise(self, text: str) -> str:
        """Return the program without what does not matter to its outputs.

        That is comments, docstrings, annotations, layout, imports and helpers that it does not use, and the
        names of local variables. It is a function `transform` of nested lists.
        """
        body = statements(text)
        try:
            return ast.unparse(normal_form(body))
        except UnreadableProgram:
            raise
        except (RecursionError, ValueError) as error:  # too deep, or a number of thousands of digits
            raise UnreadableProgram("syntax", str(error)) from error

    def as_function(self, text: str) -> str:
        try:
            body = statements(text)
            entry = find_entry(body)
            helpers = helpers_of_barc(body)
        except (UnreadableProgram, RecursionError):
            return text
        return f"{text}\n{_made_callable(entry)}" + (
            f"from common import {', '.join(helpers)}\n" if helpers else ""
        )

    def length(self, text: str) -> int:
        """Return the number of nodes of the syntax tree."""
        nodes = (node for statement in statements(text) for node in ast.walk(statement))
        return sum(not isinstance(node, ast.expr_context) for node in nodes)

    def recolour(self, text: str, mapping: Mapping[int, int]) -> str | None:
        """Return the program if no colour is renamed: which of its numbers are colours cannot be known."""
        return text if all(old == new for old, new in mapping.items()) else None

    def turn(self, text: str, symmetry: str, height: int, width: int) -> str | None:
        """Return the program if nothing is turned."""
        return text if symmetry == "identity" else None


def _made_callable(entry: Entry) -> str:
    if entry.takes_array:
        return _WITH_ARRAYS.format(name=entry.function.name)
    return "" if entry.function.name == "transform" else f"transform = {entry.function.name}\n"


def _defines_entry(text: str) -> bool:
    try:
        find_entry(statements(text))
    except UnreadableProgram:
        return False
    return True


def _parts(answer: str) -> Iterator[str]:
    """Yield parts of a text that begin like a program and end before a line that is not Python."""
    for beginning in _BEGINNING.finditer(answer[:MAX_CHARACTERS]):
        lines = answer[beginning.start() :][:MAX_CHARACTERS].splitlines()
        for _ in range(_MOST_CUTS):
            text = "\n".join(lines)
            yield text
            try:
                ast.parse(text)
                break
            except SyntaxError as error:
                lines = lines[: (error.lineno or 1) - 1]
            except (ValueError, RecursionError, MemoryError):
                break


LANGUAGE = Python()
