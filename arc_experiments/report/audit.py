"""`audit.html`: which tasks of some sets stand in others, and pairs of both side by side.

In: comparisons. Out: a page that stands alone, the same bytes for the same comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_experiments.corpus.matches import Comparison, Leak, Match, pairs_of
from arc_experiments.report.format import plural
from arc_experiments.report.gallery import Picture, picture, picture_or_none
from arc_experiments.report.leaks import HOW, LeakBlock, is_plain, leak_rows, sentence
from arc_experiments.report.page import environment, write_page
from arc_experiments.tasks import Pair

SHOWN_PAIRS = 2  # of a task
EXTENTS = {"whole": "wholly", "part": "in part", "id": "by its id"}
Drawn = tuple[Picture, Picture | None]


@dataclass(frozen=True, kw_only=True)
class MatchCard:
    """A pair of the sought task and the one that it is the same as, if that is known."""

    caption: str
    how: str
    sought: Drawn
    found_in: str
    found: Drawn | None


@dataclass(frozen=True, kw_only=True)
class LeakCard:
    """A sought task, where it was found, and some of its pairs."""

    id: str
    extent: str
    words: str
    matches: tuple[MatchCard, ...]


def write_audit(path: Path, comparisons: Sequence[Comparison], *, title: str, num_pictures: int) -> Path:
    """Write the page; pictures of at most so many tasks, the less obvious first."""
    return write_page(path, render_audit(comparisons, title=title, num_pictures=num_pictures))


def render_audit(comparisons: Sequence[Comparison], *, title: str, num_pictures: int) -> str:
    """The page as text."""
    found = [(one, leak) for one in comparisons for leak in one.leaks]
    found.sort(key=lambda entry: is_plain(entry[1].to_json()))  # which keeps the order among equals
    blocks = [
        LeakBlock(sentences=(sentence(one.to_json()),), rows=tuple(leak_rows(one.to_json())))
        for one in comparisons
    ]
    return (
        environment()
        .get_template("audit.html.j2")
        .render(
            title=title,
            comparisons=[(one, one.counts) for one in comparisons],
            blocks=blocks,
            shown=_shown(len(found), num_pictures),
            cards=[_card(one, leak) for one, leak in found[:num_pictures]],
        )
    )


def _shown(num_found: int, num_pictures: int) -> str:
    if not num_found:
        return "Nothing was found, so there is nothing to draw."
    if not num_pictures:
        return "No pictures were asked for (audit.pictures=0)."
    if num_found <= num_pictures:
        return f"Pictures of all {plural(num_found, 'task')} found, at most {SHOWN_PAIRS} pairs of each."
    return (
        f"Pictures of {num_pictures:,} of the {plural(num_found, 'task')} found (audit.pictures), at most {SHOWN_PAIRS} pairs "
        "of each: first those that stand elsewhere under another id, turned or recoloured, then those that are the "
        "same in all."
    )


def _card(comparison: Comparison, leak: Leak) -> LeakCard:
    task, where, pairs, answers, how = next(
        leak_rows({"tasks": [leak.to_json()], "searched": comparison.searched})
    )
    numbers = "" if leak.extent == "id" else f": {pairs} pairs, {answers} answers"
    matches = sorted(
        leak.closest.values(), key=lambda match: (match.found is None, not match.is_answer, match.number)
    )
    return LeakCard(
        id=task,
        extent=EXTENTS[leak.extent],
        words=f"of {comparison.sought}, stands in {comparison.searched}{f' as {where}' if where else ''}{numbers}, {how}",
        matches=tuple(_match_card(leak, match) for match in matches[:SHOWN_PAIRS]),
    )


def _match_card(leak: Leak, match: Match) -> MatchCard:
    number = match.number + 1 - (len(leak.task.train) if match.is_answer else 0)
    return MatchCard(
        caption=f"{'test' if match.is_answer else 'demonstration'} pair {number}",
        how=HOW[match.how],
        sought=_drawn(pairs_of(leak.task)[match.number]),
        found_in=match.found_in,
        found=None if match.found is None else _drawn(match.found),
    )


def _drawn(pair: Pair) -> Drawn:
    return picture(pair.input), picture_or_none(pair.output)
