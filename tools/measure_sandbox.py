"""Measure the sandbox: `python -m tools.measure_sandbox [pairs] [seed]`.

Runs RE-ARC's 400 solutions on so many new pairs each (default: 20) and compares what they give with what the
package itself gives; then counts programs per second in each language, three times. Nothing else should run
beside it.
"""

import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console

from arc_experiments.programs.languages.dsl import solution
from arc_experiments.programs.sandbox import Ran, Sandbox
from arc_experiments.sources import FixedDrawings, ReArc
from arc_experiments.sources.pools.generators import as_cells, verifier
from arc_experiments.tasks import BadTasks, Program
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.rngs import rng_for

CONSOLE = Console(highlight=False, soft_wrap=True)
SMALL = 10  # rows and columns of the grids that speed is measured on
TIMES = 3
NUMPY = """import numpy as np


def transform(grid):
    grid = np.array(grid)
    rows, columns = np.nonzero(grid != {number})
    grid[rows, columns] = grid[rows[::-1], columns]
    return np.rot90(grid, {number} % 4)
"""


def main(num_pairs: int = 20, seed: int = 0) -> None:
    """Print how many solutions agree, which do not, and the speeds."""
    programs, inputs = [], []
    source = ReArc().read(BadTasks())
    for number, task_id in enumerate(source.ids):
        program = solution(task_id)
        assert program is not None
        programs.append(program)
        inputs.append(list(islice(_inputs(source, number, seed), num_pairs)))
    with Sandbox() as sandbox:
        began = time.perf_counter()
        ran = sandbox.run(programs, inputs)
        seconds = time.perf_counter() - began
        wrong = {
            task_id: sum(map(_differs, _outputs(task_id, grids), one.outcomes))
            for task_id, grids, one in zip(source.ids, inputs, ran, strict=True)
        }
        wrong = {task_id: times for task_id, times in wrong.items() if times}
        CONSOLE.print(
            f"{len(programs) - len(wrong)} of {len(programs)} solutions gave what the package gives on "
            f"{num_pairs} pairs each; others (pairs): {wrong or 'none'}; {seconds:.0f} s"
        )
        few = [[grid for grid in grids if max(grid.shape) <= SMALL][:1] for grids in inputs]
        small = [(program, grids) for program, grids in zip(programs, few, strict=True) if grids]
        _print_speed(sandbox, "dsl", small * 8)
        _print_speed(sandbox, "draw", _drawings(3000, seed))
        grids = [grid for one in few for grid in one][:4]
        _print_speed(
            sandbox,
            "python",
            [(Program(language="python", text=NUMPY.format(number=n)), grids) for n in range(800)],
        )


def _inputs(source: Any, number: int, seed: int) -> Iterator[Grid]:
    visit = 0
    while True:
        task = source.draw(number, rng_for("sandbox", seed, number, visit))
        yield from (pair.input for pair in [*task.train, *task.test])
        visit += 1


def _outputs(task_id: str, grids: list[Grid]) -> Iterator[Grid]:
    solve = verifier(task_id)
    return (np.array(solve(as_cells(grid))) for grid in grids)


def _differs(right: Grid, outcome: Any) -> bool:
    return outcome.grid is None or not np.array_equal(outcome.grid, right)


def _drawings(number: int, seed: int) -> list[tuple[Program, list[Grid]]]:
    tasks = FixedDrawings(num_draws=[5], num_tasks=number, seed=seed, side=[5, SMALL]).read(BadTasks()).fixed
    return [(task.program, [task.test[0].input]) for task in tasks if task.program is not None]


def _print_speed(sandbox: Sandbox, language: str, work: list[tuple[Program, list[Grid]]]) -> None:
    programs, inputs = [program for program, _ in work], [grids for _, grids in work]
    sandbox.run(programs[:10], inputs[:10])  # starts the interpreters
    speeds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ran: list[Ran] = sandbox.run(programs, inputs)
        speeds.append(len(work) / (time.perf_counter() - began))
        assert all(outcome.grid is not None for one in ran for outcome in one.outcomes)
    cores = len(os.sched_getaffinity(0))
    each = ", ".join(f"{speed:,.0f}" for speed in speeds)
    CONSOLE.print(
        f"{language}: {each} programs/s on {cores} cores ({len(work):,} programs, {len(inputs[0])} inputs)"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
