"""Successive halving: train many configurations for a few steps, the better ones for more, and so on.

All rungs share one schedule, that of `optim.max_steps`: a run stops at a rung by `optim.stop_after`, and a
survivor resumes exactly where it stopped. Each rung's ranking is written to halving.json before any run
resumes, so the same command takes the same decisions again, whenever it was stopped.

Method: Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization (2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from arc_experiments.composing.freezing import stop_at
from arc_experiments.config.plurals import plural
from arc_experiments.halving.ranking import PASS_AT_2, rank, ranking_table, read_result, refuse_beyond
from arc_experiments.launching import worker
from arc_experiments.launching.pool import Pool, exit_code
from arc_experiments.launching.tables import show_table
from arc_experiments.runs.folder import FolderError, FolderTaken, RunFolder, read_object
from arc_experiments.runs.locks import locked
from arc_experiments.runs.run_state import DONE, FAILED

RECORD = "halving.json"
SEED_KEYS = ("seed=", "seeds.")  # overrides that distinguish the runs of one configuration


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """Steps after which a share `keep` of the configurations survives; the last ones train to `max_steps`."""

    steps: list[int]
    keep: float
    metric: str
    max_steps: int


def run_halving(
    folders: Sequence[RunFolder], sweep_folder: Path, pool: Pool, console: Console, rungs: Rungs
) -> int:
    """Run the jobs rung by rung; returns the exit code of a sweep.

    Raises:
        FolderError: the folder holds another halving, or runs trained beyond a rung that is not ranked yet.
        FolderTaken: another process runs this halving.
    """
    with locked(sweep_folder / ".halving.lock") as is_ours:
        if not is_ours:
            raise FolderTaken(f"{sweep_folder}: another process runs this halving: wait for it, or stop it")
        runs = configurations(folders)
        record = _Record(RunFolder(sweep_folder), rungs, runs)
        alive, is_over = list(runs), True
        for steps in [*rungs.steps, rungs.max_steps]:
            is_last = steps == rungs.max_steps
            if len(alive) == 1 and not is_last:
                continue  # there is nothing to decide
            title = plural(steps, "step") + (", the end" if is_last else f" of {rungs.max_steps}")
            if steps not in record.ranked:
                console.print(f"{title}: {', '.join(alive)}", markup=False)
                taking_part = [run for name in alive for run in runs[name]]
                _train_to(steps, taking_part, sweep_folder, pool, is_last=is_last)
                is_over = _is_complete(taking_part, pool, is_last=is_last) and record.add(alive, steps, pool)
                if not is_over:
                    console.print("This rung is not ranked yet: the same command runs what is missing.")
                    break
            rung = record.ranked[steps]
            heading = f"mean {rungs.metric}{_part_asked(folders) if rungs.metric == PASS_AT_2 else ''}"
            console.print(ranking_table(rung["ranking"], heading, title, is_last=is_last))
            for note in rung["notes"]:
                console.print(note, markup=False)
            alive = [row["configuration"] for row in rung["ranking"] if row["goes_on"]]
        show_table(folders, sweep_folder, pool.state, console)
        return exit_code(folders, pool) or (worker.DONE if is_over else worker.FAILED)


def _part_asked(runs: Sequence[RunFolder]) -> str:
    """`, 16 of 100 tasks asked` if the scores are over a part, which is the same for all runs."""
    from arc_experiments.scoring.metrics import tasks_asked  # loads numpy, which `--help` does not need

    asked = (tasks_asked(read_object(run / "metrics.json")) for run in runs)
    return next((f", {part}" for part in asked if part), "")


def _train_to(
    steps: int, runs: Sequence[RunFolder], sweep_folder: Path, pool: Pool, *, is_last: bool
) -> None:
    for run in runs:  # all, before any is changed
        refuse_beyond(run, steps)
    for run in runs:
        stop_at(run, None if is_last else steps)
    pool.run(runs, sweep_folder)


def configurations(folders: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Group the runs by the overrides that not all of them share, leaving out seeds: `model.lora.rank=8`."""
    typed = {folder: folder.read_json("environment.json")["command"] for folder in folders}
    shared = set.intersection(*(set(command) for command in typed.values()))
    groups: dict[str, list[RunFolder]] = {}
    for folder, command in typed.items():
        own = [text for text in command if text not in shared and not text.startswith(SEED_KEYS)]
        groups.setdefault(" ".join(own) or "all", []).append(folder)
    return groups


def _is_complete(runs: Sequence[RunFolder], pool: Pool, *, is_last: bool) -> bool:
    """Whether every run of a rung is done, or has failed where the others may be ranked without it."""
    states = {pool.state(run).name for run in runs}
    return states == {DONE} or (states == {DONE, FAILED} and not (pool.fail_fast or is_last))


class _Record:
    """halving.json: the settings, the runs, and the rungs ranked so far."""

    def __init__(self, sweep: RunFolder, rungs: Rungs, runs: dict[str, list[RunFolder]]) -> None:
        self._sweep, self._rungs, self._runs = sweep, rungs, runs
        self._settings: dict[str, Any] = {
            "rungs": [*rungs.steps, rungs.max_steps],
            "keep": rungs.keep,
            "metric": rungs.metric,
            "runs": {name: [run.path.name for run in each] for name, each in runs.items()},
        }
        before = read_object(sweep / RECORD)
        changed = [name for name, value in self._settings.items() if before and before.get(name) != value]
        if changed:
            raise FolderError(
                f"{sweep}/{RECORD} holds another halving (other {', '.join(changed)}). Name another folder: "
                "hydra.sweep.dir=..."
            )
        self.ranked: dict[int, dict[str, Any]] = {rung["steps"]: rung for rung in before.get("ranked", [])}

    def add(self, alive: Sequence[str], steps: int, pool: Pool) -> bool:
        """Rank the configurations and write the ranking. False: none of them can go on."""
        metric = self._rungs.metric
        results = [
            read_result(
                name, [(run, pool.state(run)) for run in self._runs[name]], metric=metric, steps=steps
            )
            for name in alive
        ]
        rows, notes = rank(results, keep=self._rungs.keep, metric=metric)
        if not any(row["goes_on"] for row in rows):
            return False
        ranked = {**self.ranked, steps: {"steps": steps, "ranking": rows, "notes": notes}}
        self._sweep.write_json(RECORD, {**self._settings, "ranked": list(ranked.values())})
        self.ranked = ranked
        return True
