"""Convert files with many pairs per task to a store, task by task: read once, then memory-mapped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from arc_experiments.sources.archive import File, opened
from arc_experiments.sources.parsing import parse_pair
from arc_experiments.sources.pools.pair_store import PairStore, StoreWriter, open_or_make, pack, progress
from arc_experiments.sources.sampled import without_repetitions
from arc_experiments.tasks.source import BadTasks
from arc_experiments.tasks.task import Pair

RawTask = tuple[str, str, Callable[[], tuple[list[Any], str]]]
"""Id, location for messages, and a function that reads the pairs, each {"input": grid, "output": grid}, and a
text to keep with them."""


def converted(
    path: str,
    name: str,
    raw_tasks: Callable[[Sequence[File]], Iterable[RawTask]],
    *,
    bad_tasks: BadTasks,
    cache_dir: str | None,
    key: Mapping[str, Any] = MappingProxyType({}),
    counts: Mapping[str, int] = MappingProxyType({}),
) -> PairStore:
    """Return the store of the tasks at this path, converting the files unless an earlier run did.

    Invalid pairs are skipped one by one. Repeated pairs are dropped, and their number noted as `repeated`.

    Args:
        name: of the format.
        raw_tasks: yields the tasks in these files; raises ValueError if there are none.
        key: what else the store depends on; JSON.
        counts: numbers that reading changes, to be noted as `counts`.

    Raises:
        ValueError: a pair or task is invalid and not skipped, there are no pairs, or two tasks share an id.
    """
    written: list[str] = []
    with opened(path) as files:

        def make(writer: StoreWriter) -> None:
            num_before, num_repeated = len(bad_tasks.skipped), 0
            try:
                tasks = raw_tasks(files)
            except ValueError as error:
                raise ValueError(f"data.path={path}: {error}") from error
            total = len(tasks) if isinstance(tasks, list) else None
            with progress(f"reading {Path(path).name}", total) as advance:
                for task in tasks:
                    num_repeated += _convert(writer, task, bad_tasks)
                    advance(1)
            written.extend(bad_tasks.skipped[num_before:])
            try:
                writer.finish({"skipped": written, "repeated": num_repeated, "counts": dict(counts)})
            except ValueError as error:
                raise ValueError(f"data.path={path}: {error}") from error

        store = open_or_make(
            name, {"format": name, "files": _fingerprint(path, files), **key}, make, cache_dir
        )
    for message in store.notes["skipped"][len(written) :]:  # by an earlier run
        with bad_tasks.caught():
            raise ValueError(message)
    return store


def _fingerprint(path: str, files: Sequence[File]) -> list[Any]:
    """Identify the files by their paths, sizes and times of modification; JSON."""
    root = Path(path).expanduser().resolve()
    found = [root / file.name for file in files] if root.is_dir() else [root]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in found]


def _convert(writer: StoreWriter, task: RawTask, bad_tasks: BadTasks) -> int:
    """Write one task; return how many of its pairs are repeated."""
    task_id, where, read = task
    items: list[Any] = []
    text = ""
    with bad_tasks.caught():
        items, text = read()
    pairs: list[Pair] = []
    for number, item in enumerate(items):
        with bad_tasks.caught():
            pairs.append(parse_pair(item, f"{where}: task {task_id}, pair {number}", solved=True))
    different = without_repetitions(pairs)
    if different:
        writer.add(task_id, pack(different), text)
    return len(pairs) - len(different)
