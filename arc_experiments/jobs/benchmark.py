"""Benchmark a composition on this machine: samples, loading, training, generation and scoring."""

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from arc_experiments.benchmarking.plan import Cell, collect, freeze_cells, plan, run_cell
from arc_experiments.benchmarking.show import draw, markdown
from arc_experiments.run import Run
from arc_experiments.runs.folder import RunFolder

# A cell is killed after max_seconds * factor + seconds: slow disks and steps take longer than the budget.
PATIENCE_FACTOR, PATIENCE_SECONDS = 10, 600


def main(run: Run, console: Console) -> None:
    """Measure the cells without a result, and write all files after each.

    Raises:
        RuntimeError: a measurement failed for another reason than memory.
    """
    if "RANK" in os.environ:
        raise ValueError("job=benchmark starts its own processes: start it without torchrun")
    folder = run.folder
    if run.corpus.rows:
        raise ValueError(
            f"job=benchmark measures samples of ARC tasks, and data={run.config.data.name} gives ready rows: "
            "choose other data; any row with as many tokens trains equally fast"
        )
    cells = plan(folder, run.config)
    waiting = [cell for cell in cells if cell.outcome in (None, "failed")]
    freeze_cells(waiting, run.config)
    max_seconds, done = run.config.benchmark.max_seconds, len(cells) - len(waiting)
    console.print(
        f"{len(cells)} measurements, {done} made already; each takes {max_seconds:g} s and some more to "
        "set up"
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
            "same command retries them"
        )
    console.print(str(folder), markup=False)


def _write(folder: RunFolder, cells: Sequence[Cell]) -> dict[str, Any]:
    """Write benchmark.json, its tables and its picture as far as there are results; return the first."""
    results = collect(cells)
    folder.write_json("benchmark.json", results)
    folder.write("benchmark.md", markdown(results))
    folder.write("benchmark.svg", draw(results).svg())
    return results
