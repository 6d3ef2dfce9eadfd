"""Forms of a program in Python: where it begins, what it takes, and its normal form."""

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module

from arc_experiments.programs.languages import UnreadableProgram
from arc_experiments.programs.languages._python_names import DYNAMIC, Names, rename_locals

ENTRIES = ("transform", "main")
COMMON = "common"  # BARC's library
IN_PRELUDE = ("Color", "np")
STARRED = {"collections", "functools", "itertools", "math", "numpy", "typing"}

# The values of these have no effect but to exist.
_PLAIN = (
    ast.Constant, ast.Name, ast.Attribute, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp,
    ast.unaryop, ast.expr_context,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """The function of a program that maps a grid.

    Attributes:
        takes_array: whether its grid is an array; otherwise nested lists.
    """

    function: ast.FunctionDef
    takes_array: bool


def find_entry(body: Sequence[ast.stmt]) -> Entry:
    """Return the last definition of `transform`, or else of `main`; raise UnreadableProgram."""
    functions = {statement.name: statement for statement in body if isinstance(statement, ast.FunctionDef)}
    for name in ENTRIES:
        if name in functions:
            return Entry(function=functions[name], takes_array=_takes_array(functions[name], body))
    raise UnreadableProgram("no_program", f"it defines no function {' or '.join(ENTRIES)}")


def _takes_array(function: ast.FunctionDef, body: Sequence[ast.stmt]) -> bool:
    """Whether the program expects an array.

    Its annotation decides; otherwise BARC's programs do, and those that use the grid as no list can be.
    """
    arguments = function.args.posonlyargs + function.args.args
    if not arguments or _converts(function, arguments[0].arg):
        return False
    if arguments[0].annotation is not None:
        annotation = ast.unparse(arguments[0].annotation)
        return "ndarray" in annotation or "NDArray" in annotation or "np.array" in annotation
    if function.name == "main" or any(_imports_common(statement) for statement in body):
        return True
    return any(_needs_array(node, arguments[0].arg) for node in ast.walk(function))


def _converts(function: ast.FunctionDef, grid: str) -> bool:
    """Whether the function itself has a `grid = np.array(grid)`."""
    beginnings = tuple(f"{grid} = np.{name}({grid}" for name in ("array", "asarray"))
    assignments = (one for one in function.body if isinstance(one, ast.Assign))
    return any(ast.unparse(one).startswith(beginnings) for one in assignments)


def _needs_array(node: ast.AST, grid: str) -> bool:
    match node:
        case ast.Attribute(ast.Name(name), attribute):
            return name == grid and not hasattr(list, attribute)
        case ast.Subscript(ast.Name(name), ast.Tuple()):
            return name == grid
        case ast.Compare(
            ast.Name(name), [ast.Eq() | ast.NotEq(), *_], [ast.Constant() | ast.Attribute(), *_]
        ):
            return name == grid
    return False


def _imports_common(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == COMMON


def helpers_of_barc(body: Sequence[ast.stmt]) -> list[str]:
    """Return the helpers of `common` that a program uses by `from common import *`, and that are not here."""
    if not any(_imports_common(one) and _is_star(one) for one in body):
        return []
    body = [one for one in body if not _is_for_scripts(one)]
    used = _used(body, find_entry(body).function)
    names = {one.names[0].name for one in _resolved_stars(used, Names(used)) if one.module == COMMON}
    return sorted(names - set(IN_PRELUDE))


def _resolved_stars(body: Sequence[ast.stmt], names: Names) -> list[ast.ImportFrom]:
    """Return an import for each name that a program takes from `from ... import *`.

    Where the module's names are not known, its own import.
    """
    stars = {one.module or "": one for one in body if isinstance(one, ast.ImportFrom) and _is_star(one)}
    missing = names.unbound - vars(builtins).keys()
    found = []
    for module in stars.keys() & STARRED:
        provided = missing & set(dir(import_module(module)))
        found += [_import_from(module, name) for name in sorted(provided)]
        missing -= provided
    if COMMON in stars:
        found += [_import_from(COMMON, name) for name in sorted(missing - {"np"})]
    elif missing:
        found += [star for module, star in stars.items() if module not in STARRED]
    return found


def _import_from(module: str, name: str) -> ast.ImportFrom:
    return ast.ImportFrom(module, [ast.alias(name)], 0)


def _is_star(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"


def normal_form(body: list[ast.stmt]) -> ast.Module:
    """Return the program in its normal form; the statements given are changed.

    Raises:
        UnreadableProgram: it has no entry.
    """
    entry = find_entry(body)
    if entry.takes_array:
        grid = (entry.function.args.posonlyargs + entry.function.args.args)[0].arg
        entry.function.body.insert(0, ast.parse(f"{grid} = np.array({grid})").body[0])
    module = _Stripped().visit(ast.Module(body, []))
    body = [statement for statement in module.body if not _is_for_scripts(statement)]
    if not Names(body).used & DYNAMIC:
        body = _used(body, entry.function)
        _rename_entry(body, entry.function)
        rename_locals(body)
    return ast.fix_missing_locations(ast.Module([*_imports(body), *_others(body)], []))


class _Stripped(ast.NodeTransformer):
    """Removes docstrings and annotations, except the fields of classes."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        node.body = [one if one in fields else self.visit(one) for one in node.body if not _is_docstring(one)]
        node.body = node.body or [ast.Pass()]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        node.body = [one for one in node.body if not _is_docstring(one)]
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value is not None else ast.Pass()

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = [one for one in node.body if not _is_docstring(one)]
        self.generic_visit(node)
        return node


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_for_scripts(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) in (
        "__name__ == '__main__'",
        "'__main__' == __name__",
    )


def _used(body: Sequence[ast.stmt], entry: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statements that the entry needs, or that may have an effect of their own."""
    kept = {one for one in body if one is entry or not _defined(one)}
    while True:
        used = Names([one for one in body if one in kept]).used
        more = {one for one in body if one not in kept and used & set(_defined(one))}
        if not more:
            return [one for one in body if one in kept]
        kept |= more


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a statement defines and does nothing else; none for all other statements."""
    match statement:
        case ast.FunctionDef(name, decorator_list=[]) | ast.ClassDef(name, decorator_list=[]):
            return [name]
        case ast.Import(names) | ast.ImportFrom(names=names):
            return [] if _is_star(statement) else list(map(_bound_by, names))
        case ast.Assign([ast.Name(name)], value) if all(isinstance(n, _PLAIN) for n in ast.walk(value)):
            return [name]
    return []


def _bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _rename_entry(body: Sequence[ast.stmt], entry: ast.FunctionDef) -> None:
    """Call the entry `transform`, unless something else is."""
    names = Names(body)
    if entry.name == ENTRIES[0] or ENTRIES[0] in names.used | names.bound:
        return
    for node, scope in names.mentions:
        if isinstance(node, ast.Name) and node.id == entry.name and scope.find(node.id) is None:
            node.id = ENTRIES[0]
    entry.name = ENTRIES[0]


def _imports(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Return the imports that a program needs, each for itself, in alphabetical order."""
    names = Names(body)
    needed: list[ast.stmt] = [*_resolved_stars(body, names)]
    if "np" in names.unbound:
        needed.append(ast.Import([ast.alias("numpy", "np")]))
    for statement in body:
        match statement:
            case ast.ImportFrom("__future__"):
                pass
            case ast.ImportFrom(module, aliases, level) if not _is_star(statement):
                needed += [
                    ast.ImportFrom(module, [one], level) for one in aliases if _bound_by(one) in names.used
                ]
            case ast.Import(aliases):
                needed += [ast.Import([one]) for one in aliases if _bound_by(one) in names.used]
    by_text = {ast.unparse(statement): statement for statement in needed}
    return [by_text[text] for text in sorted(by_text)]


def _others(body: Iterable[ast.stmt]) -> list[ast.stmt]:
    return [one for one in body if not isinstance(one, ast.Import | ast.ImportFrom)]
