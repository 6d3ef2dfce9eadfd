"""Execute programs in this process, one after the other.

Both sides write lines of JSON:

    -> "def transform(grid): ..."                         the next program
    <- {}                                                 it defines `transform`
    -> [[0,3],[3,0]]                                      an input
    <- {"grid": [[1,1],[1,1]]}                            its output
    <- {"reason": "raised", "message": "line 2: ..."}     or why there is none
    <- {"missing": "scipy.ndimage"}                       or start again with this module

A token comes before each line, in an answer that of its question, by which it is told from what a program
writes there itself.
"""

import ast
import builtins
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import CodeType, ModuleType, SimpleNamespace, TracebackType
from typing import Any, NoReturn

import numpy as np

# What programs may import; loaded when the first program asks for it. Whatever they reach through these
# modules, the kernel confines them.
MODULES = frozenset((
    "__future__", "abc", "array", "bisect", "cmath", "collections", "collections.abc", "copy",
    "dataclasses", "decimal", "enum", "fractions", "functools", "heapq", "itertools", "json",
    "math", "numbers", "operator", "queue", "random", "re", "statistics", "string", "struct",
    "textwrap", "types", "typing", "typing_extensions", "unicodedata", "warnings", "numpy", "numpy.fft",
    "numpy.lib", "numpy.lib.stride_tricks", "numpy.linalg", "numpy.ma", "numpy.polynomial",
    "numpy.random", "numpy.typing", "scipy", "scipy.ndimage", "scipy.optimize", "scipy.signal",
    "scipy.spatial", "scipy.spatial.distance", "scipy.stats",
))  # fmt: skip
_array, _ndarray = np.array, np.ndarray  # a program may alter numpy
FILENAME = "<program>"
MOST_CELLS = 10_000  # of a result that is written out; no grid has as many
MOST_RECURSION = 20_000
MESSAGE_LENGTH = 500
TOKEN_LENGTH = 8
OUT_OF_MEMORY = 77  # exit status
_LIMIT, _END = "_sandbox_memory_error", "_sandbox_out_of_memory"


class Unanswered(Exception):
    """Raised where there is no grid, with the reason."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Missing(BaseException):
    """Raised by the import of an allowed module that is not loaded yet."""


class Child:
    """Executes programs, each in a namespace of its own.

    It is made before the fork, and so is the first namespace: little of it is copied then.

    Args:
        prelude: what is executed before each program.
        barc_library: the source of the module `common`; None: what the prelude defines.
        seed: of the generators of random numbers.
    """

    def __init__(self, prelude: str, barc_library: str | None, seed: int, output_bytes: int) -> None:
        self._prelude = compile(prelude, "<prelude>", "exec")
        self._seed, self._output_bytes = seed, output_bytes
        self._stand_ins = {"sys": _module("sys", _few_of_sys())}
        self._next = self._fresh_namespace()
        names = {name: value for name, value in self._next.items() if not name.startswith("_")}
        self._stand_ins["common"] = common = _module("common", names)
        if barc_library is not None:
            exec(compile(barc_library, "common.py", "exec"), vars(common))

    def _fresh_namespace(self) -> dict[str, Any]:
        namespace: dict[str, Any] = {
            "__name__": "program",
            "__builtins__": vars(builtins) | {"__import__": self._import},
            _LIMIT: MemoryError,
            _END: self._end_without_memory,
        }
        exec(self._prelude, namespace)
        return namespace

    def run(self, files: tuple[int, int]) -> None:
        """Execute programs and answer inputs until there are no more.

        Args:
            files: the numbers of the files to read from and to write to.
        """
        self._input, self._output = files
        sys.meta_path.insert(0, _Loader)
        while line := self._read():
            self._token, asked = line[:TOKEN_LENGTH], json.loads(line[TOKEN_LENGTH:])
            self._write(
                self._answer(partial(self._load if isinstance(asked, str) else self._transform, asked))
            )

    def _read(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.read(self._input, 65536)
            if not chunk:
                return b""
            line += chunk
        return line

    def _load(self, source: str) -> dict[str, Any]:
        self._namespace = self._next or self._fresh_namespace()
        self._next = {}
        if "random" in sys.modules:
            sys.modules["random"].seed(self._seed)
        if "numpy.random" in sys.modules:
            np.random.seed(self._seed)
        try:
            code = compile_program(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Unanswered("syntax", f"{type(error).__name__}: {error}") from error
        exec(code, self._namespace)
        if not callable(self._namespace.get("transform")):
            raise Unanswered("raised", "NameError: the program defines no function transform")
        return {}

    def _transform(self, grid: list[list[int]]) -> dict[str, Any]:
        return {"grid": as_cells(self._namespace["transform"](grid))}

    def _answer(self, compute: Callable[[], dict[str, Any]]) -> bytes:
        try:
            answer = json.dumps(compute()).encode()
            if len(answer) > self._output_bytes:
                raise Unanswered("too_large", f"the result takes {len(answer)} bytes")
            return answer
        except Missing as error:
            return json.dumps({"missing": str(error)}).encode()
        except Unanswered as error:
            reason, message = error.reason, str(error)
        except MemoryError:
            self._end_without_memory()
        except ImportError as error:
            reason, message = "import", described(error)
        except BaseException as error:  # noqa: BLE001 (a program may raise anything)
            reason, message = "raised", described(error)
        return json.dumps({"reason": reason, "message": message[:MESSAGE_LENGTH]}).encode()

    def _write(self, answer: bytes) -> None:
        answer = self._token + answer + b"\n"
        while answer:
            answer = answer[os.write(self._output, answer) :]

    def _end_without_memory(self) -> NoReturn:
        """End at once, since a program that catches the error must not answer."""
        os._exit(OUT_OF_MEMORY)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import an allowed module, in place of `__import__`.

        numpy asks for its own parts here, in the program's name, when `grid.sum()` or `str(grid)` needs them.
        """
        if name in self._stand_ins:
            found = self._stand_ins[name]
            lacking = [item for item in fromlist or () if item != "*" and not hasattr(found, item)]
            if lacking:
                raise ImportError(f"{name} is here without {', '.join(lacking)}")
            return found
        if level or not may_load(name):
            raise ImportError(f"programs may not import {name}")
        return __import__(name, globals, locals, fromlist or (), 0)


class _Loader:
    """Finds every module that is not loaded: the server loads it, since a child may read no files."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if may_load(name):
            raise Missing(name)


def may_load(name: str) -> bool:
    """Whether a program may make the server load a module, among them what numpy loads when it is used."""
    return name in MODULES or name.partition(".")[0] in ("numpy", "scipy")


def compile_program(source: str) -> CodeType:
    """Compile a program so that no `except` of its own catches the end of its memory."""
    if "try" not in source:
        return compile(source, FILENAME, "exec", dont_inherit=True)  # three times as fast
    tree = ast.parse(source, FILENAME)
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            end = ast.Expr(ast.Call(ast.Name(_END, ast.Load()), [], []))
            first = ast.ExceptHandler(ast.Name(_LIMIT, ast.Load()), None, [end])
            node.handlers.insert(0, ast.fix_missing_locations(ast.copy_location(first, node)))
    return compile(tree, FILENAME, "exec", dont_inherit=True)


def as_cells(result: object) -> list[list[int]]:
    """Convert what a program returned to rows of integers; whole floats and truth values count as integers.

    Raises:
        Unanswered: it is no table of whole numbers, or has too many.
    """
    try:
        array = result if type(result) is _ndarray else _array(result)
    except (ValueError, TypeError) as error:
        raise Unanswered("not_a_grid", f"a {type(result).__name__}: {error}") from error
    if array.dtype.kind not in "iufb":
        raise Unanswered("not_a_grid", f"{type(result).__name__} of {array.dtype}")
    if array.ndim != 2:
        raise Unanswered("not_a_grid", f"{type(result).__name__} of the shape {list(array.shape)}")
    if array.size > MOST_CELLS:
        raise Unanswered("too_large", f"{array.shape[0]}x{array.shape[1]} cells")
    cells: list[list[Any]] = array.tolist()
    if array.dtype.kind == "f" and not all(math.isfinite(c) and c == int(c) for row in cells for c in row):
        raise Unanswered("not_a_grid", "some cells are fractions")
    return [list(map(int, row)) for row in cells]


def described(error: BaseException) -> str:
    """`line 3: ValueError: ...`, with the last line of the program that took part."""
    try:
        text = f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]
    except BaseException:  # noqa: BLE001 (the program's own class)
        text = "an error that cannot be shown"
    line, step = 0, error.__traceback__
    while isinstance(step, TracebackType):
        if step.tb_frame.f_code.co_filename == FILENAME:
            line = step.tb_lineno
        step = step.tb_next
    return f"line {line}: {text}" if line else text


def _module(name: str, values: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(values)
    return module


def _few_of_sys() -> dict[str, Any]:
    """What programs use of `sys`."""
    return {
        "maxsize": sys.maxsize,
        "getrecursionlimit": sys.getrecursionlimit,
        "setrecursionlimit": lambda limit: sys.setrecursionlimit(min(limit, MOST_RECURSION)),
        "stdout": None,
        "stderr": None,
        "flags": SimpleNamespace(),
    }
