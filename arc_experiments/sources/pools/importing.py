"""Files of many pairs a task, of a task at a time, into a store: read once, then memory-mapped."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from arc_experiments.sources.archive import File, opened
from arc_experiments.sources.parsing import parse_pair
from arc_experiments.sources.pools.pair_store import PairStore, StoreWriter, open_or_make, pack
from arc_experiments.sources.pools.progress import progress
from arc_experiments.sources.sampled import without_repetitions
from arc_experiments.tasks.source import BadTasks
from arc_experiments.tasks.task import Pair

# Id, where it stands, and what reads its pairs, {"input": grid, "output": grid} each, or says what is wrong (ValueError).
RawTask = tuple[str, str, Callable[[], list[Any]]]


def converted(
    path: str,
    name: str,
    raw_tasks: Callable[[Sequence[File]], Iterable[RawTask]],
    *,
    bad_tasks: BadTasks,
    cache_dir: str | None,
) -> PairStore:
    """The store of the tasks at this path, converted unless an earlier start has done it with the same files.

    A bad pair is left out alone, and so is one that stands twice. The number of those is noted as `repeated`.

    Args:
        name: of the format.
        raw_tasks: gives the tasks in these files one by one; says where there is none.

    Raises:
        ValueError: a bad pair or task, unless those are skipped; no pair at all; two tasks of one id.
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
                writer.finish({"skipped": written, "repeated": num_repeated})
            except ValueError as error:
                raise ValueError(f"data.path={path}: {error}") from error

        store = open_or_make(name, {"format": name, "files": _fingerprint(path, files)}, make, cache_dir)
    for message in store.notes["skipped"][len(written) :]:  # by an earlier start
        with bad_tasks.caught():
            raise ValueError(message)
    return store


def _fingerprint(path: str, files: Sequence[File]) -> list[Any]:
    """What changes when the files do: where they are, their names, sizes and times; JSON."""
    root = Path(path).expanduser().resolve()
    found = [root / file.name for file in files] if root.is_dir() else [root]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in found]


def _convert(writer: StoreWriter, task: RawTask, bad_tasks: BadTasks) -> int:
    """Write one task; the number of its pairs that stand in it twice."""
    task_id, where, read = task
    items: list[Any] = []
    with bad_tasks.caught():
        items = read()
    pairs: list[Pair] = []
    for number, item in enumerate(items):
        with bad_tasks.caught():
            pairs.append(parse_pair(item, f"{where}: task {task_id}, pair {number}", solved=True))
    different = without_repetitions(pairs)
    if different:
        writer.add(task_id, pack(different))
    return len(pairs) - len(different)
