"""A function of the user's that a key names in place of one of ours: `inference.selection=my_code.rule`."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arc_experiments.config.user_code.by_path import error_by, is_installed

# What the function of each key is called with: positions, then names.
CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "inference.selection": (("grids",), ()),
    "optim.schedule": (("step",), ("warmup_steps", "max_steps")),
}


def is_own(name: str) -> bool:
    """Whether a value names a function of the user's (`module.function`), not one of ours."""
    return "." in name


def load_function(key: str, name: str) -> Callable[..., Any]:
    """Import the function that `key` names.

    Raises:
        ValueError: there is no such module or function, importing it fails, or it takes other arguments.
    """
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        theirs = error_by(lambda file: None if is_installed(Path(file)) else key, error)
        raise ValueError(
            theirs
            or f"{key}={name}: {error}. Name a function by its module on the Python path: "
            f"{key}=<module>.<function>"
        ) from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(function):
        found = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(
            f"{key}={name}: {module.__file__} has no function {attribute}. It has: "
            f"{', '.join(found) or 'none'}"
        )
    positions, names = CALLS[key]
    try:
        inspect.signature(function).bind(*positions, **dict.fromkeys(names))
    except TypeError as error:
        call = ", ".join((*positions, *(f"{each}=..." for each in names)))
        raise ValueError(
            f"{key}={name}: {_place(function)}: {attribute}{inspect.signature(function)} cannot be called as "
            f"{attribute}({call}): {error}"
        ) from error
    return function


def check_function(key: str, name: str) -> Iterator[str]:
    """Yield what is wrong with a function of the user's; nothing for a name of ours."""
    if is_own(name):
        try:
            load_function(key, name)
        except ValueError as error:
            yield str(error)


def _place(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}, line {code.co_firstlineno}"
