"""`audit.html`: which tasks of some sets are also in others, and pairs of both side by side.

In: comparisons. Out: a page that needs no other file, the same bytes for the same comparisons.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arc_experiments.corpus.matches import Leak, LeakReport, Match, pairs_of
from arc_experiments.report.leaks import HOW, is_plain, leak_rows, sentence
from arc_experiments.report.templates import fill, write_page
from arc_experiments.report.wording import plural
from arc_experiments.tasks import Pair

SHOWN_PAIRS = 2  # of a task
EXTENTS = {"whole": "wholly", "part": "in part", "id": "by its id"}


def write_audit(path: Path, comparisons: Sequence[LeakReport], *, title: str, num_pictures: int) -> Path:
    """Write the page, with pictures of at most `num_pictures` tasks, the less obvious ones first."""
    return write_page(path, render_audit(comparisons, title=title, num_pictures=num_pictures))


def render_audit(comparisons: Sequence[LeakReport], *, title: str, num_pictures: int) -> str:
    """The page as text."""
    found = [(one, leak) for one in comparisons for leak in one.leaks]
    found.sort(key=lambda entry: is_plain(entry[1].to_json()))  # stable: otherwise in order
    return fill(
        "report/audit.html.j2",
        title=title,
        comparisons=[(one, one.counts) for one in comparisons],
        tables=[(sentence(one.to_json()), list(leak_rows(one.to_json()))) for one in comparisons],
        shown=_shown(len(found), num_pictures),
        cards=[_card(one, leak) for one, leak in found[:num_pictures]],
    )


def _shown(num_found: int, num_pictures: int) -> str:
    if not num_found:
        return "Nothing was found, so there is nothing to draw."
    if not num_pictures:
        return "No pictures were asked for (audit.pictures=0)."
    if num_found <= num_pictures:
        return f"Pictures of all {plural(num_found, 'task')} found, at most {SHOWN_PAIRS} pairs of each."
    return (
        f"Pictures of {num_pictures:,} of the {plural(num_found, 'task')} found (audit.pictures), at most "
        f"{SHOWN_PAIRS} pairs of each: first those under another id, turned or recoloured, then exact copies."
    )


def _card(comparison: LeakReport, leak: Leak) -> dict[str, Any]:
    rows = leak_rows({"tasks": [leak.to_json()], "searched": comparison.searched})
    task, where, pairs, answers, how = next(rows)
    numbers = "" if leak.extent == "id" else f": pairs {pairs}, answers {answers}"
    elsewhere = f"{comparison.searched}{f' as {where}' if where else ''}"
    matches = sorted(
        leak.closest.values(), key=lambda match: (match.found is None, not match.is_answer, match.number)
    )
    return {
        "id": task,
        "extent": EXTENTS[leak.extent],
        "text": f"of {comparison.sought}, also in {elsewhere}{numbers}, {how}",
        "matches": [_match(leak, match) for match in matches[:SHOWN_PAIRS]],
    }


def _match(leak: Leak, match: Match) -> tuple[str, str, Pair, Match]:
    """Name of the sought pair, how it was found, the pair itself, and the match."""
    number = match.number + 1 - (len(leak.task.train) if match.is_answer else 0)
    kind = "test" if match.is_answer else "demonstration"
    return f"{kind} pair {number}", HOW[match.how], pairs_of(leak.task)[match.number], match
