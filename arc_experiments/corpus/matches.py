"""What was found: a match is a pair, a leak a task, a comparison two sets. All have a JSON form."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from arc_experiments.corpus.pair_keys import BY_ID, HOWS
from arc_experiments.tasks import Pair, Task

NUM_NAMED = 10  # tasks named in the JSON form, of those that a task stands in


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """A pair of a sought task that stands elsewhere.

    Attributes:
        number: of the pair in its task, demonstrations first.
        is_answer: a test pair, with the answer that is asked for.
        how: one of `HOWS`.
        found_in: id of the task that holds it; "" where only the pair is known.
        found: the pair that it is the same as, where that is known.
    """

    number: int
    is_answer: bool
    how: str
    found_in: str = ""
    found: Pair | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Leak:
    """A sought task that stands elsewhere, with all of its pairs or some."""

    task: Task
    matches: tuple[Match, ...]

    @cached_property
    def closest(self) -> dict[int, Match]:
        """By the number of each pair that was found: its closest match."""
        best: dict[int, Match] = {}
        for match in sorted(self.matches, key=lambda match: (match.number, HOWS.index(match.how))):
            best.setdefault(match.number, match)
        return best

    @property
    def extent(self) -> str:
        """`whole` (every pair was found), `part`, or `id`: no pair, but the task is known by its id."""
        found = sum(match.how != BY_ID for match in self.closest.values())
        return BY_ID if not found else "whole" if found == self.num_pairs else "part"

    @property
    def how(self) -> str:
        """The loosest of how its pairs are found: `identical` if all that are found are so."""
        return max((match.how for match in self.closest.values()), key=HOWS.index)

    @property
    def num_pairs(self) -> int:
        return len(self.task.train) + len(self.task.test)

    @property
    def num_answers(self) -> int:
        """Test pairs that were found."""
        return sum(match.is_answer for match in self.closest.values() if match.how != BY_ID)

    @property
    def found_in(self) -> tuple[str, ...]:
        """Ids of the tasks that hold it, those with most of its pairs first."""
        counts = Counter(match.found_in for match in self.matches if match.found_in)
        return tuple(sorted(counts, key=lambda task_id: (-counts[task_id], task_id)))

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task.id,
            "extent": self.extent,
            "how": self.how,
            "pairs": [sum(match.how != BY_ID for match in self.closest.values()), self.num_pairs],
            "answers": [self.num_answers, len(self.task.test)],
            "found_in": list(self.found_in[:NUM_NAMED]),
            "num_found_in": len(self.found_in),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The tasks of one set that stand in another.

    Attributes:
        sought, searched: what the two sets are called.
        num_cut_short: searched tasks of which only the first pairs were compared.
        num_by_id: searched tasks that make or draw their pairs and so are known by their ids.
        num_coincidences: pairs of tasks that share too little to mean anything.
    """

    sought: str
    searched: str
    num_tasks: int
    num_searched_tasks: int = 0
    num_searched_pairs: int = 0
    num_cut_short: int = 0
    num_by_id: int = 0
    num_coincidences: int = 0
    leaks: tuple[Leak, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Sought tasks by extent; `answers`: with a test pair; `identical`: cell for cell; `held_by`: searched ones."""
        extents = Counter(leak.extent for leak in self.leaks)
        by_content = [leak for leak in self.leaks if leak.extent != BY_ID]
        return {
            "tasks": self.num_tasks,
            "leaks": len(self.leaks),
            "whole": extents["whole"],
            "part": extents["part"],
            "by_id": extents[BY_ID],
            "answers": sum(leak.num_answers > 0 for leak in by_content),
            "demonstrations_only": sum(leak.num_answers == 0 for leak in by_content),
            "identical": sum(leak.how == HOWS[0] for leak in by_content),
            "held_by": len(self.found_in),
        }

    @property
    def found_in(self) -> set[str]:
        """Ids of all searched tasks that hold something of a sought one."""
        return {task_id for leak in self.leaks for task_id in leak.found_in}

    def to_json(self) -> dict[str, Any]:
        names = ("sought", "searched", "num_searched_tasks", "num_searched_pairs", "num_cut_short", "num_by_id",
                 "num_coincidences")  # fmt: skip
        return {
            **{name: getattr(self, name) for name in names},
            "counts": self.counts,
            "tasks": [leak.to_json() for leak in self.leaks],
        }


def pairs_of(task: Task) -> Sequence[Pair]:
    """All pairs, demonstrations first: a pair's number in a match is its place here."""
    return (*task.train, *task.test)
