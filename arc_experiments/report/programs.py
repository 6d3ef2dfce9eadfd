"""Programs in words and colours: their numbers for terminal and page, and the programs behind the attempts.

In: `score.programs` of metrics.json, and `programs.jsonl`. Out: rows, sentences, HTML.
"""

import keyword
import re
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup, escape

from arc_experiments.report.wording import percent, percent_range, plural

HEADINGS = ("sampled", "valid", "distinct", "verified", "95% interval", "right", "95% interval")
CAPTION = (
    "means over tasks: valid and distinct are numbers of programs, verified and right shares of tasks with at "
    "least one (unbiased pass@n)"
)
# Parts of a program, by elements with short names: a page may hold hundreds of programs.
PARTS = re.compile(
    r"(?P<i>\"[^\"\n]*\"|'[^'\n]*'|\b\d+(?:\.\d+)?\b)"  # strings and numbers
    r"|(?P<s>\#[^\n]*)"  # comments
    rf"|(?P<b>\b(?:{'|'.join(keyword.kwlist)})\b|\b[^\W\d]\w*(?=\())",  # keywords, and what is called
)


def program_rows(programs: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of `HEADINGS`: a row for each number of programs sampled for a task."""
    return [
        (
            f"{row['sampled']:,}",
            f"{row['valid']:.1f}",
            f"{row['distinct']:.1f}",
            percent(row["verified"]),
            percent_range(row["interval"]["verified"]),
            percent(row["right"]),
            percent_range(row["interval"]["right"]),
        )
        for row in programs["by_num_sampled"]
    ]


def program_sentences(programs: dict[str, Any]) -> Iterator[str]:
    """What became of the programs, how far verification can be trusted, and why programs failed."""
    yield (
        f"{plural(programs['sampled'], 'program')} for {plural(programs['num_tasks'], 'task')}: "
        f"{programs['distinct']:,} distinct; of all, {programs['valid']:,} gave a grid for every demonstration, "
        f"{programs['verified']:,} the right ones (verified), {programs['right']:,} all test outputs"
    )
    wrong = programs["verified_wrong"]
    if wrong["programs"]:
        yield (
            f"verified and wrong on a test: {wrong['wrong']:,} of "
            f"{plural(wrong['programs'], 'distinct program')}; no verified program right: "
            f"{wrong['tasks_wrong']:,} of {plural(wrong['tasks'], 'task')} that have one"
        )
    if programs["reasons"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in programs["reasons"].items())
        yield f"programs without a grid for some demonstration: {reasons}"


def highlighted(text: str) -> Markup:
    """The program as HTML; its language must look like Python."""
    pieces, end = [], 0
    for match in PARTS.finditer(text):
        pieces += [
            escape(text[end : match.start()]),
            Markup("<{0}>{1}</{0}>").format(match.lastgroup, match[0]),
        ]
        end = match.end()
    return Markup("").join([*pieces, escape(text[end:])])
