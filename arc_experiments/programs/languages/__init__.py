"""Languages of programs: each is a module here, `draw`, `dsl` or `python`, whose `LANGUAGE` is a `Language`.

language("draw").normalise("line(3, 5,0, 0,0)  # a comment")    # "line(3,0,0,5,0)"
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

Unreadable = Literal["no_program", "syntax"]


class UnreadableProgram(ValueError):
    """Raised for a text that is no program of the language.

    Attributes:
        reason: `no_program` if the text has none, `syntax` if it breaks the language's grammar.
    """

    def __init__(self, reason: Unreadable, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """What programs are written of, in their normal form's layout.

    Attributes:
        alphabet: the characters that occur.
        start: the place before a program.
        following: the texts that may come at a place, each with the place after it; None where a program may
            end.
        example: a program that it allows, of all parts.
    """

    alphabet: str
    start: Any
    following: Callable[[Any], Iterator[tuple[str, Any]]]
    example: str


class Language(Protocol):
    """How programs are written, compared and run.

    Attributes:
        runs_in: its kind of sandbox: `monty`, an interpreter apart from the machine, or a Python `process`.
        prelude: source text that the interpreter executes before any program.
    """

    @property
    def name(self) -> str: ...

    @property
    def runs_in(self) -> Literal["monty", "process"]: ...

    @property
    def prelude(self) -> str: ...

    @property
    def grammar(self) -> Grammar | None:
        """The grammar to which generation can be held; None: there is none."""

    def extract(self, answer: str) -> str:
        """Return the program in a model's answer, without code fences; raise UnreadableProgram."""

    def normalise(self, text: str) -> str:
        """Return the canonical form of a program, or raise UnreadableProgram.

        It is the same for programs that differ in layout, comments or names of local variables only, and it
        does the same. Training shows it, and deduplication compares it.
        """

    def as_function(self, text: str) -> str:
        """Return source text that defines `transform`, a function of a grid as nested lists or tuples.

        The text need not be a readable program; what is wrong with it then shows when it is run.
        """

    def length(self, text: str) -> int:
        """Return the number of steps of a program, by which the simpler of two is chosen."""

    def recolour(self, text: str, mapping: Mapping[int, int]) -> str | None:
        """Return a program for the task whose colours are renamed; None if this cannot be done exactly.

        Args:
            mapping: a permutation of the colours 0 to 9.
        """

    def turn(self, text: str, symmetry: str, height: int, width: int) -> str | None:
        """Return a program for the task whose grids are turned; None if this cannot be done exactly.

        Args:
            symmetry: a name of `tasks.grids.TURNS`.
            height: of every input grid, as is `width`.
        """


def names() -> list[str]:
    """Return the names of all languages."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


@cache
def language(name: str) -> Language:
    """Return the language of that name.

    Raises:
        ValueError: there is none; the message names those that exist.
    """
    if name not in names():
        raise ValueError(f"{name!r} is no language of programs: choose one of {', '.join(names())}")
    found: Language = import_module(f"{__name__}.{name}").LANGUAGE
    return found
