"""A user's python file: loaded by its path, its function called; an error inside of it is shown as theirs.

"my_dataset.py"          get_custom_dataset of this file
"my_dataset.py:puzzles"  its function puzzles
"""

import hashlib
import inspect
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

DEFAULT_FUNCTION = "get_custom_dataset"
SEED = 0


class UserCodeError(ValueError):
    """The user's file does not do what it should; the message names `data.file`, and shows their traceback."""


def split_name(file: str) -> tuple[Path, str]:
    """The path and the function that `data.file` names."""
    path, colon, function = file.rpartition(":")
    if not colon or not function.isidentifier():
        path, function = file, DEFAULT_FUNCTION
    return Path(path).expanduser(), function


def check_file(file: str) -> Iterator[str]:
    """A line where `data.file` names no python file."""
    path, _ = split_name(file)
    if not path.is_file():
        yield f"={file}: there is no file {path} (looked in {Path.cwd()})"
    elif path.suffix != ".py":
        yield f"={file} is not a python file: its name must end in .py"


class UserFunction:
    """The function that `data.file` names. The file is run once a process, and again if it has changed.

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
        self._function: Callable[..., Any] = function
        self._signature = inspect.signature(function)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return self._signature.parameters

    def __call__(self, dataset_config: Any, processor: Any, split: str, **options: Any) -> Any:
        """What the function gives. Python's and NumPy's global generators begin anew for it, and are put back.

        Raises:
            UserCodeError: it does not take these arguments, or it fails.
        """
        try:
            self._signature.bind(dataset_config, processor, split, **options)
        except TypeError as error:
            raise UserCodeError(
                f"data.file={self.file}: {self.name}{self._signature} does not take the arguments of "
                f"{self.name}(dataset_config, processor, split), as which it is called: {error}"
            ) from error
        with as_theirs(self.file, f"{self.name}(dataset_config, processor, {split!r})"), same_random():
            return self._function(dataset_config, processor, split, **options)


@contextmanager
def as_theirs(file: str, doing: str) -> Iterator[None]:
    """Runs the user's code within; an error of it becomes one message with their lines of the traceback alone.

    Raises:
        UserCodeError: the code failed, or wanted to end the program.
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


def _load(path: Path, file: str) -> ModuleType:
    source = path.read_bytes()
    name = f"arc_experiments_user_file_{hashlib.sha256(bytes(path) + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # its dataclasses, among others, look themselves up there
    try:
        with as_theirs(file, "running it"), same_random():
            exec(compile(source, path, "exec"), vars(module))
    except UserCodeError:
        del sys.modules[name]
        raise
    return module


@contextmanager
def same_random() -> Iterator[None]:
    """Code that shuffles gives the same each time, in each process, for each split."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
