"""Read a dataset of the Hugging Face hub, or a local one in the same layout: a task or ready row per row.

{"id": "007bbfb7", "train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}
{"id": "007bbfb7", "pairs": [{"input": [[1]], "output": [[2]]}, ...]}     each visit draws some
{"messages": [{"role": "user", "content": "What is it?"}, ...], "images": [...]}          and other ready rows
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arc_experiments.sources.parsing import load_json, parse, parse_pairs, with_sides
from arc_experiments.sources.pools.pooled import check_demonstrations
from arc_experiments.sources.sampled import Drawn, PairPool, kept_tasks, without_repetitions
from arc_experiments.tasks.ready_rows import Row, parse_row, row_forms
from arc_experiments.tasks.source import BadTasks, TrainingSource
from arc_experiments.tasks.task import Task

SPLITS = {"train": "training", "validation": "evaluation", "eval": "evaluation"}  # ours by the hub's
ID_COLUMNS = ("id", "task_id")
PAIRS_COLUMNS = ("pairs", "examples")
SAVED = ("dataset_dict.json", "state.json")  # written by `save_to_disk`
LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Reads all rows of all splits, in the order of their ids.

    Attributes:
        path: `owner/name` on the hub; or a .jsonl or .parquet file or a folder of them; or what
            `save_to_disk` wrote.
        name: the configuration, if a dataset has several.
        revision: a branch, tag or commit on the hub.
        splits: reads only these, by the dataset's names; None: all.
        id_column: None: `id` or `task_id`, else the split and the row's number.
        train_columns: the column of demonstration pairs; or two columns, of inputs and of outputs.
        test_columns: the same for test pairs.
        pairs_column: pairs without roles; None: `pairs` or `examples`, if there are no `train_columns`.
        num_demonstrations: minimum and maximum of demonstrations drawn from such pairs; one more is the test
            pair.
    """

    path: str
    name: str | None = None
    revision: str | None = None
    splits: list[str] | None = None
    id_column: str | None = None
    train_columns: list[str] = field(default_factory=lambda: ["train"])
    test_columns: list[str] = field(default_factory=lambda: ["test"])
    pairs_column: str | None = None
    num_demonstrations: list[int] = field(default_factory=lambda: [3, 5])

    def __post_init__(self) -> None:
        for key in ("train_columns", "test_columns"):
            if len(getattr(self, key)) not in (1, 2):
                raise ValueError(
                    f"{key}={getattr(self, key)} is not one column of pairs, or two of inputs and outputs"
                )
        check_demonstrations(self.num_demonstrations)

    def read(self, bad_tasks: BadTasks) -> TrainingSource:
        """Read the tasks; raise ValueError if it cannot be loaded, lacks a column, or has an invalid task."""
        return kept_tasks(self._read(bad_tasks), f"data.path={self.path}", bad_tasks)

    def _read(self, bad_tasks: BadTasks) -> Iterator[Task | Drawn]:
        tables = self._tables()
        unknown = sorted(set(self.splits or ()) - tables.keys())
        if unknown:
            raise ValueError(
                f"data.source.splits: {self.path} has no {', '.join(unknown)}, it has: {', '.join(tables)}"
            )
        names = list(tables) if self.splits is None else self.splits
        for split in sorted(names, key=lambda name: SPLITS.get(name) != "evaluation"):
            columns = tables[split].column_names
            if self._has_rows(columns):
                yield from self._rows(tables[split], split, bad_tasks)
                continue
            id_column = self.id_column or _first_of(ID_COLUMNS, columns)
            pairs_column = self._pairs_column(columns)
            used = [pairs_column] if pairs_column else [*self.train_columns, *self.test_columns]
            self._check_columns([*used, *([id_column] if id_column else [])], columns)
            for number, row in enumerate(tables[split]):
                task_id = str(row[id_column]) if id_column else f"{split}_{number}"
                where = f"{self.path} ({split}, row {number})"
                with bad_tasks.caught(several=True):
                    yield self._parse(task_id, row, pairs_column, SPLITS.get(split, split), where)

    def _has_rows(self, columns: list[str]) -> bool:
        """Whether columns are those of ready rows, and none are those of tasks."""
        has_pairs = self._pairs_column(columns) is not None or set(self.train_columns) <= set(columns)
        return not has_pairs and bool(row_forms(dict.fromkeys(columns, ())))

    def _rows(self, table: Any, split: str, bad_tasks: BadTasks) -> Iterator[Row]:
        """Yield a split's rows."""
        for number, row in enumerate(table):
            where = f"{self.path} ({split}, row {number})"
            with bad_tasks.caught():
                yield parse_row(row, split=SPLITS.get(split, split), where=where)

    def _parse(
        self, task_id: str, row: Mapping[str, Any], pairs_column: str | None, split: str, where: str
    ) -> Task | Drawn:
        place = f"{where}: task {task_id}"
        if pairs_column is None:
            parts = {"train": self.train_columns, "test": self.test_columns}
            data = {part: _pairs(row, columns, place) for part, columns in parts.items()}
            return parse(task_id, data, split=split, where=where)
        found = parse_pairs(_pairs(row, [pairs_column], place), place, pairs_column, solved=True)
        low, high = self.num_demonstrations
        try:
            return PairPool(
                id=task_id, pairs=without_repetitions(found), num_demonstrations=(low, high), split=split
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def _tables(self) -> Mapping[str, Any]:
        import datasets  # takes 1 s

        path = Path(self.path).expanduser()
        try:
            if any((path / name).exists() for name in SAVED):
                found = datasets.load_from_disk(str(path))
            elif path.is_file():
                found = datasets.load_dataset(LOADERS.get(path.suffix, path.suffix), data_files=str(path))
            else:
                found = datasets.load_dataset(
                    str(path) if path.exists() else self.path, self.name, revision=self.revision
                )
        except Exception as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            raise ValueError(
                f"data.path={self.path}: cannot be loaded as a dataset: {type(error).__name__}: {first_line}"
            ) from error
        return found if isinstance(found, Mapping) else {"train": found}

    def _pairs_column(self, columns: list[str]) -> str | None:
        if self.pairs_column is not None or set(self.train_columns) <= set(columns):
            return self.pairs_column
        return _first_of(PAIRS_COLUMNS, columns)

    def _check_columns(self, used: list[str], columns: list[str]) -> None:
        lacking = [name for name in used if name not in columns]
        if lacking:
            raise ValueError(
                f"data.path={self.path} has no column {', '.join(lacking)}, it has: {', '.join(columns)}. "
                "Name them by data.source.id_column, train_columns, test_columns or pairs_column"
            )


def _first_of(names: Iterable[str], columns: list[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _pairs(row: Mapping[str, Any], columns: list[str], place: str) -> Any:
    """Return a row's pairs as in task files: [{"input": grid, "output": grid}, ...]."""
    if len(columns) == 2:
        inputs, outputs = (_grids(row[column]) for column in columns)
        return _joined(inputs, outputs, place)
    pairs = row[columns[0]]
    if isinstance(pairs, str):
        pairs = load_json(pairs.encode(), place)
    if isinstance(pairs, dict):  # older datasets have a record of lists instead of a list of records
        return _joined(pairs.get("input"), pairs.get("output"), place)
    return list(map(with_sides, pairs)) if isinstance(pairs, list) else pairs


def _joined(inputs: Any, outputs: Any, place: str) -> list[dict[str, Any]]:
    if outputs is None and isinstance(inputs, list):
        outputs = [None] * len(inputs)
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError(f"{place}: inputs and outputs are not lists of the same length")
    return [{"input": given, "output": wanted} for given, wanted in zip(inputs, outputs, strict=True)]


def _grids(value: Any) -> Any:
    """Return a list of grids, which may be given as a single grid."""
    try:
        return [value] if isinstance(value[0][0], int) else value
    except (TypeError, IndexError):
        return value
