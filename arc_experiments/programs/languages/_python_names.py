"""Names in a program in Python: in which scope each is bound, and new ones for the local variables."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

# With these a program can ask for a name that is not written in it as one.
DYNAMIC = frozenset({"dir", "eval", "exec", "globals", "locals", "vars"})

# What mentions a name, by the field that has it.
_FIELDS: dict[type[ast.AST], str] = {ast.Name: "id", ast.arg: "arg", ast.ExceptHandler: "name"}
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(eq=False)
class Scope:
    """A function, lambda, comprehension, class or the module, and the names bound in it.

    Attributes:
        is_local: whether it is none of the last two.
        kept: bound names that are not variables: functions, classes, modules.
        declared_global: names that it takes from the module, by `global`.
        declared_outer: names that it takes from a function around it, by `nonlocal`.
    """

    parent: "Scope | None" = None
    is_local: bool = True
    is_comprehension: bool = False
    bound: set[str] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    declared_global: set[str] = field(default_factory=set)
    declared_outer: set[str] = field(default_factory=set)

    def find(self, name: str) -> "Scope | None":
        """Return the scope that binds the name seen from here; None if that is the module, or none."""
        scope = self
        while scope.parent is not None:
            if name in scope.declared_global:
                return None
            if name in scope.bound - scope.declared_outer and (scope.is_local or scope is self):
                return scope
            scope = scope.parent
        return None

    @property
    def outermost(self) -> "Scope":
        """The outermost function around it, or itself."""
        return self if self.parent is None or not self.parent.is_local else self.parent.outermost


class Names(ast.NodeVisitor):
    """The names of a program.

    Attributes:
        mentions: what mentions a name, and the scope where it does, in the order of the program.
        keywords: names of arguments in calls; None for `**`.
    """

    def __init__(self, body: Iterable[ast.stmt]) -> None:
        self._module = self._scope = Scope(is_local=False)
        self.mentions: list[tuple[ast.AST, Scope]] = []
        self.nonlocals: list[tuple[ast.Nonlocal, Scope]] = []
        self.keywords: set[str | None] = set()
        for statement in body:
            self.visit(statement)

    @property
    def bound(self) -> set[str]:
        """Names that the module binds."""
        return self._module.bound

    @property
    def used(self) -> set[str]:
        """Names mentioned that no function or class binds."""
        return {name_of(node) for node, scope in self.mentions if scope.find(name_of(node)) is None}

    @property
    def unbound(self) -> set[str]:
        """Names mentioned that nothing binds."""
        return self.used - self.bound

    def _mention(self, node: ast.AST, *, binds: bool) -> None:
        self.mentions.append((node, self._scope))
        if binds:
            self._bind(name_of(node))

    def _bind(self, name: str, *, keep: bool = False) -> None:
        scope = self._module if name in self._scope.declared_global else self._scope
        scope.bound.add(name)
        if keep:
            scope.kept.add(name)

    def _in(self, scope: Scope, nodes: Iterable[ast.AST | None]) -> None:
        """Visit nodes that stand in a scope within the present one."""
        outside, self._scope = self._scope, scope
        for node in nodes:
            if node is not None:
                self.visit(node)
        self._scope = outside

    def visit_Name(self, node: ast.Name) -> None:
        self._mention(node, binds=not isinstance(node.ctx, ast.Load))

    def visit_arg(self, node: ast.arg) -> None:
        self._mention(node, binds=True)
        self._scope.parameters.add(node.arg)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self._mention(node, binds=True)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        scope = self._scope
        while scope.is_comprehension and scope.parent is not None:
            scope = scope.parent
        self._in(scope, [node.target])

    def visit_FunctionDef(self, node: _Function) -> None:
        arguments = node.args
        around = [*arguments.defaults, *arguments.kw_defaults]
        if not isinstance(node, ast.Lambda):
            self._bind(node.name, keep=True)
            around += node.decorator_list
        for value in around:
            if value is not None:
                self.visit(value)
        named = [
            *arguments.posonlyargs,
            *arguments.args,
            arguments.vararg,
            *arguments.kwonlyargs,
            arguments.kwarg,
        ]
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        self._in(Scope(self._scope), [*named, *body])

    visit_Lambda = visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name, keep=True)
        for value in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(value)
        self._in(Scope(self._scope, is_local=False), node.body)

    def visit_ListComp(self, node: _Comprehension) -> None:
        first, *later = node.generators
        self.visit(first.iter)
        inside: list[ast.AST] = [first.target, *first.ifs, *later]
        inside += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._in(Scope(self._scope, is_comprehension=True), inside)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # noqa: N815

    def visit_Global(self, node: ast.Global) -> None:
        self._scope.declared_global.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.declared_outer.update(node.names)
        self.nonlocals.append((node, self._scope))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.partition(".")[0], keep=True)

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name is not None:
            self._bind(name, keep=True)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchMapping = visit_MatchAs  # noqa: N815

    def visit_keyword(self, node: ast.keyword) -> None:
        self.keywords.add(node.arg)
        self.visit(node.value)


def name_of(node: ast.AST) -> str:
    """Return the name that a Name, an argument or a handler of exceptions mentions."""
    name: str = getattr(node, _FIELDS[type(node)])
    return name


def rename_locals(body: Iterable[ast.stmt]) -> None:
    """Call the variables of each function v0, v1, ... in the order in which they are mentioned.

    Parameters that a call may name keep their names.
    """
    names = Names(body)
    homes = [(node, scope.find(name_of(node))) for node, scope in names.mentions]
    found = [
        (node, home) for node, home in homes if home is not None and _may_change(name_of(node), home, names)
    ]
    changed = {id(node) for node, _ in found}
    taken = {name_of(node) for node, _ in homes if id(node) not in changed} | names.keywords
    taken |= {name for node in _scopes(names) for name in node.kept}
    numbers: dict[Scope, Iterator[str]] = defaultdict(
        lambda: (n for n in map("v{}".format, count()) if n not in taken)
    )
    new: dict[tuple[Scope, str], str] = {}
    for node, home in found:
        key = home, name_of(node)
        if key not in new:
            new[key] = next(numbers[home.outermost])
        setattr(node, _FIELDS[type(node)], new[key])
    for declaration, scope in names.nonlocals:
        homes_of = ((scope.find(name), name) for name in declaration.names)
        declaration.names = [new.get((home, name), name) if home else name for home, name in homes_of]


def _may_change(name: str, home: Scope, names: Names) -> bool:
    if not home.is_local or name in home.kept or name.startswith("__"):
        return False
    return name not in home.parameters or not names.keywords & {name, None}


def _scopes(names: Names) -> set[Scope]:
    return {scope for _, scope in names.mentions}
