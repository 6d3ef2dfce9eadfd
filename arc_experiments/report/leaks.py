"""Leaks in words and rows, for the terminal and the page, from the JSON form of comparisons."""

from collections.abc import Iterator, Sequence
from typing import Any

from arc_experiments.config.plurals import of_all
from arc_experiments.report.wording import plural

COMPARED = ("training", "ancestry")  # with the validation tasks, in a run's leaks.json
NUM_EXAMPLES = 4
# How a pair was found elsewhere.
HOW = {
    "identical": "cell for cell",
    "symmetry": "turned or reflected",
    "colours": "recoloured",
    "symmetry and colours": "turned and recoloured",
    "equal": "up to symmetry and colours",
    "id": "by its id",
}

Values = dict[str, Any]


def sentence(comparison: Values) -> str:
    """Of 100 validation tasks, 3 are also in the training tasks: 2 wholly, 1 in part; with 2 answers."""
    counts, searched = comparison["counts"], comparison["searched"]
    sought = f"Of {counts['tasks']:,} {comparison['sought']},"
    if not counts["leaks"]:
        return f"{sought} none is in {searched}."
    extents = {"wholly": counts["whole"], "in part": counts["part"], "by id": counts["by_id"]}
    parts = ", ".join(f"{count:,} {name}" for name, count in extents.items() if count)
    verb = "is" if counts["leaks"] == 1 else "are"
    answers = ""
    if counts["whole"] + counts["part"]:
        answers = f"; with the answers of {counts['answers']:,}" if counts["answers"] else "; without answers"
    dropped = comparison.get("num_dropped")
    left_out = "" if dropped is None else f" Left out of training: {plural(dropped, 'task')} that hold them."
    return f"{sought} {counts['leaks']:,} {verb} also in {searched}: {parts}{answers}.{left_out}"


def examples(comparison: Values) -> str:
    """The first few leaks: `070dd51e = 40853293, 50a16a69 ~ caa06a1f (2 of 4 pairs, recoloured)`."""
    tasks = sorted(comparison["tasks"], key=is_plain)
    shown = ", ".join(map(_example, tasks[:NUM_EXAMPLES]))
    return f"{shown}{', ...' if len(tasks) > NUM_EXAMPLES else ''}"


def _example(leak: Values) -> str:
    whole, exact = leak["extent"] == "whole", leak["how"] == "identical"
    others = [task_id for task_id in leak["found_in"] if task_id != leak["task"]]
    name = f"{leak['task']} {'=' if whole and exact else '~'} {others[0]}" if others else leak["task"]
    remarks = [] if whole or leak["extent"] == "id" else [of_all(leak["pairs"][0], leak["pairs"][1], "pair")]
    if leak["how"] not in ("identical", "equal"):
        remarks.append(HOW[leak["how"]])
    return f"{name} ({', '.join(remarks)})" if remarks else name


def is_plain(leak: Values) -> bool:
    """Whether the ids alone show it: the whole task, cell for cell, under the same id and no other."""
    return (leak["extent"], leak["how"], leak["found_in"]) == ("whole", "identical", [leak["task"]])


def leak_rows(comparison: Values, *, named: bool = False) -> Iterator[tuple[str, ...]]:
    """A row for each leak: its id, where it was found, how many of its pairs and of its answers, how.

    Args:
        named: "where" begins with the name of the set.
    """
    for leak in comparison["tasks"]:
        where = ": ".join(filter(None, [comparison["searched"] if named else "", _where(leak)]))
        yield (leak["task"], where, *_shares(leak), HOW[leak["how"]])


def _where(leak: Values) -> str:
    """The ids of the tasks that hold it, if known."""
    named, rest = leak["found_in"][:3], leak["num_found_in"] - 3
    return f"{', '.join(named)}{f' and {rest} more' if rest > 0 else ''}"


def _shares(leak: Values) -> Sequence[str]:
    if leak["extent"] == "id":
        return ("not known", "not known")
    return tuple(f"{leak[name][0]} of {leak[name][1]}" for name in ("pairs", "answers"))
