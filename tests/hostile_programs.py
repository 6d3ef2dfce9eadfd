"""Programs in Python that are hostile or broken, and what each must come to."""

# The globals of the module os, and ctypes.CDLL, which no import gives.
OS = "OS = [c for c in object.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__\n"
LIBC = "LIBC = [c for c in object.__subclasses__() if c.__name__ == 'CDLL'][0](None)\n"
LOADER = "LOADER = [c for c in object.__subclasses__() if c.__name__ == 'BuiltinImporter'][0]\n"
FRAME = """
def child():
    try:
        1 / 0
    except ZeroDivisionError as error:
        frame = error.__traceback__.tb_frame
    while 'self' not in frame.f_locals or not hasattr(frame.f_locals['self'], '_token'):
        frame = frame.f_back
    return frame.f_locals['self']
"""


def returns(value: str, before: str = "") -> str:
    return f"{before}def transform(grid):\n    return {value}\n"


def does(*lines: str, before: str = "") -> str:
    return f"{before}def transform(grid):\n" + "".join(f"    {line}\n" for line in lines)


# By name: the program, and the reason or the grid that is right; {folder} is the test's.
HOSTILE: dict[str, tuple[str, str | list[list[int]]]] = {
    # Time.
    "endless loop": (does("while True: pass"), "timeout"),
    "endless loop that catches everything": (
        does("while True:", "  try:", "    while True: pass", "  except: pass"),
        "timeout",
    ),
    "endless loop that catches BaseException": (
        does("try:", "  while True: pass", "except BaseException: return grid", "finally: return grid"),
        "timeout",
    ),
    "endless loop in C": (returns("sum(itertools.count())", "import itertools\n"), "timeout"),
    "endless power": (returns("[[9 ** 9 ** 9]]"), "timeout"),
    "endless pattern": (returns("re.match('(a+)+$', 'a' * 60 + 'b')", "import re\n"), "timeout"),
    "endless on loading": ("while True: pass\n" + returns("grid"), "timeout"),
    "endless conversion": (
        "class Grid:\n    def __array__(self, *_, **__):\n        while True: pass\n" + returns("Grid()"),
        "timeout",
    ),
    "endless message": (
        "class Loud(Exception):\n    def __str__(self):\n        while True: pass\n" + does("raise Loud"),
        "timeout",
    ),
    # Memory.
    "memory bomb of lists": (does("x = []", "while True: x.append([0] * 10 ** 7)"), "memory"),
    "memory bomb of one array": (does("return np.ones(10 ** 10)[:2]"), "memory"),
    "memory bomb of text": (does("return [[len('a' * 10 ** 10)]]"), "memory"),
    "memory bomb of numbers": (does("return [[(1 << 10 ** 11) % 3]]"), "memory"),
    "caught memory bomb": (does("try:", "  np.ones(10 ** 10)", "except: pass", "return grid"), "memory"),
    "memory bomb in a finally": (does("try:", "  np.ones(10 ** 10)", "finally: return grid"), "memory"),
    "memory bomb in a generator": (
        does("return [[len(list(bytes(2 ** 20) for _ in range(10 ** 9)))]]"),
        "memory",
    ),
    "memory bomb on loading": ("x = np.ones(10 ** 10)\n" + returns("grid"), "memory"),
    # Recursion and the stack.
    "endless recursion": (returns("transform(grid)"), "raised"),
    "endless recursion with a high limit": (
        does("sys.setrecursionlimit(10 ** 9)", "return transform(grid)", before="import sys\n"),
        "raised",
    ),
    "deeply nested result": (does("x = []", "for _ in range(10 ** 5): x = [x]", "return x"), "not_a_grid"),
    "result within itself": (does("x = []", "x.append(x)", "return x"), "not_a_grid"),
    "segmentation fault": (does("LIBC.strlen(1)", before=LIBC), "crashed"),
    # Output.
    "row without end": (returns("[[0] * 10 ** 6]"), "too_large"),
    "result of megabytes": (returns("np.zeros((3000, 3000), int)"), "too_large"),
    "slightly too large": (returns("[[0] * 31]"), "too_large"),
    "printed megabytes": (does("for _ in range(1000): print('x' * 10 ** 5)", "return [[1]]"), [[1]]),
    "megabytes in an error": (does("raise ValueError('x' * 10 ** 7)"), "raised"),
    "unicode in an error": (does("raise ValueError('\\ud800\\U0001F600\\x00')"), "raised"),
    "error that cannot be shown": (
        "class Shy(Exception):\n    def __str__(self): return 1 / 0\n" + does("raise Shy"),
        "raised",
    ),
    "text with lone surrogates": (returns("'\ud800'"), "syntax"),
    "text in many scripts": (does("größe = '😀'", "return [[len(größe)]]"), [[1]]),
    # Results that are no grids.
    "nothing": (does("pass"), "not_a_grid"),
    "a text": (returns("'0120'"), "not_a_grid"),
    "texts in a grid": (returns("[['0', '1']]"), "not_a_grid"),
    "huge integers": (returns("[[10 ** 5000]]"), "not_a_grid"),
    "large integers": (returns("[[2 ** 63]]"), "not_a_grid"),
    "negative integers": (returns("[[-1]]"), "not_a_grid"),
    "fractions": (returns("[[0.5]]"), "not_a_grid"),
    "not a number": (returns("[[float('nan')]]"), "not_a_grid"),
    "whole floats": (returns("[[3.0, 1.0]]"), [[3, 1]]),
    "truth values": (returns("np.array(grid) == 0"), [[1, 0], [0, 0]]),
    "rows of different lengths": (returns("[[1], [1, 2]]"), "not_a_grid"),
    "empty": (returns("[]"), "not_a_grid"),
    "empty rows": (returns("[[], []]"), "not_a_grid"),
    "a cube": (returns("[[[1]]]"), "not_a_grid"),
    "a dict": (returns("{0: grid}"), "not_a_grid"),
    "a generator": (does("yield grid"), "not_a_grid"),
    "a coroutine": ("async " + returns("grid"), "not_a_grid"),
    # Programs that cannot start.
    "no Python": ("Turn it by a quarter.", "syntax"),
    "cut off": ("def transform(grid):\n    return [[", "syntax"),
    "deeply nested source": (returns("(" * 1000), "syntax"),
    "null bytes": ("def transform(grid):\n    return '\0'", "syntax"),
    "no function": ("x = 1", "raised"),
    "a function of another kind": ("transform = 3", "raised"),
    "wrong arguments": ("def transform(): return [[1]]", "raised"),
    # Ways out.
    "exit": (does("exit()"), "raised"),
    "SystemExit": (does("raise SystemExit(0)"), "raised"),
    "KeyboardInterrupt": (does("raise KeyboardInterrupt"), "raised"),
    "os._exit": (does("OS['_exit'](0)", before=OS), "crashed"),
    "os._exit on loading": (OS + "OS['_exit'](0)\n" + returns("grid"), "crashed"),
    "os.abort": (does("OS['abort']()", before=OS), "crashed"),
    # Imports.
    "import os": (does("import os", "os.system('touch {folder}/escaped')", "return grid"), "import"),
    "import subprocess": ("import subprocess\n" + returns("grid"), "import"),
    "import socket": ("from socket import socket\n" + returns("grid"), "import"),
    "import time": (does("import time", "time.sleep(1000)", "return grid"), "import"),
    "import ctypes": ("import ctypes\n" + returns("grid"), "import"),
    "import pickle": ("import pickle\n" + returns("grid"), "import"),
    "import by function": (returns("__import__('os').system('touch {folder}/escaped')"), "import"),
    "import by importlib": ("import importlib\n" + returns("grid"), "import"),
    "import of a helper of numpy": ("from numpy import f2py_that_is_not_there\n" + returns("grid"), "import"),
    "caught import": (
        does("try:", "  import cv2", "except ImportError:", "  return [[1]]"),
        [[1]],
    ),
    # Processes and signals.
    "fork": (does("while True: OS['fork']()", before=OS), "raised"),
    "fork in C": (does("return [[int(LIBC.fork() >= 0)]]", before=LIBC), [[0]]),
    "thread": (
        does("LOADER.load_module('_thread').start_new_thread(print, ())", before=LOADER),
        "raised",
    ),
    "shell": (does("return [[int(OS['system']('touch {folder}/escaped') == 0)]]", before=OS), [[0]]),
    "another program": (does("OS['execv']('/bin/sh', ['sh', '-c', 'true'])", before=OS), "raised"),
    "spawned program": (does("OS['posix_spawn']('/bin/true', ['true'], {})", before=OS), "raised"),
    "kill the parent": (does("OS['kill'](OS['getppid'](), 9)", before=OS), "raised"),
    "kill everyone": (does("OS['kill'](-1, 9)", before=OS), "raised"),
    "kill in C": (does("return [[int(LIBC.kill(-1, 9) == 0)]]", before=LIBC), [[0]]),
    "stop itself": (does("OS['kill'](OS['getpid'](), 19)", before=OS), "raised"),
    "trace the parent": (does("return [[int(LIBC.ptrace(16, 1, 0, 0) == 0)]]", before=LIBC), [[0]]),
    "sleep in C": (does("LIBC.sleep(1000)", "return grid", before=LIBC), [[0, 1], [2, 3]]),
    "more CPU time": (does("return [[int(LIBC.setrlimit(0, b'\\xff' * 16) == 0)]]", before=LIBC), [[0]]),
    # Files.
    "read a file": (does("return [[len(open('/etc/passwd').read()) % 10]]"), "raised"),
    "write a file": (does("open('{folder}/escaped', 'w').write('x')", "return grid"), "raised"),
    "list a folder": (does("return [[len(OS['listdir']('/')) % 10]]", before=OS), "raised"),
    "delete a file": (does("OS['unlink']('{folder}/precious')", before=OS), "raised"),
    "rename a file": (does("OS['rename']('{folder}/precious', '{folder}/escaped')", before=OS), "raised"),
    "make a folder": (does("OS['mkdir']('{folder}/escaped')", before=OS), "raised"),
    "files by numpy": (does("np.save('{folder}/escaped', grid)", "return grid"), "raised"),
    "files in C": (does("return [[int(LIBC.creat(b'{folder}/escaped', 511) >= 0)]]", before=LIBC), [[0]]),
    "memory of others": (does("return [[int(LIBC.open(b'/proc/1/mem', 2) >= 0)]]", before=LIBC), [[0]]),
    # The network and the environment.
    "socket in C": (does("return [[int(LIBC.socket(2, 1, 0) >= 0)]]", before=LIBC), [[0]]),
    "connection": (
        does("return [[int(LOADER.load_module('_socket') is None)]]", before=LOADER),
        "import",
    ),
    "environment": (returns("[[sum('hidden' in v for v in OS['environ'].values())]]", OS), [[0]]),
    "standard input": (does("return [[len(input())]]"), "raised"),
    # Its own interpreter.
    "closed files": (does("OS['closerange'](0, 1000)", "return grid", before=OS), "crashed"),
    "forged answer": (
        does(
            "for file in range(20):",
            "  try: OS['write'](file, b'{\"grid\": [[7]]}\\n')",
            "  except OSError: pass",
            "return grid",
            before=OS,
        ),
        "crashed",
    ),
    "noise in the answer": (
        does("child()._write(b'no JSON')", "OS['_exit'](0)", before=OS + FRAME),
        "crashed",
    ),
    "wrong JSON in the answer": (
        does("child()._write(b'{\"reason\": \"verified\"}')", "OS['_exit'](0)", before=OS + FRAME),
        "crashed",
    ),
    "deep JSON in the answer": (
        does("child()._write(b'[' * 10 ** 5)", "OS['_exit'](0)", before=OS + FRAME),
        "crashed",
    ),
    "answer without end": (
        does("while True: OS['write'](child()._output, b'x' * 10 ** 5)", before=OS + FRAME),
        "too_large",
    ),
    "answers without end": (does("while True: child()._write(b'x' * 10 ** 5)", before=FRAME), "crashed"),
    "request for a module": (does("child()._write(b'{\"missing\": \"this\"}')", before=FRAME), "crashed"),
    "altered numpy": (does("np.rot90 = np.array = np.zeros = None", "return [[1]]"), [[1]]),
    "altered builtins": (
        does("for f in 'len', 'list', 'map': OS['__builtins__'][f] = None", "return [[1]]", before=OS),
        "crashed",
    ),
    "altered colours": (
        returns("[[1]]", "from common import *\nColor.ALL_COLORS.clear()\nColor.RED = 9\n"),
        [[1]],
    ),
    "altered json": (does("child().__class__._transform = None", "return [[1]]", before=FRAME), [[1]]),
    # Randomness, and everything like it.
    "random": (returns("[[random.randrange(10) for _ in range(9)]]", "import random\n"), "nondeterministic"),
    "random of numpy": (returns("np.random.randint(0, 10, (3, 3))"), "nondeterministic"),
    "random generator": (returns("np.random.default_rng().integers(0, 10, (3, 3))"), "nondeterministic"),
    "random bytes": (returns("[[b % 10 for b in OS['urandom'](9)]]", OS), "nondeterministic"),
    "addresses": (returns("[[int(d) for d in str(id(grid))]]"), "nondeterministic"),
    "hashes of texts": (returns("[[int(d) for d in str(abs(hash('a')))]]"), "nondeterministic"),
    "order of a set": (returns("[[ord(c) % 10 for c in set('abcdefghij')]]"), "nondeterministic"),
    "memory that nobody wrote": (returns("np.empty((20, 20), np.uint8) % 10"), "nondeterministic"),
    "a counter": ("n = 0\n" + does("global n", "n += 1", "return [[n]]"), "nondeterministic"),
    "a default that changes": (
        "def transform(grid, seen=[]):\n    seen.append(1)\n    return [[len(seen)]]",
        "nondeterministic",
    ),
    "seeded random": (
        does("random.seed(5)", "return [[random.randrange(10) for _ in range(3)]]", before="import random\n"),
        [[9, 4, 5]],
    ),
    "seeded random of numpy": (
        does("np.random.seed(5)", "return np.random.randint(0, 10, (1, 3))"),
        [[3, 6, 6]],
    ),
}  # fmt: skip
