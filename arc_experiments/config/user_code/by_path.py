"""A user's Python file: load it by its path, call its function, and show errors inside it as the user's own.

"my_dataset.py"          get_custom_dataset of this file
"my_dataset.py:puzzles"  its function puzzles
"""

import hashlib
import inspect
import random
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

DEFAULT_FUNCTION = "get_custom_dataset"
SEED = 0
PACKAGE = Path(__file__).resolve().parents[2]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


class UserCodeError(ValueError):
    """The user's file fails; the message names `data.file` and shows the traceback inside that file."""


def split_name(file: str) -> tuple[Path, str]:
    """Split `data.file` into the path of the file and the name of the function."""
    path, colon, function = file.rpartition(":")
    if not colon or not function.isidentifier():
        path, function = file, DEFAULT_FUNCTION
    return Path(path).expanduser(), function


def check_file(file: str) -> Iterator[str]:
    """Yield what is wrong with `data.file` as the name of a Python file, to follow the key."""
    path, _ = split_name(file)
    if not path.is_file():
        yield f"={file}: there is no file {path} (looked in {Path.cwd()})"
    elif path.suffix != ".py":
        yield f"={file} is not a Python file: its name must end in .py"


class UserFunction:
    """The function that `data.file` names. The file is run once per process, and again if it has changed.

    Raises:
        UserCodeError: there is no such file or function, or running the file fails.
    """

    def __init__(self, file: str) -> None:
        for mistake in check_file(file):
            raise UserCodeError(f"data.file{mistake}")
        self.file = file
        path, self.name = split_name(file)
        module = _load(path.resolve(), file)
        function = getattr(module, self.name, None)
        if not callable(function):
            own = [key for key, value in vars(module).items() if inspect.isfunction(value)]
            raise UserCodeError(
                f"data.file={file}: {path} has no function {self.name}. It has: {', '.join(own) or 'none'}; "
                f"data.file={path}:<function> names another"
            )
        self.module_values: Mapping[str, Any] = vars(module)
        self._function: Callable[..., Any] = function
        self._signature = inspect.signature(function)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return self._signature.parameters

    def __call__(self, dataset_config: Any, processor: Any, split: str, **options: Any) -> Any:
        """Call the function with freshly seeded global generators of Python and NumPy, restored afterwards.

        Raises:
            UserCodeError: the function does not take these arguments, or fails.
        """
        try:
            self._signature.bind(dataset_config, processor, split, **options)
        except TypeError as error:
            raise UserCodeError(
                f"data.file={self.file}: {self.name}{self._signature} cannot be called as "
                f"{self.name}(dataset_config, processor, split): {error}"
            ) from error
        with as_theirs(self.file, f"{self.name}(dataset_config, processor, {split!r})"), same_random():
            return self._function(dataset_config, processor, split, **options)


@contextmanager
def as_theirs(file: str, doing: str) -> Iterator[None]:
    """Run the user's code inside; its errors become one message with the traceback of their file only.

    Raises:
        UserCodeError: the code failed or called sys.exit.
    """
    path = str(split_name(file)[0].resolve())
    try:
        yield
    except (Exception, SystemExit) as error:
        inner = error.__traceback__
        while inner is not None and inner.tb_frame.f_code.co_filename != path:
            inner = inner.tb_next
        lines = "".join(traceback.format_exception(type(error), error, inner)).rstrip()
        raise UserCodeError(f"data.file={file}: an error in this file, in {doing}\n{lines}") from error


def error_by(key_of: Callable[[str], str | None], error: BaseException) -> str | None:
    """Word an error in the user's code: key, file, line and error in a line, then the traceback from there.

    Args:
        key_of: the config key that brought in the file of this path; None for any other file.

    Returns:
        None for an error that did not pass through the user's code, or that says so itself.
    """
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None:
        causes.append(current)
        current = current.__cause__ or current.__context__
    if any(isinstance(each, UserCodeError) for each in causes):
        return None
    for each in causes:
        # Its text may hold another traceback: that of a process that loads data.
        text = "".join(traceback.format_exception(type(each), each, each.__traceback__, chain=False)).rstrip()
        lines = re.finditer(r'^ *File "([^"\n]+)", line (\d+)', text, re.MULTILINE)
        theirs = [line for line in lines if key_of(line[1]) is not None]
        if theirs:
            file, line = theirs[-1].groups()
            return (
                f"{key_of(file)}: {file}, line {line}: {text.splitlines()[-1]}\n{text[theirs[0].start() :]}"
            )
    return None


def is_installed(file: Path) -> bool:
    """Whether a file belongs to Python, to a library, or to this package."""
    return (
        not file.is_absolute()  # <string>, <frozen os>
        or any(folder in file.parents for folder in (PACKAGE, STANDARD_LIBRARY))
        or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
    )


def _load(path: Path, file: str) -> ModuleType:
    source = path.read_bytes()
    name = f"arc_experiments_user_file_{hashlib.sha256(bytes(path) + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses, among others, look their module up there
    try:
        with as_theirs(file, "running it"), same_random():
            exec(compile(source, path, "exec"), vars(module))
    except UserCodeError:
        del sys.modules[name]
        raise
    return module


@contextmanager
def same_random() -> Iterator[None]:
    """Seed Python's and NumPy's global generators, so that shuffling code repeats; restore them after."""
    import numpy as np  # not above: commands that run no code of the user's answer at once

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
