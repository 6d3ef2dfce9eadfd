"""Benchmark: samples, training, generation and start-up of a composition on this machine."""

import os

from rich.console import Console

from arc_experiments.benchmarking.cells import collect, freeze_cells, plan, run_cell
from arc_experiments.benchmarking.picture import draw
from arc_experiments.benchmarking.tables import make_tables, markdown, rich_table
from arc_experiments.run import Run
from arc_experiments.run_folder import RunFolder

# A measurement of a machine with a slow disk or a slow step may take this much longer than its budget.
PATIENCE_FACTOR, PATIENCE_SECONDS = 10, 600


def main(folder: RunFolder, console: Console) -> None:
    """Measure what is not measured yet, cell by cell, and write everything after each."""
    if "RANK" in os.environ:
        raise ValueError("job=benchmark starts processes itself: start it by the plain command")
    run = Run(folder)
    command = folder.read_json("environment.json")["command"]
    cells = plan(folder, run.config, command[3:])
    waiting = [cell for cell in cells if cell.result is None]
    freeze_cells(waiting, run.node)
    max_seconds = run.config.benchmark.max_seconds
    console.print(
        f"{len(cells)} measurements, {len(cells) - len(waiting)} made already; each has {max_seconds:g} s "
        "and needs some more to set itself up"
    )
    for number, cell in enumerate(waiting, start=len(cells) - len(waiting) + 1):
        console.print(f"  {number}/{len(cells)} {cell.name}", markup=False)
        run_cell(cell, PATIENCE_SECONDS + PATIENCE_FACTOR * max_seconds)
        error = (cell.result or {}).get("error")
        if error:
            console.print(f"    {error}; see {cell.folder}/output.log", markup=False)
        results = collect(cells)
        folder.write_json("benchmark.json", results)
        folder.write("benchmark.md", markdown(results))
        folder.write("benchmark.svg", draw(results))
        folder.update_status(step=number, max_steps=len(cells))
    for table in make_tables(folder.read_json("benchmark.json")):
        console.print(rich_table(table))
    console.print(str(folder))
