"""Find out which constants of a `dsl` program are colours: THREE may be the colour green or a count.

The types of all calls are inferred, as in a functional language. Where a program has types in which colours
are only moved and compared with each other, renaming its colours gives the program of the renamed task: all
else that it could go by, such as the order of sets in Monty, does not depend on the colours' numbers.
"""

from functools import cache

from arc_experiments.programs.languages._dsl_types import (
    C,
    N,
    NoType,
    Type,
    function,
    many,
    resolved,
    signature,
    unify,
)
from arc_experiments.programs.re_arc import constants

SIGNATURES = {
    "N > N": "invert even double halve flip increment decrement crement sign positive toivec tojvec "
    "dneighbors ineighbors neighbors vfrontier hfrontier",
    "N N > N": "add subtract multiply divide greater both either connect shoot",
    "N N N > N": "interval",
    "[N] > N": "maximum minimum",
    "a > a": "identity hmirror vmirror dmirror cmirror rot90 rot180 rot270 normalize trim tophalf bottomhalf "
    "lefthalf righthalf",
    "a N > a": "shift upscale hupscale vupscale downscale",
    "a a > a": "combine intersection difference hconcat vconcat",
    "a a > N": "equality",
    "a > N": "size height width shape portrait square vline hline uppermost lowermost leftmost rightmost "
    "ulcorner urcorner llcorner lrcorner corners center centerofmass toindices backdrop delta inbox outbox "
    "box hperiod vperiod",
    "a b > N": "hmatching vmatching manhattan adjacent position gravitate",
    "a G > N": "bordering",
    "a [a] > N": "contained",
    "[a] > [a]": "totuple dedupe",
    "[[a]] > [a]": "merge",
    "[a] > a": "mostcommon leastcommon",
    "a > [a]": "initset",
    "a N > [a]": "repeat",
    "a [a] > [a]": "insert remove",
    "[a] a > a": "other",
    "[a] N > [a]": "sizefilter",
    "[a] {a,N} > [a]": "sfilter order",
    "[[a]] {[a],N} > [a]": "mfilter",
    "[a] {a,N} > a": "extract argmax argmin",
    "[a] {a,N} > N": "valmax valmin",
    "a b > (a,b)": "astuple",
    "[a] [b] > [(a,b)]": "pair product",
    "N a a > a": "branch",
    "{b,c} {a,b} > {a,c}": "compose",
    "{c,d} {b,c} {a,b} > {a,d}": "chain",
    "{a,b} b > {a,N}": "matcher",
    "{a,a} N > {a,a}": "power",
    "{b,c,d} {a,b} {a,c} > {a,d}": "fork",
    "{a,b} [a] > [b]": "apply",
    "[{a,b}] a > [b]": "rapply",
    "{a,[b]} [a] > [b]": "mapply",
    "{a,b,c} [a] [b] > [c]": "papply prapply",
    "{a,b,[c]} [a] [b] > [c]": "mpapply",
    "E > C": "mostcolor leastcolor",
    "E > [C]": "palette",
    "E > N": "numcolors",
    "E C > N": "colorcount",
    "O > C": "color",
    "[O] C > [O]": "colorfilter",
    "C a > O": "recolor",
    "a G > O": "toobject",
    "G > O": "asobject",
    "G > N": "asindices",
    "G C > N": "ofcolor",
    "G N > C": "index",
    "C N > G": "canvas",
    "G N N > G": "crop",
    "G C a > G": "fill underfill",
    "G O > G": "paint underpaint",
    "G a > G": "cover",
    "G O N > G": "move",
    "a G > G": "subgrid",
    "G N > [G]": "hsplit vsplit",
    "G C C > G": "replace switch",
    "G G C > G": "cellwise",
    "G > G": "compress",
    "G > [O]": "partition fgpartition frontiers",
    "G O > N": "occurrences",
    "G N N N > [O]": "objects",
    "p > q": "first last",
}
BINDERS = ("rbind", "lbind")  # their types depend on the number of arguments of the function they bind

DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
MAX_CALLS = 3000  # to type, those in functions anew at each use

Atom = str | int
Calls = tuple[tuple[Atom, ...], ...]
Place = tuple[int, int]  # a call's number, and an argument's


def colour_constants(calls: Calls, output: Atom) -> set[Place]:
    """Return where the calls of a program have colours as constants.

    Raises:
        NoType: a colour is used as a number, or it is unclear whether some constant is a colour.
    """
    typing = _Typing(calls)
    unify(typing.type_of(output, (len(calls), 0)), many(many(C)))
    typing.settle()
    if typing.pending:
        raise NoType("the types of some calls are open")
    names = {place: resolved(found).name for place, found in typing.digits.items()}
    if set(names.values()) - {"C", "N"}:
        raise NoType("a constant may be a colour or a number")
    return {place for place, name in names.items() if name == "C"}


class _Typing:
    """The types of a program's calls.

    Attributes:
        digits: of the constants 0 to 9, by their place.
        pending: functions whose type depends on that of their argument, and the types of both.
    """

    def __init__(self, calls: Calls) -> None:
        self.digits: dict[Place, Type] = {}
        self.pending: list[tuple[str, Type, Type]] = []
        self._calls = calls
        self._budget = MAX_CALLS
        self._known: dict[int, Type] = {}
        for number in range(len(calls)):
            before = list(self.pending)
            self._known[number] = self._typed(number)
            if resolved(self._known[number]).name == ">":  # typed again where it is used
                self.pending = before

    def type_of(self, part: Atom, place: Place) -> Type:
        """Return the type of a function or an argument; functions get new types at each use."""
        if isinstance(part, int):
            known = self._known[part]
            return self._typed(part) if resolved(known).name == ">" else known
        if part == "I":
            return many(many(C))
        if part in DIGITS:
            return self.digits.setdefault(place, Type())
        if part in signatures():
            return self._new_function(part)
        if part in constants() or part.lstrip("-").isdigit():
            return N
        raise NoType(f"{part} has no type")

    def _new_function(self, name: str) -> Type:
        given = signature(signatures()[name])
        argument, *_, result = given.parts
        if signatures()[name].startswith(("E", "p")):
            self.pending.append((name, argument, result))
        return given

    def _typed(self, number: int) -> Type:
        self._budget -= 1
        if self._budget < 0:
            raise NoType("the program is too long")
        called, *arguments = self._calls[number]
        later = called == "lbind" and arguments[:1] in (["rbind"], ["lbind"])  # binds the function alone
        bound = arguments[1:] if later else arguments
        types = [self.type_of(part, (number, place)) for place, part in enumerate(bound, 2 if later else 1)]
        if later:
            fixed = Type()
            return function(fixed, _bound(str(arguments[0]), *types, fixed))
        if called in BINDERS:
            return _bound(str(called), *types)
        result = Type()
        unify(self.type_of(called, (number, 0)), function(*types, result))
        self.settle()
        return result

    def settle(self) -> None:
        """Find the types that depend on arguments whose types are known by now."""
        while True:
            left = [entry for entry in self.pending if not _settled(*entry)]
            if len(left) == len(self.pending):
                return
            self.pending = left


def _bound(binder: str, *types: Type) -> Type:
    """Return the type of a function of which one argument is fixed."""
    if len(types) != 2:
        raise NoType(f"{binder} has two arguments")
    *arguments, result = resolved(types[0]).parts if resolved(types[0]).name == ">" else ()
    if len(arguments) < 2:
        raise NoType(f"{binder} of a function whose arguments are not known")
    unify(arguments.pop(-1 if binder == "rbind" else 0), types[1])
    return function(*arguments, result)


def _settled(name: str, argument: Type, result: Type) -> bool:
    """Make use of the type of an argument; return False if it is not known yet."""
    argument = resolved(argument)
    if name in ("first", "last"):
        if argument.name in ("[", "("):
            unify(result, argument.parts[0 if name == "first" else -1])
        elif argument.name:
            unify(argument, N)
            unify(result, N)
        return bool(argument.name)
    if argument.name != "[":  # a grid or an object
        if argument.name:
            raise NoType(f"{name} of something without colours")
        return False
    inner = resolved(argument.parts[0])
    unify(inner, many(C) if inner.name == "[" else Type("(", (C, N)) if inner.name else inner)
    return bool(inner.name)


@cache
def signatures() -> dict[str, str]:
    """Return the written type of each function."""
    return {name: written for written, names in SIGNATURES.items() for name in names.split()}
