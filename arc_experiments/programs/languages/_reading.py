"""What the readers of programs share: code fences, and calls in Python's syntax."""

import ast
import re
from pathlib import Path

from arc_experiments.programs import preludes
from arc_experiments.programs.languages import UnreadableProgram

MAX_CHARACTERS = 20_000  # of a program; Python's parser may exhaust the stack on much longer ones
_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def fenced_blocks(answer: str) -> list[str]:
    """Return what stands between fences, the last of which may be missing."""
    blocks: list[str] = _FENCED.findall(answer)
    return blocks


def without_fences(answer: str) -> str:
    """Return the last fenced block of the answer, or all of it if there is none.

    Raises:
        UnreadableProgram: that is empty.
    """
    blocks = fenced_blocks(answer)
    text = (blocks[-1] if blocks else answer).strip()
    if not text:
        raise UnreadableProgram("no_program", "the answer has no program")
    return text


def statements(text: str) -> list[ast.stmt]:
    """Parse a program of at least one statement; raise UnreadableProgram."""
    if len(text) > MAX_CHARACTERS:
        raise UnreadableProgram("syntax", f"the program has over {MAX_CHARACTERS} characters")
    try:
        found = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableProgram("syntax", str(error)) from error
    if not found:
        raise UnreadableProgram("no_program", "the program is empty")
    return found


def unexpected(node: ast.stmt | ast.expr, wanted: str) -> UnreadableProgram:
    """Return the error for a node that the language does not have."""
    shown = ast.unparse(node)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return UnreadableProgram("syntax", f"line {node.lineno}: {shown} is not {wanted}")


def source_of_prelude(name: str) -> str:
    """Return the text of a file of `preludes/`."""
    return (Path(preludes.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
