"""Benchmark: samples, loading, training, generation and scoring of a composition here."""

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from arc_experiments.benchmarking.plan import Cell, collect, freeze_cells, plan, run_cell
from arc_experiments.benchmarking.show import draw, markdown
from arc_experiments.run import Run
from arc_experiments.runs.folder import RunFolder

# A measurement of a machine with a slow disk or a slow step may take this much longer than its budget.
PATIENCE_FACTOR, PATIENCE_SECONDS = 10, 600


def main(run: Run, console: Console) -> None:
    """Measure what is not measured yet, cell by cell, and write everything after each.

    Raises:
        RuntimeError: a measurement failed, other than for memory.
    """
    if "RANK" in os.environ:
        raise ValueError("job=benchmark starts processes itself: start it by the plain command")
    folder = run.folder
    if run.corpus.rows:
        raise ValueError(
            f"job=benchmark measures samples of ARC tasks, and data={run.config.data.name} gives ready rows: "
            "choose other data; a row of so many tokens trains as fast as any other"
        )
    cells = plan(folder, run.config)
    waiting = [cell for cell in cells if cell.outcome in (None, "failed")]
    freeze_cells(waiting, run.config)
    max_seconds, done = run.config.benchmark.max_seconds, len(cells) - len(waiting)
    console.print(
        f"{len(cells)} measurements, {done} made already; each has {max_seconds:g} s and needs some more to "
        "set itself up"
    )
    results = _write(folder, cells)
    for number, cell in enumerate(waiting, start=done + 1):
        console.print(f"  {number}/{len(cells)} {cell.folder.path.name}", markup=False)
        run_cell(cell, PATIENCE_SECONDS + PATIENCE_FACTOR * max_seconds)
        error = (cell.result or {}).get("error")
        if error:
            console.print(f"    {error}; see {cell.folder}/output.log", markup=False)
        results = _write(folder, cells)
        folder.update_status(step=number, max_steps=len(cells))
    console.print(Markdown(markdown(results)))
    if results["num_failed"]:
        raise RuntimeError(
            f"{results['num_failed']} of {len(cells)} measurements failed, see {folder}/benchmark.md; the "
            "same command tries them again"
        )
    console.print(str(folder))


def _write(folder: RunFolder, cells: Sequence[Cell]) -> dict[str, Any]:
    """What there is of benchmark.json, its tables and its picture."""
    results = collect(cells)
    folder.write_json("benchmark.json", results)
    folder.write("benchmark.md", markdown(results))
    folder.write("benchmark.svg", draw(results).svg())
    return results
