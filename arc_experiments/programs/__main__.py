"""`python -m arc_experiments.programs check my_program.py --data arc1 --task 00d62c1b` verifies one program.

It runs the program on the task's demonstrations and test inputs and shows what it gave. The exit code is 0 if
it gives the output of every demonstration, 1 if not, and 2 for a mistake in the command.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.text import Text

from arc_experiments.composing.compose import compose_data
from arc_experiments.config.check import build
from arc_experiments.config.plurals import of_all, plural
from arc_experiments.programs.languages import UnreadableProgram, language, names
from arc_experiments.programs.sandbox import Outcome, ProgramLimits, Sandbox
from arc_experiments.programs.verification import Verdict, verify
from arc_experiments.tasks import BadTasks, Pair, Program, Task, TrainingSource
from arc_experiments.tasks.grids import PALETTE, Grid, share_of_right_cells
from arc_experiments.tasks.rngs import rng_for

VERIFIED, NOT_VERIFIED, MISTAKE = 0, 1, 2
BRIGHT = 128  # of 255: cells as bright as this have dark digits
WRONG = "!"  # behind the digit of a wrong cell


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the program; return the exit code."""
    options = _options(arguments)
    console = Console(highlight=False, soft_wrap=False)
    try:
        task = _find(options.data, options.task)
        program = Program(
            language=options.language, text=language(options.language).extract(_read(options.program))
        )
        limits = ProgramLimits(cpu_seconds=options.cpu_seconds, memory_bytes=options.memory_megabytes * 2**20)
        with Sandbox(num_processes=1, limits=limits, barc_library=options.barc_library) as sandbox:
            (verdict,) = verify(sandbox, [(task, program)])
    except UnreadableProgram as error:
        console.print(f"not a program in {options.language} ({error.reason}): {error}", markup=False)
        return NOT_VERIFIED
    except (ValueError, OSError) as error:
        print(f"programs check: {error}", file=sys.stderr)  # noqa: T201 (this is a command)
        return MISTAKE
    for part in _shown(task, verdict):
        console.print(part)
    return VERIFIED if verdict.verified else NOT_VERIFIED


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the program {file} cannot be read: {error}") from error


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m arc_experiments.programs", description=__doc__)
    check = parser.add_subparsers(required=True, metavar="check").add_parser(
        "check", help="run a program on a task", description=__doc__
    )
    check.add_argument("program", metavar="file", help="the program, or an answer that holds it; - for stdin")
    check.add_argument(
        "--data", default="arc1", help="a data option, or a folder or file of tasks (default: %(default)s)"
    )
    check.add_argument("--task", required=True, help="the task's id")
    check.add_argument("--language", default="python", choices=names(), help="default: %(default)s")
    check.add_argument(
        "--cpu-seconds",
        type=_seconds,
        default=ProgramLimits.cpu_seconds,
        help="for each input (default: %(default)s)",
    )
    check.add_argument(
        "--memory-megabytes",
        type=_megabytes,
        default=ProgramLimits.memory_bytes // 2**20,
        help="default: %(default)s",
    )
    check.add_argument(
        "--barc-library", type=Path, metavar="FILE", help="BARC's common.py, for programs that import it"
    )
    return parser.parse_args(arguments)


def _find(data: str, task_id: str) -> Task:
    """Read the task from the data option, folder or file of that name; a task that is drawn always the same.

    Raises:
        ValueError: there is none, or the data cannot be read; the message says what there is.
    """
    composed = compose_data(data)
    known: list[str] = []
    for source in composed.sources.values() or [composed]:
        reader = build(source.source)
        if not hasattr(reader, "read"):
            raise ValueError(f"--data {data}: its tasks depend on a model's tokenizer: name a folder or file")
        read: TrainingSource = reader.read(BadTasks(skip=True))
        if task_id in read.ids:
            return read.draw(read.ids.index(task_id), rng_for("programs check", 0, task_id))
        known += read.ids
    near = difflib.get_close_matches(task_id, known, 3) or known[:3]
    raise ValueError(
        f"--task {task_id} is not among the {plural(len(known), 'task')} of {data}, such as {', '.join(near)}"
    )


def _shown(task: Task, verdict: Verdict) -> Iterator[RenderableType]:
    """Yield what to print: each demonstration, each test, and the verdict."""
    for number, (pair, outcome) in enumerate(zip(task.train, verdict.outcomes, strict=True)):
        yield from _compared(f"demonstration {number + 1}", pair, outcome)
    for number, (pair, outcome) in enumerate(zip(task.test, verdict.tests, strict=True)):
        yield from _compared(f"test {number + 1}", pair, outcome, show_right=True)
    right, count = sum(verdict.demonstrations), len(task.train)
    style = "bold green" if verdict.verified else "bold red"
    said = "verified" if verdict.verified else "not verified"
    yield Text(
        f"{said}: {of_all(right, count, 'demonstration')} right, {verdict.right_cells:.1%} of cells", style
    )


def _compared(
    name: str, pair: Pair, outcome: Outcome, *, show_right: bool = False
) -> Iterator[RenderableType]:
    expected, given = pair.output, outcome.grid
    if given is None:
        yield Text(f"{name}: {outcome.reason}, {outcome.message}", "red")
        return
    share = share_of_right_cells(given, expected)
    if expected is None:
        yield Text(f"{name}: no solution is known")
    elif share == 1:
        yield Text(f"{name}: right", "green")
    elif given.shape != expected.shape:
        yield Text(f"{name}: wrong, {_size(given)} in place of {_size(expected)}", "red")
    else:
        yield Text(f"{name}: wrong, {share:.1%} of cells right", "red")
    if share < 1 or show_right:
        grids = {"input": _drawn(pair.input)}
        if expected is not None and share < 1:
            grids["expected"] = _drawn(expected)
        grids["given"] = _drawn(given, expected)
        yield Columns([Group(title, grid) for title, grid in grids.items()], padding=(0, 3))
        yield ""


def _size(grid: Grid) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"


def _drawn(grid: Grid, expected: Grid | None = None) -> Text:
    """Draw digits on their colours, those that are not as expected marked."""
    same = expected is None or grid.shape != expected.shape
    wrong = np.zeros(grid.shape, bool) if same else grid != expected
    drawn = Text()
    for row, marks in zip(grid.tolist(), wrong.tolist(), strict=True):
        for cell, is_wrong in zip(row, marks, strict=True):
            drawn.append(f"{cell}{WRONG if is_wrong else ' '}", _style(cell))
        drawn.append("\n")
    drawn.rstrip()
    return drawn


def _style(colour: int) -> str:
    red, green, blue = bytes.fromhex(PALETTE[colour][1:])
    is_bright = 0.3 * red + 0.6 * green + 0.1 * blue > BRIGHT
    return f"bold {'black' if is_bright else 'white'} on {PALETTE[colour].lower()}"


def _seconds(text: str) -> float:
    return _above_zero(float(text))


def _megabytes(text: str) -> int:
    return int(_above_zero(int(text)))


def _above_zero(number: float) -> float:
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
