"""Read task files in the formats in which ARC is distributed, recognised by their content.

    folder/training/007bbfb7.json      one task; its id is the file's name, its split the folder's
    arc-agi_training_challenges.json   many tasks, with arc-agi_training_solutions.json beside it (Kaggle)
    train_rs7.json                     many tasks, {id: task}; their split is the file's name

All of these may contain tasks that are drawn (see parsing.py), may be mixed in a folder, and may be in a zip.
"""

import re
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from arc_experiments.programs.languages.dsl import solution
from arc_experiments.programs.re_arc import verifiers
from arc_experiments.sources.archive import File, opened, solutions_name
from arc_experiments.sources.parsing import load_json, parse, with_plain_cells, with_solutions
from arc_experiments.sources.sampled import Drawn, kept_tasks
from arc_experiments.tasks.source import BadTasks, TrainingSource
from arc_experiments.tasks.task import Task

# Files beside tasks that are not tasks.
BESIDE_TASKS = {
    "metadata.json", "dataset_info.json", "dataset_dict.json", "state.json", "submission.json",
    "sample_submission.json",
}  # fmt: skip
KAGGLE_SET = re.compile(r"(?:^|[_-])(training|evaluation|test)(?:[_-]|$)")
FLAT_LIST = re.compile(rb'\s*\[\s*\{\s*"(input|output)"')
OTHERS = {
    "lists of pairs, as RE-ARC has them": "data=re_arc",
    "rows (.jsonl, .parquet)": "data=barc for BARC's, data=hub for a row a task",
}


@dataclass(frozen=True, kw_only=True)
class Files:
    """Reads all tasks below `path`, in the order of their ids.

    Attributes:
        path: a folder, a zip, or one file.
        splits: reads only these: names of folders, of files, of Kaggle's sets; None: all.
        text_cells: reads a cell "3" as 3 and null as 0, as Mini-ARC's drawing tool writes them.
        origin: where to get such files, for the message if `path` is missing.
        programs: `re_arc`: each task has the program of the RE-ARC task that its id begins with.
    """

    path: str
    splits: list[str] | None = None
    text_cells: bool = False
    origin: str = ""
    programs: str | None = None

    def __post_init__(self) -> None:
        if self.programs not in (None, "re_arc"):
            raise ValueError(f"programs={self.programs} is not re_arc (null: none)")

    def read(self, bad_tasks: BadTasks) -> TrainingSource:
        """Read the tasks; raise ValueError if there are none, or for an invalid one."""
        with opened(self.path) as files:
            what = recognise(files)
            if what != "tasks":
                raise ValueError(
                    f"data.path={self.path} contains {what}, which data=files does not read: {OTHERS[what]}"
                )
            return kept_tasks(self._read(files, bad_tasks), f"data.path={self.path}", bad_tasks)

    def _read(self, files: list[File], bad_tasks: BadTasks) -> Iterator[Task | Drawn]:
        seen: dict[str, File] = {}
        for file, entry in self._entries(files, bad_tasks):
            first = seen.setdefault(entry.id, file)
            with bad_tasks.caught(several=True):
                if first is not file:
                    raise ValueError(
                        f"data.path={self.path}: two files for task {entry.id}: {first.shown}, {file.shown} "
                        "(data.source.splits=[...] reads only some folders or sets)"
                    )
                task = entry.parse()
                yield task if self.programs is None else _with_program(task, file)

    def _entries(self, files: list[File], bad_tasks: BadTasks) -> Iterator[tuple[File, "_Entry"]]:
        """Yield the tasks of the chosen splits, not yet parsed."""
        task_files, solutions = _task_files(files), _solutions(files)
        if not task_files:
            raise ValueError(f"data.path={self.path}: no .json file of tasks in it or below it")
        found: set[str] = set()
        for file in task_files:
            # If the source is a single file, it cannot be skipped.
            skippable = bad_tasks.caught(several=True) if len(task_files) > 1 else nullcontext()
            entries: list[_Entry] = []
            with skippable:
                entries = self._load(file, solutions.get(file.name))
            found |= {entry.split for entry in entries}
            yield from ((file, e) for e in entries if self.splits is None or e.split in self.splits)
        bad_tasks.check()  # a file that cannot be read may be of a split that seems to be missing
        unknown = sorted(set(self.splits or ()) - found)
        if unknown:
            has = ", ".join(sorted(found))
            raise ValueError(f"data.source.splits: {self.path} has no {', '.join(unknown)}, it has: {has}")

    def _load(self, file: File, solutions: File | None) -> "list[_Entry]":
        data = load_json(file.read(), file.shown)
        if self.text_cells:
            data = with_plain_cells(data)
        if not isinstance(data, dict) or {"train", "test"} & data.keys():
            return [_Entry(id=file.name.stem, data=data, split=file.name.parent.name, where=file.shown)]
        if not data:
            raise ValueError(f"{file.shown}: it holds no tasks")
        solved = None if solutions is None else _load_solutions(solutions, file, data)
        split = _set_of(file)
        return [
            _Entry(id=task_id, data=item, split=split, where=file.shown, solutions=solved)
            for task_id, item in data.items()
        ]


def _with_program(task: Task | Drawn, file: File) -> Task:
    """Return the task with RE-ARC's program, which is missing only if the package is."""
    program = solution(task.id.partition("_")[0])
    if not isinstance(task, Task) or (program is None and verifiers()):
        raise ValueError(f"{file.shown}: task {task.id} has no program in RE-ARC (data.source.programs=null)")
    return replace(task, program=program)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A task as JSON data; `solutions` are those of its file by task id, if they are in a separate file."""

    id: str
    data: Any
    split: str
    where: str
    solutions: dict[str, Any] | None = None

    def parse(self) -> Task | Drawn:
        data = self.data
        if self.solutions is not None:
            data = with_solutions(data, self.solutions.get(self.id), f"{self.where}: task {self.id}")
        return parse(self.id, data, split=self.split, where=self.where)


def recognise(files: list[File]) -> str:
    """Return "tasks", or which of `OTHERS` these files are, from the first bytes alone."""
    first = _task_files(files)[:2]
    beginnings = []
    for file in first:
        with suppress(ValueError):  # reported when it is read
            beginnings.append(file.read(64))
    pairs, rows = OTHERS
    if beginnings and all(map(FLAT_LIST.match, beginnings)):
        return pairs
    return rows if not first and any(_suffix(file) in (".jsonl", ".parquet") for file in files) else "tasks"


def _task_files(files: list[File]) -> list[File]:
    solutions = {file.name for file in _solutions(files).values()}
    return [
        file
        for file in files
        if _suffix(file) == ".json" and file.name.name not in BESIDE_TASKS and file.name not in solutions
    ]


def _solutions(files: list[File]) -> dict[PurePosixPath, File]:
    """Return the existing files of solutions by the names of their files of challenges."""
    by_name = {file.name: file for file in files}
    apart = {name: name.with_name(solutions_name(name.name)) for name in by_name}
    return {name: by_name[other] for name, other in apart.items() if name != other and other in by_name}


def _suffix(file: File) -> str:
    return file.name.suffix.lower()


def _set_of(file: File) -> str:
    """Return the split of a file of many tasks: Kaggle's set, else the file's name."""
    stem = file.name.stem
    named = KAGGLE_SET.search(stem) if "challenges" in stem else None
    return named.group(1) if named else stem


def _load_solutions(solutions: File, challenges: File, tasks: dict[str, Any]) -> dict[str, Any]:
    found = load_json(solutions.read(), solutions.shown)
    if not isinstance(found, dict):
        raise ValueError(f"{solutions.shown}: does not have the form {{task id: [output, ...]}}")
    strangers = sorted(found.keys() - tasks.keys())
    if strangers:
        raise ValueError(f"{solutions.shown}: has task {strangers[0]}, which is not in {challenges.shown}")
    return found
