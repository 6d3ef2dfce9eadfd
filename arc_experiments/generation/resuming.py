"""Results that are written batch by batch, so that a killed evaluation resumes after its last whole batch.

A folder holds a file for each process. A line is the result of one piece of work and its cost: its share of
the seconds of its batch, and the peak memory of the process after it, in bytes.
    {"key": ["0a1b2c3d", 0, 3], "records": [{...}, {...}], "cost": [0.31, 812345678]}
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from arc_experiments.runs.environment import peak_memory_bytes

Record = dict[str, Any]
Name = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The cost of finished work over all processes and attempts: seconds in all, highest peak memory."""

    seconds: float = 0.0
    peak_memory_bytes: int = 0


def spent(*folders: Path) -> Spent:
    """Add up the cost of all results in these folders; a piece that was computed twice counts once."""
    costs = [line["cost"] for folder in folders for line in _read(folder).values() if "cost" in line]
    return Spent(
        seconds=sum(seconds for seconds, _ in costs),
        peak_memory_bytes=max((num_bytes for _, num_bytes in costs), default=0),
    )


class ResumableResults:
    """The results of named pieces of work: `for batch in unfinished(batches): add(batch, ...)`, then `all()`.

    All processes make one together. Each writes its own file, and reads all files at the start and the end.

    Args:
        folder: where results are written, and read if an earlier attempt wrote some.
        names: of all pieces of work.
        on_progress: called with the number of finished pieces at the start and after each batch. One of
            several processes assumes that the others are as far as itself.
    """

    def __init__(
        self, folder: Path, names: Sequence[Name], processes: PartialState, on_progress: Callable[[int], None]
    ) -> None:
        self._folder, self._names, self._processes, self._on_progress = folder, names, processes, on_progress
        self._file = folder / f"{processes.process_index}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._done = _read(folder)
        self._num_earlier, self._num_added = sum(name in self._done for name in names), 0
        processes.wait_for_everyone()  # all have read before one writes
        self._write("\n")  # ends a line that a kill has torn
        on_progress(self._num_earlier)

    def unfinished(self, batches: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
        """Yield this process's share of the batches (positions in `names`) without those finished earlier."""
        for batch in batches[self._processes.process_index :: self._processes.num_processes]:
            if not all(self._names[position] in self._done for position in batch):
                self._start = time.perf_counter()
                yield batch

    def add(self, batch: Sequence[int], results: Sequence[list[Record]]) -> None:
        """Write the results of the batch that was yielded last: a list of records for each of its pieces."""
        seconds = (time.perf_counter() - self._start) / len(batch)
        cost = [seconds, peak_memory_bytes(self._processes.device)]
        lines = {
            self._names[position]: {"key": self._names[position], "records": records, "cost": cost}
            for position, records in zip(batch, results, strict=True)
        }
        self._write("".join(json.dumps(line) + "\n" for line in lines.values()))
        self._done |= lines
        self._num_added += len(lines)
        num_done = self._num_earlier + self._num_added * self._processes.num_processes
        self._on_progress(min(num_done, len(self._names)))

    def all(self) -> list[list[Record]]:
        """Wait for the other processes and return the records of every piece, in the order of the names."""
        self._processes.wait_for_everyone()
        self._done |= _read(self._folder)
        return [self._done[name]["records"] for name in self._names]

    def _write(self, text: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(text)


def forget(folder: Path, processes: PartialState) -> None:
    """Remove a folder of results that all processes use, once all of them are here."""
    processes.wait_for_everyone()
    if processes.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    processes.wait_for_everyone()


def _read(folder: Path) -> dict[Name, Record]:
    """The lines of all processes and attempts by their keys, without those torn by a kill."""
    found: dict[Name, Record] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for text in file.read_bytes().splitlines():
            with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
                line = json.loads(text)
                if isinstance(line["records"], list):
                    found[tuple(line["key"])] = line
    return found
