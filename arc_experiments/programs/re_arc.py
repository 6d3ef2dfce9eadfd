"""RE-ARC's language and its 400 solutions, read from the source text of the reasoning-gym package.

Nothing of the package is imported, which would take a second.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "reasoning-gym"
INSTALL = f"pip install 'arc_experiments[re-arc]' && pip install --no-deps {PACKAGE}==0.1.25"


def not_installed(wanted_by: str, error: object) -> ValueError:
    """Return the error that says how to install the package."""
    return ValueError(f"{wanted_by} needs {PACKAGE} ({error}): {INSTALL}")


@cache
def verifiers() -> dict[str, ast.FunctionDef]:
    """Return, by task id, the function that solves the task; none if the package is not installed."""
    prefix = "verify_"
    return {
        function.name.removeprefix(prefix): function
        for function in _parsed("verifiers")
        if isinstance(function, ast.FunctionDef) and function.name.startswith(prefix)
    }


@cache
def functions() -> dict[str, ast.FunctionDef]:
    """Return the language's functions by name, without annotations and docstrings."""
    return {node.name: _stripped(node) for node in _parsed("dsl") if isinstance(node, ast.FunctionDef)}


@cache
def constants() -> dict[str, ast.expr]:
    """Return the language's constants by name, such as TEN and ORIGIN."""
    found: dict[str, ast.expr] = {}
    for node in _parsed("dsl"):
        match node:
            case ast.Assign([ast.Name(name)], value) if name.isupper():
                found[name] = value
    return found


def _parsed(module: str) -> list[ast.stmt]:
    spec = find_spec("reasoning_gym")
    if spec is None or spec.origin is None:
        return []
    file = Path(spec.origin).parent / "arc" / "rearc_utils" / f"{module}.py"
    return ast.parse(file.read_text(encoding="utf-8")).body


def _stripped(function: ast.FunctionDef) -> ast.FunctionDef:
    function.returns = None
    for argument in function.args.args:
        argument.annotation = None
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    return function
