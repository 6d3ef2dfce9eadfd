"""Work in batches whose results are kept as they come, so that a killed evaluation goes on after its last whole batch.

A folder holds a file a process; a line is all that was found out about one piece of work:
    {"key": ["0a1b2c3d", 0, 3], "records": [{...}, {...}]}
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState

Record = dict[str, Any]
Name = TypeVar("Name", bound=tuple[Any, ...])


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
            found = {names[position]: records for position, records in zip(batch, work(batch), strict=True)}
            file.write("".join(json.dumps({"key": key, "records": found[key]}) + "\n" for key in found))
            file.flush()
            done |= found
            fresh += len(found)
            on_progress(min(earlier + fresh * processes.num_processes, len(names)))
    processes.wait_for_everyone()
    done |= _read(partial)
    return [done[name] for name in names]


def _read(partial: Path) -> dict[tuple[Any, ...], list[Record]]:
    """What earlier attempts and the other processes have found, but for lines torn by a kill."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for file in sorted(partial.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
                record = json.loads(line)
                found[tuple(record["key"])] = record["records"]
    return found
