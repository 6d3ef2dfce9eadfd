"""A rung of successive halving: which configurations go on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from arc_experiments.launching.tables import number_at
from arc_experiments.runs.folder import FolderError, RunFolder
from arc_experiments.runs.run_state import DONE, RunState
from arc_experiments.scoring.metrics import in_todays_terms

LOSS, PASS_AT_2 = "validation_loss", "pass_at_2"
# Where metrics.json has them, and by what a smaller number is always the better one.
PLACES = {LOSS: ("validation", "loss", "token_mean"), PASS_AT_2: ("score", "pass_at_2")}
SIGNS = {LOSS: 1, PASS_AT_2: -1}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a configuration's runs have come to.

    Args:
        values, losses: the metric and the validation loss of each run by its name.
        failed: why the others have none.
    """

    configuration: str
    values: dict[str, float]
    losses: dict[str, float]
    failed: dict[str, str]

    @property
    def value(self) -> float | None:
        """The mean over the seeds; None where one of them is missing, which would flatter the others or wrong them."""
        return None if self.failed else fmean(self.values.values())


def refuse_beyond(run: RunFolder, steps: int) -> None:
    """Nothing where a run can still be ranked at a rung.

    Raises:
        FolderError: it has been trained beyond it.
    """
    trained = {"steps": run.status.get("step", 0)}
    if run.is_done:
        trained = run.read_json("metrics.json")["train"]
    if trained["steps"] > steps:
        _refuse_other(run, trained, steps)


def _refuse_other(run: RunFolder, trained: dict[str, Any], steps: int) -> None:
    if trained["steps"] != steps and not trained.get("stopped_early", False):
        raise FolderError(
            f"{run} has been trained for {trained['steps']} steps, and the rung that is to be ranked is at {steps}: "
            "name another sweep folder (hydra.sweep.dir=...)"
        )


def read_standing(
    configuration: str, runs: Sequence[tuple[RunFolder, RunState]], *, metric: str, steps: int
) -> Standing:
    """From the runs' metrics.json.

    Raises:
        FolderError: a run has been trained to another step than that of the rung.
    """
    values, losses, failed = {}, {}, {}
    for run, state in runs:
        name = run.path.name
        if state.name != DONE:
            failed[name] = state.text
            continue
        metrics = in_todays_terms(run.read_json("metrics.json"))
        _refuse_other(run, metrics["train"], steps)
        found = {key: number_at(metrics, place) for key, place in PLACES.items()}
        value = found[metric]
        if value is None or not math.isfinite(value):
            failed[name] = f"its {metric} is {value}"
        else:
            values[name], losses[name] = value, found[LOSS] or math.inf
    return Standing(configuration=configuration, values=values, losses=losses, failed=failed)


def rank(
    standings: Sequence[Standing], *, keep: float, metric: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a ranking, best first, and what there is to say of it.

    Ties are broken by the validation loss, then by the order of the sweep. A configuration with a failed run is last
    and does not go on.
    """

    def key(standing: Standing) -> tuple[float, float]:
        assert standing.value is not None
        return SIGNS[metric] * standing.value, fmean(standing.losses.values())

    ranked = sorted((standing for standing in standings if not standing.failed), key=key)
    broken = [standing for standing in standings if standing.failed]
    num_kept = max(1, math.ceil(round(keep * len(standings), 9)))
    notes = [
        f"out: {standing.configuration}: {name}: {why}"
        for standing in broken
        for name, why in standing.failed.items()
    ]
    if len(ranked) > num_kept and ranked[num_kept - 1].value == ranked[num_kept].value:
        last, next_one = ranked[num_kept - 1], ranked[num_kept]
        by = "the order of the sweep" if key(last) == key(next_one) else "the validation loss"
        notes.append(
            f"tie: {last.configuration} and {next_one.configuration} have the same {metric}; {by} decided"
        )
    rows = [
        {
            "configuration": standing.configuration,
            "value": standing.value,
            "values": standing.values,
            "failed": standing.failed,
            "goes_on": place < num_kept and not standing.failed,
        }
        for place, standing in enumerate([*ranked, *broken])
    ]
    return rows, notes


def ranking_table(rows: Sequence[dict[str, Any]], metric: str, title: str, *, is_last: bool) -> Table:
    """The ranking of a rung; at the last one nobody goes on, and the first has won."""
    table = Table("", "configuration", f"mean {metric}", "runs", "", title=title, title_justify="left")
    for place, row in enumerate(rows, start=1):
        outcome = "goes on" if row["goes_on"] else "out"
        if is_last:
            outcome = "best" if place == 1 else ""
        table.add_row(
            str(place),
            row["configuration"],
            "" if row["value"] is None else f"{row['value']:.4f}",
            ", ".join(f"{value:.4f}" for value in row["values"].values()),
            "failed" if row["failed"] else outcome,
        )
    return table
