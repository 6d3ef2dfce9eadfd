"""The shell scripts of jobs."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console


def script_lines(module: str, arguments: str, *, setup: Sequence[str]) -> list[str]:
    """Lines of a shell script that becomes this module, in this directory and by this interpreter.

    Args:
        module: `arc_experiments.launching.schedulers.slurm.job`.
        arguments: as the shell reads them.
        setup: the user's own lines, which run first.
    """
    package = shlex.quote(str(Path(__file__).parents[3]))
    return [
        "set -e",
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"export PYTHONPATH={package}${{PYTHONPATH:+:$PYTHONPATH}}",
        *setup,
        f"exec {shlex.quote(sys.executable)} -m {module} {arguments}",
    ]


def show_file(path: Path, console: Console) -> None:
    """Print a file that would be submitted."""
    console.print(f"--- {path}", markup=False)
    console.print(path.read_text(encoding="utf-8"), markup=False, highlight=False)
