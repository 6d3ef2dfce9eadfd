"""Work in batches whose results are kept as they come, so that a killed evaluation goes on after its last whole batch.

A folder holds a file a process; a line is all that was found out about one piece of work, and what it has cost: its
share of the seconds of its batch, and the peak memory of the process after it, in bytes.
    {"key": ["0a1b2c3d", 0, 3], "records": [{...}, {...}], "cost": [0.31, 812345678]}
"""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState

from arc_experiments.runs.environment import peak_memory_bytes

Record = dict[str, Any]
Name = TypeVar("Name", bound=tuple[Any, ...])


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What finished work has cost: seconds of all processes and attempts, and the peak memory of any of them."""

    seconds: float = 0.0
    peak_memory_bytes: int = 0


def spent(*folders: Path) -> Spent:
    """The cost of all the work that is kept in these folders; a piece that was done twice counts once."""
    costs = [line["cost"] for partial in folders for line in _lines(partial).values() if "cost" in line]
    return Spent(
        seconds=sum(seconds for seconds, _ in costs),
        peak_memory_bytes=max((num_bytes for _, num_bytes in costs), default=0),
    )


def in_batches(
    names: Sequence[Name],
    batches: Sequence[Sequence[int]],
    work: Callable[[Sequence[int]], list[list[Record]]],
    *,
    partial: Path,
    processes: PartialState,
    on_progress: Callable[[int], None],
) -> list[list[Record]]:
    """The records of every piece of work, in the order of `names`, by which they are known again later.

    Args:
        batches: positions in `names`; shared out among the processes.
        work: positions -> the records of each of them.
        on_progress: called with the number of pieces done before the first and after each batch; of several processes
            each takes the others to be as far as itself.
    """
    partial.mkdir(parents=True, exist_ok=True)
    done = _read(partial)
    processes.wait_for_everyone()  # all have read before one writes
    earlier, fresh = sum(name in done for name in names), 0
    on_progress(earlier)
    with (partial / f"{processes.process_index}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a line that a kill has torn
        for batch in batches[processes.process_index :: processes.num_processes]:
            if all(names[position] in done for position in batch):
                continue
            start = time.perf_counter()
            found = {names[position]: records for position, records in zip(batch, work(batch), strict=True)}
            cost = [(time.perf_counter() - start) / len(batch), peak_memory_bytes(processes.device)]
            lines = ({"key": key, "records": records, "cost": cost} for key, records in found.items())
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            done |= found
            fresh += len(found)
            on_progress(min(earlier + fresh * processes.num_processes, len(names)))
    processes.wait_for_everyone()
    done |= _read(partial)
    return [done[name] for name in names]


def _read(partial: Path) -> dict[tuple[Any, ...], list[Record]]:
    """What earlier attempts and the other processes have found."""
    return {key: line["records"] for key, line in _lines(partial).items()}


def _lines(partial: Path) -> dict[tuple[Any, ...], Record]:
    """The lines by their keys, but for those torn by a kill."""
    found: dict[tuple[Any, ...], Record] = {}
    for file in sorted(partial.glob("*.jsonl")):
        for text in file.read_bytes().splitlines():
            with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
                line = json.loads(text)
                if isinstance(line["records"], list):
                    found[tuple(line["key"])] = line
    return found
