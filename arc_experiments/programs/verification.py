"""Verify programs: whether each gives the output of every demonstration, and what it gives for the tests.

verdict, = verify(sandbox, [(task, Program(language="draw", text="pixel(3,0,0)"))])
verdict.verified, verdict.tests[0].grid
"""

from collections.abc import Sequence
from dataclasses import dataclass

from arc_experiments.programs.sandbox import Outcome, Sandbox
from arc_experiments.tasks.grids import share_of_right_cells
from arc_experiments.tasks.task import Program, Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What a program gave on a task.

    Attributes:
        demonstrations: whether it gave the output of each.
        right_cells: mean over the demonstrations of its share of right cells, 0 for another shape or none.
        outcomes: of the demonstrations.
        tests: outcomes of the test inputs.
    """

    demonstrations: tuple[bool, ...]
    right_cells: float
    outcomes: tuple[Outcome, ...]
    tests: tuple[Outcome, ...]

    @property
    def verified(self) -> bool:
        """Whether it gave the output of every demonstration."""
        return bool(self.demonstrations) and all(self.demonstrations)


def verify(sandbox: Sandbox, work: Sequence[tuple[Task, Program]]) -> list[Verdict]:
    """Run each program on its task's demonstrations and test inputs; test outputs are not looked at."""
    inputs = [[pair.input for pair in (*task.train, *task.test)] for task, _ in work]
    ran = sandbox.run([program for _, program in work], inputs)
    return [_verdict(task, one.outcomes) for (task, _), one in zip(work, ran, strict=True)]


def _verdict(task: Task, outcomes: tuple[Outcome, ...]) -> Verdict:
    count = len(task.train)
    shares = [
        share_of_right_cells(outcome.grid, pair.output)
        for outcome, pair in zip(outcomes[:count], task.train, strict=True)
    ]
    return Verdict(
        demonstrations=tuple(share == 1 for share in shares),
        right_cells=sum(shares) / max(1, count),
        outcomes=outcomes[:count],
        tests=outcomes[count:],
    )
