"""Types of the functions of `dsl`, as far as colours are concerned, as they are written and compared.

    C           a colour, which can only be moved and compared with other colours
    N           whatever contains no colour: numbers, locations, truth values, and sets of these
    [t]  (t,u)  a set or tuple of many t; a pair, such as (C,N), a cell of an object
    G    O      [[C]], a grid; [(C,N)], an object
    {t,u}       a function of t that gives u
    a b c       any type, the same for the same letter

The type of `fill` is `G C a > G`.
"""

from dataclasses import dataclass


@dataclass(eq=False)
class Type:
    """A type: a name with the types inside it, or a variable (no name) that may become another type.

    Names are C, N, `[` (many), `(` (a pair) and `>` (a function: its arguments, then its result).
    """

    name: str = ""
    parts: "tuple[Type, ...]" = ()
    becomes: "Type | None" = None


class NoType(ValueError):
    """Raised where a colour is used as something else, or the types cannot be found."""


C, N = Type("C"), Type("N")


def many(of: Type) -> Type:
    """Return the type of sets and tuples."""
    return Type("[", (of,))


def function(*parts: Type) -> Type:
    """Return the type of functions of all but the last, with the last as the result."""
    return Type(">", parts)


def resolved(given: Type) -> Type:
    """Follow a variable to what it has become."""
    while given.becomes is not None:
        given = given.becomes
    return given


def unify(first: Type, second: Type) -> None:
    """Make two types the same, or raise NoType."""
    first, second = resolved(first), resolved(second)
    if first is second:
        return
    if not first.name or not second.name:
        _set(*((second, first) if first.name else (first, second)))
    elif first.name == second.name and len(first.parts) == len(second.parts):
        for one, other in zip(first.parts, second.parts, strict=True):
            unify(one, other)
    else:
        _unify_different(*sorted((first, second), key=lambda given: given.name))


def _unify_different(first: Type, second: Type) -> None:
    """Unify types of different names, in alphabetical order: `(`, `>`, C, N, `[`."""
    if (first.name, second.name) == ("(", "["):
        members, same = first.parts, second.parts[0]
    elif (first.name, second.name) == ("(", "N"):
        members, same = first.parts, N
    elif (first.name, second.name) == ("N", "["):
        members, same = second.parts, N
    else:
        raise NoType(f"{first.name} is not {second.name}")
    for member in members:
        unify(member, same)


def _set(variable: Type, to: Type) -> None:
    if _contains(to, variable):  # a set that is its own member: only what has no colour may be that
        unify(to, N)
        to = N
    variable.becomes = to


def _contains(given: Type, variable: Type) -> bool:
    given = resolved(given)
    return given is variable or any(_contains(part, variable) for part in given.parts)


def signature(text: str) -> Type:
    """Return a new copy of a written type."""
    arguments, _, result = text.rpartition(">")
    letters: dict[str, Type] = {"C": C, "N": N, "G": many(many(C)), "O": many(Type("(", (C, N)))}
    return function(*(_one(part, letters) for part in [*arguments.split(), result.strip()]))


def _one(text: str, letters: dict[str, Type]) -> Type:
    """Read one type without blanks."""
    if text[0] == "[":
        return many(_one(text[1:-1], letters))
    if text[0] == "{":  # a function as an argument
        return function(*(_one(part, letters) for part in text[1:-1].split(",")))
    if text[0] == "(":
        return Type("(", tuple(_one(part, letters) for part in text[1:-1].split(",")))
    return letters.setdefault(text, Type())
