"""Store pairs by task in a folder: compact, memory-mapped, complete or absent.

    header.json  the tasks' ids and numbers of pairs, the key (what the store was made from), notes
    index.bin    one entry per pair, task after task: start of its cells, rows and columns of input and output
    cells.bin    one byte per cell, row by row: the input's, then the output's
    texts.bin    one text per task in UTF-8, if they have any (their lengths are in the header): its program

One process at a time writes a store, under another name, and renames it when it is complete. The operating
system releases the lock when its holder ends.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS
from arc_experiments.tasks.task import Pair

FORMAT = 1
ENTRY = np.dtype([("start", "<u8"), ("sides", "u1", 4)])
HEADER, INDEX, CELLS, TEXTS = "header.json", "index.bin", "cells.bin", "texts.bin"

Packed = tuple[
    NDArray[np.uint8], NDArray[np.uint8]
]  # the sides, shape (pairs, 4), and all cells, shape (cells,)

log = logging.getLogger(__name__)


class DamagedStore(ValueError):
    """Raised for a folder that is not a complete store."""


class PairStore:
    """The pairs of a store, read on demand. Pickled as its path.

    Attributes:
        ids: of its tasks.
        starts: task t has the pairs `starts[t]` to `starts[t + 1] - 1`.
        sides: rows and columns of each pair's input and output, uint8, shape (pairs, 4).
        key: what it was made from.
        notes: of its making.

    Raises:
        DamagedStore: it is incomplete or has another format.
        FileNotFoundError: it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            header = json.loads((path / HEADER).read_bytes())
            if header["format"] != FORMAT:
                raise DamagedStore(f"{path} has the format {header['format']}, not {FORMAT}")
            num_pairs, num_cells = sum(header["counts"]), header["num_cells"]
            lengths = header.get("text_lengths", [0] * len(header["ids"]))
            self.ids = tuple(header["ids"])
            self.key, self.notes = header["key"], header["notes"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DamagedStore(f"{path / HEADER} is not a store's header: {error!r}") from error
        sizes = {INDEX: num_pairs * ENTRY.itemsize, CELLS: num_cells, TEXTS: sum(lengths)}
        for name, size in sizes.items():
            if name == TEXTS and not size:
                continue
            if not (path / name).exists() or (path / name).stat().st_size != size:
                raise DamagedStore(f"{path / name} does not have the {size} bytes that the header states")
        self.starts = np.concatenate([[0], np.cumsum(header["counts"], dtype=np.int64)])
        # Slicing a plain array over the map is several times faster than slicing a memmap.
        index = np.asarray(np.memmap(path / INDEX, ENTRY, mode="r"))
        self._offsets, self.sides = index["start"], index["sides"]
        self._cells = np.asarray(np.memmap(path / CELLS, np.uint8, mode="r"))
        self._text_starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._texts = np.asarray(np.memmap(path / TEXTS, np.uint8, mode="r")) if sum(lengths) else None

    def __reduce__(self) -> tuple[type["PairStore"], tuple[Path]]:
        return PairStore, (self.path,)

    def __repr__(self) -> str:
        return f"<PairStore of {len(self.ids)} tasks, {len(self)} pairs>"

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.sides)

    def pair(self, number: int) -> Pair:
        """Return a copy of pair `number`, counted over all tasks.

        Raises:
            DamagedStore: it is not a pair of grids.
        """
        rows, columns, output_rows, output_columns = sides = self.sides[number].tolist()
        start, middle = int(self._offsets[number]), rows * columns
        size = middle + output_rows * output_columns
        if min(sides) < 1 or max(sides) > MAX_SIDE or start + size > len(self._cells):
            raise self._damaged(number)
        cells = self._cells[start : start + size].copy()
        if cells.max() >= NUM_COLOURS:
            raise self._damaged(number)
        return Pair(
            input=cells[:middle].reshape(rows, columns),
            output=cells[middle:].reshape(output_rows, output_columns),
        )

    def text(self, task_id: str) -> str:
        """Return the text of a task, empty if it has none."""
        number = self._numbers[task_id]
        start, end = self._text_starts[number : number + 2]
        return "" if self._texts is None else self._texts[start:end].tobytes().decode()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {task_id: number for number, task_id in enumerate(self.ids)}

    def _damaged(self, number: int) -> DamagedStore:
        return DamagedStore(
            f"{self.path} is damaged (pair {number}): remove the folder to have it made again"
        )


def pack(pairs: Iterable[Pair]) -> Packed:
    """Convert pairs to the form of a store."""
    sides, cells = [], [np.empty(0, np.uint8)]
    for pair in pairs:
        assert pair.output is not None, "a pair in a store has its output"
        sides.append((*pair.input.shape, *pair.output.shape))
        cells += [pair.input.ravel(), pair.output.ravel()]
    return np.array(sides, np.uint8).reshape(-1, 4), np.concatenate(cells)


class StoreWriter:
    """Writes a store task by task into a new folder; `finish` completes it."""

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        path.mkdir()
        self._path, self._key = path, key
        self._ids: list[str] = []
        self._counts: list[int] = []
        self._text_lengths: list[int] = []
        self._num_cells = 0
        with ExitStack() as opened:
            self._index = opened.enter_context((path / INDEX).open("wb"))
            self._cells = opened.enter_context((path / CELLS).open("wb"))
            self._texts = opened.enter_context((path / TEXTS).open("wb"))
            self._files = opened.pop_all()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def add(self, task_id: str, packed: Packed, text: str = "") -> None:
        """Add a task, its pairs, which may be none, and its text."""
        sides, cells = packed
        sizes = sides.astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1] + sizes[:, 2] * sizes[:, 3])])
        assert bounds[-1] == len(cells)
        entries = np.empty(len(sides), ENTRY)
        entries["start"] = self._num_cells + bounds[:-1]
        entries["sides"] = sides
        self._index.write(entries.tobytes())
        self._cells.write(cells.tobytes())
        self._text_lengths.append(self._texts.write(text.encode()))
        self._ids.append(task_id)
        self._counts.append(len(sides))
        self._num_cells += len(cells)

    def finish(self, notes: Mapping[str, Any]) -> None:
        """Write the header.

        Raises:
            ValueError: the store has no pairs, or an id occurs twice.
        """
        if not self._num_cells:
            raise ValueError("it contains no pairs of grids")
        twice = [task_id for task_id, number in Counter(self._ids).items() if number > 1]
        if twice:
            raise ValueError(f"task ids must be unique, found twice: {', '.join(twice[:5])}")
        self._files.close()
        header = {
            "format": FORMAT, "key": self._key, "notes": notes,
            "ids": self._ids, "counts": self._counts, "num_cells": self._num_cells,
        }  # fmt: skip
        if any(self._text_lengths):
            header["text_lengths"] = self._text_lengths
        else:
            (self._path / TEXTS).unlink()
        (self._path / HEADER).write_text(json.dumps(header), encoding="utf-8")


def default_cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/arc_experiments`, or `~/.cache/arc_experiments`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "arc_experiments"


def open_or_make(
    name: str, key: Mapping[str, Any], make: Callable[[StoreWriter], None], cache_dir: str | None = None
) -> PairStore:
    """Open the store with this key, making it first if it is missing or incomplete.

    If several processes call this, one makes the store while the others wait.

    Args:
        name: start of the folder's name.
        key: everything that the pairs depend on; JSON.
        make: adds every task and calls `finish`.
        cache_dir: folder of the stores; None: `default_cache_dir()`.

    Raises:
        ValueError: the folder cannot be written.
    """
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser().absolute()
    digest = hashlib.blake2b(json.dumps([FORMAT, key], sort_keys=True).encode(), digest_size=8).hexdigest()
    path = folder / f"{name}-{digest}"
    try:
        store = _existing(path)
        if store is not None:
            return store
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            store = _existing(path)  # another process may have made it in the meantime
            if store is None:
                _make(path, key, make)
                store = PairStore(path)
    except OSError as error:
        raise ValueError(f"the cache {path} cannot be made: {error} (data.source.cache_dir)") from error
    return store


def _existing(path: Path) -> PairStore | None:
    try:
        return PairStore(path)
    except FileNotFoundError:
        return None
    except DamagedStore as error:
        log.warning("%s: making the store again", error)
        return None


def _make(path: Path, key: Mapping[str, Any], make: Callable[[StoreWriter], None]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    for left in (unfinished, path):  # the remains of a killed process, and a damaged store
        shutil.rmtree(left, ignore_errors=True)
    try:
        with StoreWriter(unfinished, key) as writer:
            make(writer)
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file, waiting for its holder; the file is not removed."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process to make %s", path.stem)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar in a terminal, or else two lines, and log the total at the end.

    Yields a function to call with each number of things done. Prints to stderr, since stdout may carry
    results.

    Args:
        total: None if unknown.
    """
    from rich.console import Console  # not at the top: composing a run imports this module
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, start = Console(stderr=True), time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    if not console.is_terminal:
        console.print(f"{title}: only once, later runs reuse them", markup=False, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as live:
        task = live.add_task(title, total=total)
        yield lambda number: live.update(task, advance=number)
        done = live.tasks[task].completed
    text = f"{title}: {done:.0f} in {time.perf_counter() - start:.1f} s"
    console.print(text, markup=False, soft_wrap=True)
    log.info(text)
