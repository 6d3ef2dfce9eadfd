"""The language `dsl`: RE-ARC's functions, in lines that assign one call each.

    x1 = ofcolor(I, FIVE)
    x2 = delta(x1)
    O = fill(I, TWO, x2)

`I` is the input, `O` the output. What counts are a program's calls, not its lines: the normal form has each
different call that `O` needs once, in the order in which nested calls would be executed.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from textwrap import indent
from typing import Literal, NamedTuple

from arc_experiments.programs.languages import Grammar, UnreadableProgram
from arc_experiments.programs.languages._dsl_colours import DIGITS, colour_constants
from arc_experiments.programs.languages._dsl_types import NoType
from arc_experiments.programs.languages._reading import (
    source_of_prelude,
    statements,
    unexpected,
    without_fences,
)
from arc_experiments.programs.re_arc import constants, functions, not_installed, verifiers
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS
from arc_experiments.tasks.task import Program

INPUT, OUTPUT = "I", "O"

Atom = str | int
"""A name or a number, as text; or the number of a call."""


class Dsl:
    """RE-ARC's functions in straight lines; see the module."""

    name = "dsl"
    runs_in: Literal["monty", "process"] = "monty"

    @cached_property
    def prelude(self) -> str:
        """The package's functions, and ours for those that Monty cannot execute."""
        ours = source_of_prelude(self.name)
        replaced = {node.name for node in ast.parse(ours).body if isinstance(node, ast.FunctionDef)}
        _check_installed()
        lines = [f"{name} = {ast.unparse(value)}" for name, value in constants().items()]
        lines += [ast.unparse(node) for name, node in functions().items() if name not in replaced]
        return "\n".join([*lines, ours])

    @property
    def grammar(self) -> Grammar:
        """All programs in normal form whose whole numbers are within 30 of 0."""
        _check_installed()
        names = {INPUT, OUTPUT, *functions(), *constants()}
        return Grammar(
            alphabet="".join({*"".join(names), *"x0123456789-=,() \n"}),
            start=ProgramPlace("line", 1),
            following=_following,
            example="x1 = ofcolor(I, FIVE)\nO = fill(I, 12, x1)",
        )

    def extract(self, answer: str) -> str:
        return without_fences(answer)

    def normalise(self, text: str) -> str:
        return write(read(text))

    def as_function(self, text: str) -> str:
        return f"def transform({INPUT}):\n{indent(text, '    ')}\n    return {OUTPUT}\n"

    def length(self, text: str) -> int:
        return len(read(text).calls)

    def recolour(self, text: str, mapping: Mapping[int, int]) -> str | None:
        """Rename the constants that are colours; None if colours are used as numbers or it is unclear.

        `maximum(palette(I))` is the colour with the largest number: after renaming, that is another colour.
        """
        renamed = {DIGITS[colour]: DIGITS[mapping.get(colour, colour)] for colour in range(NUM_COLOURS)}
        program = read(text)
        try:
            places = colour_constants(program.calls, program.output)
        except NoType:
            return None
        if len({*renamed.values()}) < NUM_COLOURS:
            return None
        calls = tuple(
            tuple(
                renamed[str(part)] if (number, place) in places else part for place, part in enumerate(call)
            )
            for number, call in enumerate(program.calls)
        )
        return write(Calls(calls=calls, output=program.output))

    def turn(self, text: str, symmetry: str, height: int, width: int) -> str | None:
        """Return None: directions are spread over functions, constants and their combinations."""
        return None


def _check_installed() -> None:
    if not functions():
        raise not_installed("the language dsl", "it has RE-ARC's functions")


@dataclass(frozen=True)
class Calls:
    """A program as its different calls: a function and its arguments, earlier calls being numbers."""

    calls: tuple[tuple[Atom, ...], ...]
    output: Atom


def read(text: str) -> Calls:
    """Parse a program, as lines or as a function of `I` that returns its output, like RE-ARC's verifiers.

    Raises:
        UnreadableProgram: something is neither an assignment nor a call, or a name is unknown.
    """
    body = statements(text)
    match body:
        case [ast.FunctionDef() as function]:
            return read_function(function)
    reader = _Reader()
    reader.read_lines(body)
    if OUTPUT not in reader.values:
        raise UnreadableProgram("syntax", f"no line assigns {OUTPUT}, the output")
    return reader.needed(reader.values[OUTPUT])


def read_function(function: ast.FunctionDef) -> Calls:
    """Parse a program in the form of a function of `I`."""
    reader = _Reader()
    *lines, last = function.body
    reader.read_lines(lines)
    if not isinstance(last, ast.Return) or last.value is None:
        raise unexpected(last, "the return of a value")
    return reader.needed(reader.value(last.value))


@cache
@cache
def solution(task_id: str) -> Program | None:
    """Return RE-ARC's program for one of its 400 tasks; None if it has none, or is not installed."""
    verifier = verifiers().get(task_id)
    return None if verifier is None else Program(language="dsl", text=write(read_function(verifier)))


class _Reader:
    """Collects different calls, and the value of each name."""

    def __init__(self) -> None:
        self.values: dict[str, Atom] = {INPUT: INPUT}
        self._calls: dict[tuple[Atom, ...], int] = {}

    def read_lines(self, lines: Iterable[ast.stmt]) -> None:
        for line in lines:
            match line:
                case ast.Assign([ast.Name(name)], node) if name not in functions() | constants():
                    self.values[name] = self.value(node)
                case _:
                    raise unexpected(line, "an assignment to a new name")

    def value(self, node: ast.expr) -> Atom:
        match node:
            case ast.Name(name) if name in self.values:
                return self.values[name]
            case ast.Name(name) if name in functions() or name in constants():
                return name
            case ast.Name():
                raise unexpected(node, "a function or constant of the language, or a name from above")
            case ast.Call(function, arguments, []):
                return self._call(self.value(part) for part in (function, *arguments))
        written = ast.unparse(node)
        if written in _names():
            return _names()[written]
        match node:
            case ast.Tuple([first, second]):
                return self._call(("astuple", self.value(first), self.value(second)))
            case ast.Constant(int()) | ast.UnaryOp(ast.USub(), ast.Constant(int())):
                return written
        raise unexpected(node, "a call, a name or a whole number")

    def _call(self, parts: Iterable[Atom]) -> int:
        return self._calls.setdefault(tuple(parts), len(self._calls))

    def needed(self, output: Atom) -> Calls:
        """Return the calls that the output needs, each after those in it, from left to right."""
        calls = list(self._calls)
        places: dict[int, int] = {}
        pending = [output] if isinstance(output, int) else []
        while pending:
            inner = (part for part in calls[pending[-1]] if isinstance(part, int) and part not in places)
            first = next(inner, None)
            if first is not None:
                pending.append(first)
            else:
                places.setdefault(pending.pop(), len(places))

        def placed(part: Atom) -> Atom:
            return places[part] if isinstance(part, int) else part

        return Calls(
            calls=tuple(tuple(map(placed, calls[call])) for call in places),
            output=placed(output),
        )


class ProgramPlace(NamedTuple):
    """A place in a program's text.

    Attributes:
        part: before a "line", its "function" or an "argument", or "after" an argument.
        line: its number, from 1 on.
        is_last: whether the line assigns the output.
        num_left: how many arguments are to come, this one included; None: any number, since what is called
            is a call's result.
    """

    part: str
    line: int
    is_last: bool = False
    num_left: int | None = None


def _following(place: ProgramPlace) -> Iterator[tuple[str, ProgramPlace | None]]:
    """Yield what may come at a place of a program; see `Grammar`."""
    above = [f"x{number}" for number in range(1, place.line)]
    match place.part:
        case "line":
            yield f"x{place.line} = ", place._replace(part="function")
            yield f"{OUTPUT} = ", place._replace(part="function", is_last=True)
        case "function":
            for name, num_left in [*_arities().items(), *((name, None) for name in above)]:
                yield f"{name}(", place._replace(part="argument", num_left=num_left)
            if place.is_last and place.line == 1:  # a program without calls
                yield from ((value, None) for value in _values())
        case "argument":
            for value in (*_values(), *above):
                yield value, place._replace(part="after")
        case "after":
            if place.num_left != 1:
                left = None if place.num_left is None else place.num_left - 1
                yield ", ", place._replace(part="argument", num_left=left)
            if place.num_left in (1, None):
                yield (")", None) if place.is_last else (")\n", ProgramPlace("line", place.line + 1))


@cache
def _arities() -> dict[str, int]:
    """Return how many arguments each function takes."""
    return {name: len(node.args.args) for name, node in functions().items()}


@cache
def _values() -> tuple[str, ...]:
    """Return what can be an argument without a call: names, and whole numbers that have none."""
    numbers = map(str, range(-MAX_SIDE, MAX_SIDE + 1))
    return INPUT, *constants(), *functions(), *(number for number in numbers if number not in _names())


@cache
def _names() -> dict[str, str]:
    """Return the constants' names by what they stand for: `0` is ZERO, `(0, 0)` is ORIGIN."""
    return {ast.unparse(value): name for name, value in constants().items()}


def write(program: Calls) -> str:
    """Write the program, a call per line."""
    last = len(program.calls) - 1
    lines = []
    for number, call in enumerate(program.calls):
        function, *arguments = (part if isinstance(part, str) else f"x{part + 1}" for part in call)
        name = OUTPUT if number == last else f"x{number + 1}"
        lines.append(f"{name} = {function}({', '.join(arguments)})")
    return "\n".join(lines) or f"{OUTPUT} = {program.output}"


LANGUAGE = Dsl()
