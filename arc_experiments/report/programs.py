"""Programs in words and colours: their numbers for terminal and page, and the programs behind the attempts.

In: `score.programs` of metrics.json, and `programs.jsonl`. Out: rows, sentences, HTML.
"""

import keyword
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from markupsafe import Markup, escape

from arc_experiments.report.gallery import difference
from arc_experiments.report.wording import percent, percent_range, plural
from arc_experiments.tasks.grids import Grid, check_grid
from arc_experiments.tasks.task import Program, Task, TaskSet

FILE = "programs.jsonl"

HEADINGS = ("sampled", "valid", "distinct", "verified", "95% interval", "right", "95% interval")
# Parts of a program, by elements with short names: a page may hold hundreds of programs.
PARTS = re.compile(
    r"(?P<i>\"[^\"\n]*\"|'[^'\n]*'|\b\d+(?:\.\d+)?\b)"  # strings and numbers
    r"|(?P<s>\#[^\n]*)"  # comments
    rf"|(?P<b>\b(?:{'|'.join(keyword.kwlist)})\b|\b[^\W\d]\w*(?=\())",  # keywords, and what is called
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownProgram:
    """A program behind attempts, as a line of `programs.jsonl` holds it.

    Attributes:
        attempts: which it gave: the position of the test output, and the number of the attempt, from 1.
        transforms: the name of the view that it was written for.
        length: in the steps of its language.
        outputs: what it gave for each demonstration, turned back by the view; a text says why there is no
            grid.
    """

    task_id: str
    attempts: tuple[tuple[int, int], ...]
    transforms: str
    program: Program
    length: int
    outputs: tuple[Grid | str, ...]

    def to_record(self) -> dict[str, Any]:
        return {
            "task": self.task_id,
            "attempts": self.attempts,
            "transforms": self.transforms,
            "language": self.program.language,
            "text": self.program.text,
            "length": self.length,
            "outputs": [one if isinstance(one, str) else one.tolist() for one in self.outputs],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read a record.

        Raises:
            ValueError: it is not whole.
        """
        try:
            return cls(
                task_id=record["task"],
                attempts=tuple((test_index, number) for test_index, number in record["attempts"]),
                transforms=record["transforms"],
                program=Program(language=record["language"], text=record["text"]),
                length=record["length"],
                outputs=tuple(one if isinstance(one, str) else check_grid(one) for one in record["outputs"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this line holds no whole program ({error})") from error


@dataclass(frozen=True, kw_only=True)
class ShownOutput:
    """What a program gave for a demonstration; `grid` is None if it is right, or if there is none."""

    is_right: bool
    words: str
    grid: Grid | None


@dataclass(frozen=True, kw_only=True)
class ProgramCard:
    """A program beside the grids of its task."""

    heading: str
    transforms: str
    code: Markup
    outputs: tuple[ShownOutput, ...]


def program_cards(programs: Iterable[ShownProgram], tasks: TaskSet) -> dict[str, list[ProgramCard]]:
    """The programs behind the attempts of each task."""
    cards: dict[str, list[ProgramCard]] = defaultdict(list)
    for one in programs:
        if one.task_id in tasks:
            cards[one.task_id].append(_card(one, tasks[one.task_id]))
    return cards


def _card(shown: ShownProgram, task: Task) -> ProgramCard:
    outputs = tuple(
        _output(given, pair.output) for given, pair in zip(shown.outputs, task.train, strict=False)
    )
    which = [
        f"attempt {number}" if len(task.test) == 1 else f"attempt {number} at test {test_index + 1}"
        for test_index, number in shown.attempts
    ]
    num_right = sum(output.is_right for output in outputs)
    return ProgramCard(
        heading=f"{', '.join(which)}: {shown.program.language}, length {shown.length}, "
        f"{num_right} of {plural(len(outputs), 'demonstration')} right",
        transforms=shown.transforms,
        code=highlighted(shown.program.text),
        outputs=outputs,
    )


def _output(given: Grid | str, expected: Grid | None) -> ShownOutput:
    if isinstance(given, str):
        return ShownOutput(is_right=False, words=given, grid=None)
    if expected is None or np.array_equal(given, expected):
        return ShownOutput(is_right=True, words="right", grid=None)
    return ShownOutput(is_right=False, words=difference(given, expected), grid=given)


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
        f"{programs['distinct']:,} distinct; of all, {programs['valid']:,} gave a grid for every "
        f"demonstration, {programs['verified']:,} the right ones (verified), {programs['right']:,} all test "
        "outputs"
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
