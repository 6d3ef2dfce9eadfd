"""Pairs by task in a folder: compact, memory-mapped, whole or absent.

    header.json  the tasks' ids and numbers of pairs, the key (what the store was made from), notes of the making
    index.bin    an entry a pair, task after task: where its cells begin, rows and columns of input and output
    cells.bin    a byte a cell, row by row: the input's, then the output's

A store is written under another name and renamed when it is whole, by one process at a time. The lock is the
system's: it ends with its holder, however that ends.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS
from arc_experiments.tasks.task import Pair

FORMAT = 1
ENTRY = np.dtype([("start", "<u8"), ("sides", "u1", 4)])
HEADER, INDEX, CELLS = "header.json", "index.bin", "cells.bin"

Packed = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # the sides, shape (pairs, 4), and all cells in one row

log = logging.getLogger(__name__)


class DamagedStore(ValueError):
    """A folder that is not a whole store, with the reason."""


class PairStore:
    """The pairs of a store, read when they are asked for. Pickled as its path.

    Attributes:
        ids: of its tasks.
        starts: task t has the pairs `starts[t]` to `starts[t + 1] - 1`.
        sides: rows and columns of each pair's input and output, shape (pairs, 4).
        key: what it was made from.
        notes: what was noted when it was made.

    Raises:
        DamagedStore: it is torn, or of another format.
        FileNotFoundError: there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            header = json.loads((path / HEADER).read_bytes())
            if header["format"] != FORMAT:
                raise DamagedStore(f"{path} has the format {header['format']}, not {FORMAT}")
            num_pairs, num_cells = sum(header["counts"]), header["num_cells"]
            self.ids = tuple(header["ids"])
            self.key, self.notes = header["key"], header["notes"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DamagedStore(f"{path / HEADER} is not a store's header: {error!r}") from error
        for name, size in ((INDEX, num_pairs * ENTRY.itemsize), (CELLS, num_cells)):
            if not (path / name).exists() or (path / name).stat().st_size != size:
                raise DamagedStore(f"{path / name} has not the {size} bytes that the header says")
        self.starts = np.concatenate([[0], np.cumsum(header["counts"], dtype=np.int64)])
        # Plain arrays over the maps: a slice of a memmap costs several times as much.
        index = np.asarray(np.memmap(path / INDEX, ENTRY, mode="r"))
        self._offsets, self.sides = index["start"], index["sides"]
        self._cells = np.asarray(np.memmap(path / CELLS, np.uint8, mode="r"))

    def __reduce__(self) -> tuple[type["PairStore"], tuple[Path]]:
        return PairStore, (self.path,)

    def __repr__(self) -> str:
        return f"<PairStore of {len(self.ids)} tasks, {len(self)} pairs>"

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.sides)

    def pair(self, number: int) -> Pair:
        """Pair `number` over all tasks, in memory of its own.

        Raises:
            DamagedStore: it is no pair of grids.
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

    def _damaged(self, number: int) -> DamagedStore:
        return DamagedStore(
            f"{self.path} is damaged (pair {number}): remove the folder, and it is made again"
        )


def pack(pairs: Iterable[Pair]) -> Packed:
    """The pairs as a store keeps them."""
    sides, cells = [], [np.empty(0, np.uint8)]
    for pair in pairs:
        assert pair.output is not None, "a pair in a store has its output"
        sides.append((*pair.input.shape, *pair.output.shape))
        cells += [pair.input.ravel(), pair.output.ravel()]
    return np.array(sides, np.uint8).reshape(-1, 4), np.concatenate(cells)


class StoreWriter:
    """Writes a store task by task into a new folder; it is one once `finish` has been called."""

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        path.mkdir()
        self._path, self._key = path, key
        self._ids: list[str] = []
        self._counts: list[int] = []
        self._num_cells = 0
        with ExitStack() as opened:
            self._index = opened.enter_context((path / INDEX).open("wb"))
            self._cells = opened.enter_context((path / CELLS).open("wb"))
            self._files = opened.pop_all()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def add(self, task_id: str, packed: Packed) -> None:
        """A task's pairs, if it has any."""
        sides, cells = packed
        sizes = sides.astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1] + sizes[:, 2] * sizes[:, 3])])
        assert bounds[-1] == len(cells)
        entries = np.empty(len(sides), ENTRY)
        entries["start"] = self._num_cells + bounds[:-1]
        entries["sides"] = sides
        self._index.write(entries.tobytes())
        self._cells.write(cells.tobytes())
        self._ids.append(task_id)
        self._counts.append(len(sides))
        self._num_cells += len(cells)

    def finish(self, notes: Mapping[str, Any]) -> None:
        """Write the header.

        Raises:
            ValueError: there is no pair in it, or an id is there twice.
        """
        if not self._num_cells:
            raise ValueError("there is no pair of grids in it")
        twice = [task_id for task_id, number in Counter(self._ids).items() if number > 1]
        if twice:
            raise ValueError(f"task ids must be unique, found twice: {', '.join(twice[:5])}")
        self._files.close()
        header = {
            "format": FORMAT, "key": self._key, "notes": notes,
            "ids": self._ids, "counts": self._counts, "num_cells": self._num_cells,
        }  # fmt: skip
        (self._path / HEADER).write_text(json.dumps(header), encoding="utf-8")


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/arc_experiments`, or `~/.cache/arc_experiments`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "arc_experiments"


def open_or_make(
    name: str, key: Mapping[str, Any], make: Callable[[StoreWriter], None], cache_dir: str | None = None
) -> PairStore:
    """The store of this key, made first where there is none, or a torn one.

    Of several processes one makes it while the others wait.

    Args:
        name: what the folder's name begins with.
        key: all that the pairs depend on; JSON.
        make: adds every task and finishes.
        cache_dir: where stores lie, if not in `default_cache_dir()`.

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
            store = _existing(path)  # another process may have made it meanwhile
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
        log.warning("%s: it is made again", error)
        return None


def _make(path: Path, key: Mapping[str, Any], make: Callable[[StoreWriter], None]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    for left in (unfinished, path):  # by a process that was killed, or torn
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
    """Hold the lock of this file, which stays; waits for who holds it."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process makes %s: waiting for it", path.stem)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
