"""Audit: sets of tasks -> which tasks of one are in another, as a table, leaks.json and pictures."""

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from arc_experiments.composing.compose import compose_data
from arc_experiments.config.check import build
from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import OWN_SETS, Config, Source
from arc_experiments.config.user_code.by_path import split_name
from arc_experiments.corpus.leaks import Finder, Searched
from arc_experiments.corpus.matches import LeakReport
from arc_experiments.launching.tables import plain_table
from arc_experiments.report.audit import write_audit
from arc_experiments.report.leaks import is_plain, leak_rows
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.runs.folder import RunFolder
from arc_experiments.tasks import BadTasks, FixedTasks, Task, TaskSet, TrainingSource

FILE, PAGE = "leaks.json", "audit.html"
SPLITS = ("training", "evaluation")  # kept apart where a set has them
NUM_LISTED = 15  # tasks of each comparison in the terminal
COUNTS = {
    "wholly": "whole",
    "in part": "part",
    "by id": "by_id",
    "with answers": "answers",
    "cell for cell": "identical",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some tasks of a source."""

    source: TrainingSource
    task_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedSet:
    """Tasks to look for, or to look in."""

    name: str
    parts: tuple[Searched, ...]

    @property
    def tasks(self) -> TaskSet:
        """The tasks that can be looked for; of several with one id the first."""
        found: dict[str, Task] = {}
        for part in self.parts:
            fixed = part.source.fixed
            found |= {i: fixed[i] for i in part.task_ids if i in fixed and i not in found}
        return TaskSet(found.values())


def main(run: Run, console: Console) -> None:
    """Compare every set of `audit.tasks` with every one of `audit.against`, or show the earlier result.

    An earlier result is valid as long as the compared files are the same.

    Raises:
        ValueError: nothing of a set can be looked for.
    """
    folder = run.folder
    files = _fingerprint(run.config)
    before = folder.read_json(FILE) if (folder / FILE).exists() and (folder / PAGE).exists() else {}
    if before.get("files") == files:
        console.print(
            "This audit is finished, and no file has changed since (resume=false starts another beside it)."
        )
        _show(before["comparisons"], folder, console, _not_sought(run))
        return
    start = time.perf_counter()
    comparisons = list(_compare(run))
    seconds, num_pairs = time.perf_counter() - start, sum(one.num_searched_pairs for one in comparisons)
    title = folder.path.resolve().name
    write_audit(folder / PAGE, comparisons, title=title, num_pictures=run.config.audit.pictures)
    found = [one.to_json() for one in comparisons]
    folder.write_json(FILE, {"files": files, "comparisons": found})
    console.print(f"Read and looked through {plural(num_pairs, 'pair')} in {seconds:.1f} s.")
    _show(found, folder, console, _not_sought(run))


def _not_sought(run: Run) -> str:
    """Say how to look for all tasks of this composition, unless they are looked for; "" then."""
    sought, corpus = run.config.audit.tasks, run.corpus
    fixed = [i for share in corpus.shares for i in share.task_ids if i in share.source.fixed]
    if "validation" not in sought or "train" in sought or not fixed:
        return ""
    held_out = plural(len(corpus.validation_tasks), "held-out task")
    return (
        f"Looked for {held_out} of data={run.config.data.name}, not for the {len(fixed):,} others that it "
        f"could look for:\naudit.tasks=[{','.join([*sought, 'train'])}] looks for all"
    )


def _compare(run: Run) -> Iterator[LeakReport]:
    audit, known = run.config.audit, dict[str, list[NamedSet]]()
    for name in (*audit.tasks, *audit.against):
        if name not in known:
            known[name] = list(_sets(name, run))
    for sought in (each for name in audit.tasks for each in known[name]):
        tasks = sought.tasks
        if not len(tasks):
            raise ValueError(
                f"audit.tasks: {sought.name} has no task that stays the same from visit to visit, so "
                "there is nothing to look for: name it in audit.against"
            )
        finder = Finder(tasks, sought.name)
        for searched in (each for name in audit.against for each in known[name]):
            yield finder.compare(searched.parts, searched.name, is_same_set=sought is searched)


def _sets(name: str, run: Run) -> Iterator[NamedSet]:
    """Read the sets that a name in `audit` means; a set with an official split is two."""
    corpus, own = run.corpus, run.config.data.name
    if name == "validation":
        tasks = corpus.validation_tasks
        yield NamedSet(
            name=f"validation tasks of {own}", parts=(Part(source=FixedTasks(tasks), task_ids=tasks.ids),)
        )
    elif name == "train":
        yield NamedSet(name=f"training tasks of {own}", parts=tuple(corpus.shares))
    else:
        data = compose_data(name)
        for inner, entry in (data.sources or {"": data}).items():
            yield from _splits(f"{name} {inner}".strip(), entry)


def _splits(name: str, entry: Source) -> Iterator[NamedSet]:
    source: TrainingSource = build(entry.source).read(BadTasks(skip=entry.on_bad_task == "skip"))
    fixed = source.fixed
    ids: dict[str, list[str]] = {}
    for task_id in source.ids:
        split = fixed[task_id].split if task_id in fixed else ""
        ids.setdefault(split if split in SPLITS else "", []).append(task_id)
    for split, of_split in ids.items():
        part = Part(source=source, task_ids=tuple(of_split))
        yield NamedSet(name=f"{name} {split}".strip() + " tasks", parts=(part,))


def _fingerprint(config: Config) -> str:
    """A digest of what is compared: the options of the sets; names, sizes and times of their files."""
    names = {name for name in (*config.audit.tasks, *config.audit.against) if name not in OWN_SETS}
    named = [compose_data(name) for name in sorted(names)]
    sources = [source for data in (config.data, *named) for source in (data, *data.sources.values())]
    paths = {path for source in sources for path in (source.path, source.partition_file) if path is not None}
    paths |= {str(split_name(source.file)[0]) for source in sources if source.file is not None}
    paths |= {s.validation_source["path"] for s in sources if (s.validation_source or {}).get("path")}
    digest = hashlib.sha256(f"{named}\n".encode())
    for path in sorted(paths):
        for file in _files(Path(local_path(path))):
            digest.update(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterable[Path]:
    """The file itself, or all files in and below the folder; none for a name on a hub."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _show(comparisons: list[dict[str, Any]], folder: RunFolder, console: Console, remark: str) -> None:
    """Show the counts of all comparisons, the first tasks of each, a remark; the last line is the folder."""
    table = plain_table("tasks of", "in", *COUNTS, title="Which tasks stand elsewhere")
    for one in comparisons:
        sought = f"{one['sought']}: {one['counts']['tasks']:,}"
        searched = f"{one['searched']}: {one['num_searched_tasks']:,}"
        counts = (f"{one['counts'][key]:,}" for key in COUNTS.values())
        table.add_row(escape(sought), escape(searched), *counts)
    console.print(table)
    for one in comparisons:
        _list(one, console)
    if remark:
        console.print(remark, markup=False)
    console.print(f"pictures: {folder}/{PAGE}", markup=False)
    console.print(str(folder), markup=False)


def _list(comparison: dict[str, Any], console: Console) -> None:
    """Show the tasks of one comparison that ids do not reveal, and how many ids reveal."""
    title = f"{comparison['sought']} in {comparison['searched']}"
    hidden = [leak for leak in comparison["tasks"] if not is_plain(leak)]
    num_plain = len(comparison["tasks"]) - len(hidden)
    if hidden:
        table = plain_table("task", "is also in", "pairs", "answers", "how", title=title)
        for row in leak_rows({**comparison, "tasks": hidden[:NUM_LISTED]}):
            table.add_row(*map(escape, row))
        console.print(table)
    if len(hidden) > NUM_LISTED:
        console.print(f"... and {len(hidden) - NUM_LISTED} more, all in {FILE}")
    if num_plain:
        alike = f"{plural(num_plain, 'task')} wholly, cell for cell, under the same id"
        console.print(f"{title}: {alike}", markup=False)
