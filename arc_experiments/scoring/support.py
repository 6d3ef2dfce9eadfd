"""What programs say for a grid: how many gave it, and how far they can be believed.

A program that gives the output of every demonstration is nearly always right on the test, so its outputs
come first. One that does not may still be nearly right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from arc_experiments.programs.languages import language
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks.task import Program


@dataclass(frozen=True, kw_only=True)
class Support:
    """The programs behind a grid. Two are distinct if they differ in normal form or view.

    Attributes:
        num_answers: candidates that answered the grid itself.
        num_verified: distinct verified programs that gave it.
        shortest: length of the shortest of them, 0 if there is none (see `Language.length`).
        best: demonstrations, then share of cells, that the best program got right.
        num_programs: distinct programs that gave it.
    """

    num_answers: int
    num_verified: int
    shortest: int
    best: tuple[int, float]
    num_programs: int


def support(group: Iterable[Candidate]) -> Support | None:
    """Sum up the programs among the candidates of one grid; None if there are none."""
    answers = [(one.view, one.program) for one in group]
    programs = {(view, one.program): one for view, one in answers if one is not None}
    if not programs:
        return None
    verified = [one.program for one in programs.values() if one.verified]
    return Support(
        num_answers=sum(one is None for _, one in answers),
        num_verified=len(verified),
        shortest=min(map(_length, verified), default=0),
        best=max((sum(one.demonstrations), one.right_cells) for one in programs.values()),
        num_programs=len(programs),
    )


def best_program(group: Iterable[Candidate]) -> Candidate | None:
    """The candidate of the program that says most for its grid: more demonstrations right, then cells, then
    the shorter; None if no program gave the grid.
    """

    def order(one: Candidate) -> tuple[float, ...]:
        assert one.program is not None
        right = sum(one.program.demonstrations)
        return -right, -one.program.right_cells, _length(one.program.program), one.view, one.sample

    return min((one for one in group if one.program is not None), key=order, default=None)


@lru_cache(maxsize=2**16)
def _length(program: Program) -> int:
    return language(program.language).length(program.text)
