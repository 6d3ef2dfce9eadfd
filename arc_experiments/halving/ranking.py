"""Ranks the configurations at a rung of successive halving, and decides which of them survive."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.markup import escape
from rich.table import Table

from arc_experiments.config.plurals import plural
from arc_experiments.launching.tables import number_at, plain_table
from arc_experiments.runs.folder import FolderError, RunFolder
from arc_experiments.runs.run_state import DONE, RunState

LOSS, PASS_AT_2 = "validation_loss", "pass_at_2"
KEYS = {LOSS: "validation.loss.token_mean", PASS_AT_2: "score.pass_at_2"}  # in metrics.json
SIGNS = {LOSS: 1, PASS_AT_2: -1}  # times the metric: smaller is better


@dataclass(frozen=True, kw_only=True)
class RungResult:
    """The results of one configuration's runs at a rung.

    Args:
        values, losses: the metric and the validation loss of each run that has them, by the run's name.
        failed: why the other runs have none.
    """

    configuration: str
    values: dict[str, float]
    losses: dict[str, float]
    failed: dict[str, str]

    @property
    def value(self) -> float | None:
        """The mean over the seeds; None if one is missing: the mean of the others would not compare."""
        return None if self.failed else fmean(self.values.values())


def refuse_beyond(run: RunFolder, steps: int) -> None:
    """Check that a run can still be ranked at a rung.

    Raises:
        FolderError: it has been trained beyond the rung.
    """
    trained = {"steps": run.status.get("step", 0)}
    if run.is_done:
        trained = run.read_json("metrics.json")["train"]
    if trained["steps"] > steps:
        _refuse_other(run, trained, steps)


def _refuse_other(run: RunFolder, trained: dict[str, Any], steps: int) -> None:
    if trained["steps"] != steps and not trained.get("stopped_early", False):
        raise FolderError(
            f"{run} has been trained for {plural(trained['steps'], 'step')}, and the rung that is to be "
            f"ranked is at {steps}: name another sweep folder (hydra.sweep.dir=...)"
        )


def read_result(
    configuration: str, runs: Sequence[tuple[RunFolder, RunState]], *, metric: str, steps: int
) -> RungResult:
    """Read a configuration's results from its runs' metrics.json.

    Raises:
        FolderError: a run has been trained for a number of steps other than the rung's.
    """
    from arc_experiments.scoring.metrics import in_todays_terms  # loads numpy, which `--help` does not need

    values, losses, failed = {}, {}, {}
    for run, state in runs:
        name = run.path.name
        if state.name != DONE:
            failed[name] = state.text
            continue
        metrics = in_todays_terms(run.read_json("metrics.json"))
        _refuse_other(run, metrics["train"], steps)
        value, loss = number_at(metrics, KEYS[metric]), number_at(metrics, KEYS[LOSS])
        if value is None or not math.isfinite(value):
            failed[name] = f"its {metric} is {value}"
        else:
            values[name], losses[name] = value, loss or math.inf
    return RungResult(configuration=configuration, values=values, losses=losses, failed=failed)


def rank(
    results: Sequence[RungResult], *, keep: float, metric: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rank configurations, best first; returns the rows of halving.json, and notes for the user.

    Ties are broken by the validation loss, then by the order of the sweep. A configuration with a failed run
    comes last and does not survive.
    """

    def key(result: RungResult) -> tuple[float, float]:
        assert result.value is not None
        return SIGNS[metric] * result.value, fmean(result.losses.values())

    ranked = sorted((result for result in results if not result.failed), key=key)
    broken = [result for result in results if result.failed]
    num_kept = max(1, math.ceil(round(keep * len(results), 9)))
    notes = [
        f"out: {result.configuration}: {name}: {why}"
        for result in broken
        for name, why in result.failed.items()
    ]
    if len(ranked) > num_kept and ranked[num_kept - 1].value == ranked[num_kept].value:
        last, next_one = ranked[num_kept - 1], ranked[num_kept]
        by = "the order of the sweep" if key(last) == key(next_one) else "the validation loss"
        notes.append(
            f"tie: {last.configuration} and {next_one.configuration} have the same {metric}; {by} decided"
        )
    rows = [
        {
            "configuration": result.configuration,
            "value": result.value,
            "values": result.values,
            "failed": result.failed,
            "goes_on": place < num_kept and not result.failed,
        }
        for place, result in enumerate([*ranked, *broken])
    ]
    return rows, notes


def ranking_table(rows: Sequence[dict[str, Any]], heading: str, title: str, *, is_last: bool) -> Table:
    """The ranking of a rung; at the last rung the first configuration has won.

    Args:
        heading: of the values.
    """
    table = plain_table("", "configuration", heading, "runs", "", title=title, title_justify="left")
    for place, row in enumerate(rows, start=1):
        outcome = "kept" if row["goes_on"] else "out"
        if is_last:
            outcome = "best" if place == 1 else ""
        table.add_row(
            str(place),
            escape(row["configuration"]),
            "" if row["value"] is None else f"{row['value']:.4f}",
            ", ".join(f"{value:.4f}" for value in row["values"].values()),
            "failed" if row["failed"] else outcome,
        )
    return table
