"""Leaks in words and in tables, for the terminal and the page: all from the JSON form of comparisons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from arc_experiments.report.format import plural

COMPARED = ("training", "ancestry")  # with the validation tasks, in a run's leaks.json
NUM_EXAMPLES = 4
# How a pair stands elsewhere, in words; nothing for one that is the same cell for cell, or not known to be.
HOW = {
    "identical": "cell for cell",
    "symmetry": "turned or reflected",
    "colours": "recoloured",
    "symmetry and colours": "turned and recoloured",
    "equal": "up to symmetry and colours",
    "id": "by its id",
}

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LeakBlock:
    """What a page says about leaks: a sentence a comparison, and a row a task: id, where, pairs, answers, how."""

    sentences: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def leak_block(found: Values) -> LeakBlock | None:
    """The contents of a run's leaks.json for the page; None where nothing was compared."""
    comparisons = [found[name] for name in COMPARED if name in found]
    if not comparisons:
        return None
    return LeakBlock(
        sentences=tuple(map(sentence, comparisons)),
        rows=tuple(
            (task, f"{one['searched']}{': ' if where else ''}{where}", *rest)
            for one in comparisons
            for task, where, *rest in leak_rows(one)
        ),
    )


def sentence(comparison: Values) -> str:
    """Of 100 validation tasks, 3 stand in the training tasks: 2 wholly, 1 in part; the answers of 2 among them."""
    counts, searched = comparison["counts"], comparison["searched"]
    sought = f"Of {counts['tasks']:,} {comparison['sought']},"
    if not counts["leaks"]:
        return f"{sought} none stands in {searched}."
    extents = {"wholly": counts["whole"], "in part": counts["part"], "by id": counts["by_id"]}
    parts = ", ".join(f"{count:,} {name}" for name, count in extents.items() if count)
    verb = "stands" if counts["leaks"] == 1 else "stand"
    answers = (
        f"the answers of {counts['answers']:,} among them" if counts["answers"] else "no answer among them"
    )
    known = counts["whole"] + counts["part"]
    dropped = comparison.get("num_dropped")
    left_out = "" if dropped is None else f" Left out of training: {plural(dropped, 'task')} that hold them."
    return f"{sought} {counts['leaks']:,} {verb} in {searched}: {parts}{f'; {answers}' if known else ''}.{left_out}"


def examples(comparison: Values) -> str:
    """The first few leaks: `070dd51e = 40853293, 50a16a69 ~ caa06a1f (2 of 4 pairs, recoloured)`."""
    tasks = sorted(comparison["tasks"], key=is_plain)
    shown = ", ".join(map(_example, tasks[:NUM_EXAMPLES]))
    return f"{shown}{', ...' if len(tasks) > NUM_EXAMPLES else ''}"


def _example(leak: Values) -> str:
    whole, exact = leak["extent"] == "whole", leak["how"] == "identical"
    others = [task_id for task_id in leak["found_in"] if task_id != leak["task"]]
    name = f"{leak['task']} {'=' if whole and exact else '~'} {others[0]}" if others else leak["task"]
    remarks = [] if whole or leak["extent"] == "id" else [f"{leak['pairs'][0]} of {leak['pairs'][1]} pairs"]
    if leak["how"] not in ("identical", "equal"):
        remarks.append(HOW[leak["how"]])
    return f"{name} ({', '.join(remarks)})" if remarks else name


def is_plain(leak: Values) -> bool:
    """Whether the ids tell it: the whole task stands under the same one, cell for cell, and nowhere else."""
    return (leak["extent"], leak["how"], leak["found_in"]) == ("whole", "identical", [leak["task"]])


def leak_rows(comparison: Values) -> Iterator[tuple[str, ...]]:
    """A row for each leak: its id, where it stands, how many of its pairs and of its answers, how."""
    for leak in comparison["tasks"]:
        yield (leak["task"], _where(leak), *_shares(leak), HOW[leak["how"]])


def _where(leak: Values) -> str:
    """The ids of the tasks that hold it, if they are known."""
    named, rest = leak["found_in"][:3], leak["num_found_in"] - 3
    return f"{', '.join(named)}{f' and {rest} more' if rest > 0 else ''}"


def _shares(leak: Values) -> Sequence[str]:
    if leak["extent"] == "id":
        return ("not known", "not known")
    return tuple(f"{leak[name][0]} of {leak[name][1]}" for name in ("pairs", "answers"))
