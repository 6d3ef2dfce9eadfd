"""A class that `_target_` names: found, a dataclass, and with the method that is called there."""

import contextlib
import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from hydra.utils import get_class

# What is called: by the last part of the key, else by the first.
METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    "source": {"read": ("bad_tasks",), "read_with": ("processor", "bad_tasks")},
    "augmentation": {"draw": ("task", "rng")},
}


def load_class(key: str, target: str) -> type:
    """Import the class that `<key>._target_` names.

    Raises:
        ValueError: its module has no such class, it is no dataclass, or has not the method that is called.
        Exception: whatever the module raises while it is imported.
    """
    try:
        found = get_class(target)
    except (ImportError, ValueError) as error:
        if (missing := _missing_name(target)) is not None:
            raise ValueError(f"_target_={target}: {missing}") from error
        raise

    def place(mistake: str) -> str:  # where it is written takes time to find
        return f"_target_={target}: {place_of(found)}: {mistake}"

    if not dataclasses.is_dataclass(found):
        raise ValueError(place(f"{found.__name__} is not a dataclass: write @dataclass above the class"))
    methods = METHODS.get(key.rpartition(".")[2].removeprefix("validation_"), METHODS.get(key.split(".")[0]))
    if methods is None:
        return found
    own = {name: method for name in methods if callable(method := getattr(found, name, None))}
    if not own:
        name, arguments = next(iter(methods.items()))
        raise ValueError(place(f"{found.__name__} has no method {name}({', '.join(('self', *arguments))})"))
    for name, method in own.items():
        _check_call(method, name, methods[name], place)
    return found


def place_of(kind: type | Callable[..., Any]) -> str:
    """Say where a class or function is written: its file and line, or its module if there is no file."""
    try:
        return f"{inspect.getsourcefile(kind)}, line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return kind.__module__


def _missing_name(target: str) -> str | None:
    """Say that a module can be imported and lacks the name, and what it has; None otherwise."""
    module_name, _, name = target.rpartition(".")
    with contextlib.suppress(Exception):  # of the import, which get_class has raised
        module = importlib.import_module(module_name)
        if hasattr(module, name):
            return None
        classes = [
            each
            for each, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module_name
        ]
        return f"{module.__file__ or module_name} has no class {name}. It has: {', '.join(classes) or 'none'}"
    return None


def _check_call(
    method: Callable[..., Any], name: str, arguments: tuple[str, ...], place: Callable[[str], str]
) -> None:
    try:
        signature = inspect.signature(method)
        signature.bind(None, *arguments)
    except TypeError as error:
        call = f"{name}({', '.join(arguments)})"
        raise ValueError(place(f"{name}{signature} cannot be called as {call}: {error}")) from error
