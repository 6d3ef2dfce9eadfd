"""BARC: generated problems, one per line of JSONL or row of Parquet; `examples` are [input, output] pairs.

{"examples": [[[[1]], [[2]]], [[[3]], [[4]]]], "source": "def main(input_grid): ...", "seeds": ["..."]}

`source` is the problem's program in Python, beside what generates its inputs.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from arc_experiments.config.plurals import of_all
from arc_experiments.programs.languages import UnreadableProgram, language
from arc_experiments.sources.archive import UNREADABLE, File
from arc_experiments.sources.parsing import load_json, with_sides
from arc_experiments.sources.pools.importing import RawTask, converted
from arc_experiments.sources.pools.pair_store import PairStore
from arc_experiments.sources.pools.pooled import (
    PooledTasks,
    check_demonstrations,
    check_max_side,
    pooled,
)
from arc_experiments.tasks.source import BadTasks
from arc_experiments.tasks.task import Program

COLUMN, PROGRAM_COLUMN = "examples", "source"
LANGUAGE = "python"
COUNTED = {
    "unreadable": "cannot be read: their tasks have none",
    "helpers": "run only with programs.barc_library, since they use helpers of BARC's `common`",
}
HELPER = re.compile(r"from common import (?!Color\b)")
ROWS_AT_ONCE = 64  # of Parquet


@dataclass(frozen=True, kw_only=True)
class Barc:
    """One task per line, with other pairs on every visit; its id is the file's name and the line's number.

    A task has the line's program, in its normal form, if that can be read.

    Attributes:
        path: a .jsonl or .parquet file, or a folder or zip of them.
        num_demonstrations: minimum and maximum of demonstration pairs; one test pair is added.
        cache_dir: folder for the parsed pairs; None: `default_cache_dir()`.
        max_side: most rows and columns of a grid; larger pairs are not drawn. None: no limit.
        leave_out: ids of tasks that are never drawn.
    """

    path: str
    num_demonstrations: list[int] = field(default_factory=lambda: [3, 5])
    cache_dir: str | None = None
    max_side: int | None = None
    leave_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_demonstrations(self.num_demonstrations)
        check_max_side(self.max_side)

    def read(self, bad_tasks: BadTasks) -> PooledTasks:
        """Read the tasks; raise ValueError for a path without such files or an invalid line."""
        counts: Counter[str] = Counter()
        store = converted(
            self.path,
            "barc",
            partial(_raw_tasks, counts=counts),
            bad_tasks=bad_tasks,
            cache_dir=self.cache_dir,
            key={"programs": LANGUAGE},
            counts=counts,
        )
        for kind, what in COUNTED.items():
            if store.notes["counts"].get(kind):
                programs = of_all(store.notes["counts"][kind], store.notes["counts"]["programs"], "program")
                bad_tasks.notes.append(f"{programs} {what}")
        return pooled(
            store,
            bad_tasks,
            program_of=partial(_program_of, store),
            split="barc",
            num_demonstrations=self.num_demonstrations,
            max_side=self.max_side,
            leave_out=self.leave_out,
        )


def _program_of(store: PairStore, task_id: str) -> Program | None:
    text = store.text(task_id)
    return Program(language=LANGUAGE, text=text) if text else None


def _raw_tasks(files: Sequence[File], counts: Counter[str]) -> Iterator[RawTask]:
    chosen = [file for file in files if file.name.suffix in ROWS]
    if not chosen:
        raise ValueError(f"no {' or '.join(ROWS)} file in it")
    return (task for file in chosen for task in _tasks_of(file, counts))


def _tasks_of(file: File, counts: Counter[str]) -> Iterator[RawTask]:
    name = file.name.with_suffix("").as_posix()
    for number, row in ROWS[file.name.suffix](file):
        where = f"{file.shown}, line {number + 1}"
        yield f"{name}-{number:06d}", where, partial(_read, row, where, counts)


def _lines(file: File) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their number from 0."""
    try:
        with file.open() as lines:
            yield from ((number, line) for number, line in enumerate(lines) if line.strip())
    except UNREADABLE as error:
        raise ValueError(f"{file.shown}: cannot be read: {error}") from error


def _rows(file: File) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with file.open() as opened, ParquetFile(opened) as table:
            if COLUMN not in table.schema_arrow.names:
                raise ValueError(
                    f"{file.shown}: no column {COLUMN}, only {', '.join(table.schema_arrow.names)}"
                )
            columns = [name for name in (COLUMN, PROGRAM_COLUMN) if name in table.schema_arrow.names]
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pyarrow.ArrowException, *UNREADABLE) as error:
        raise ValueError(f"{file.shown}: not a whole Parquet file: {error}") from error


ROWS: dict[str, Callable[[File], Iterator[tuple[int, Any]]]] = {".jsonl": _lines, ".parquet": _rows}


def _read(row: bytes | dict[str, Any], where: str, counts: Counter[str]) -> tuple[list[Any], str]:
    """Return the pairs of one line, each {"input": grid, "output": grid}, and its program or ""."""
    data = load_json(row, where) if isinstance(row, bytes) else row
    examples = data.get(COLUMN) if isinstance(data, dict) else None
    if not isinstance(examples, list) or not examples:
        raise ValueError(f'{where} does not have the form {{"{COLUMN}": [[input, output], ...]}}')
    return list(map(with_sides, examples)), _normal_form(data.get(PROGRAM_COLUMN), counts)


def _normal_form(source: object, counts: Counter[str]) -> str:
    if source is None:
        return ""
    counts["programs"] += 1
    try:
        text = language(LANGUAGE).normalise(str(source))
    except UnreadableProgram:
        counts["unreadable"] += 1
        return ""
    counts["helpers"] += any(map(HELPER.match, text.splitlines()))
    return text
