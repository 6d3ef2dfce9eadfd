"""Whether what a run validates on stands in what it trains on, or in what its weights were trained on before."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from arc_experiments.report.format import plural
from arc_experiments.report.leaks import COMPARED, examples, sentence
from arc_experiments.run import Run

FILE = "leaks.json"
ADVICE = {
    "training": "data.leaks=drop would leave {} out of training; job=audit shows the pairs",
    "ancestry": "what weights were trained on stays in them: scores on these tasks say too much",
}

Found = dict[str, Any]


def look_for_leaks(run: Run, *, trains: bool) -> Found:
    """Compare, and write down what was found in leaks.json; nothing is looked at under `data.leaks=ignore`.

    Args:
        trains: the run's own training tasks are compared, not only its weights' ancestry.

    Raises:
        ValueError: something was found under `data.leaks=refuse`.
    """
    policy, parent = run.config.data.leaks, run.weights.parent
    found: Found = {"policy": policy}
    if policy != "ignore" and trains:
        found["training"] = run.corpus.leaks.to_json()
        if policy == "drop":
            found["training"]["num_dropped"] = len(run.corpus.dropped)
    if policy != "ignore" and parent is not None:
        found["ancestry"] = parent.leaks(run.validation_tasks).to_json()
    run.folder.write_json(FILE, found)
    if policy == "refuse" and any(True for _ in _remaining(found)):
        raise ValueError(f"data.leaks=refuse: {_words(found)}. data.leaks=warn goes on all the same")
    return found


def show_leaks(found: Found, console: Console) -> None:
    """What was found, and what can be done about it."""
    if any(found[name]["counts"]["leaks"] for name in COMPARED if name in found):
        console.print("[yellow]leaks[/]        ", end="")
        console.print(_words(found), markup=False)


def leak_metrics(found: Found) -> dict[str, Any]:
    """For metrics.json: the tasks whose scores say too much, and counts by comparison."""
    leaked = {leak["task"] for _, one in _remaining(found) for leak in one["tasks"]}
    counts = {
        name: {**found[name]["counts"], "dropped": found[name].get("num_dropped", 0)}
        for name in COMPARED
        if name in found
    }
    return {"leaked_tasks": sorted(leaked), "leaks": counts}


def _remaining(found: Found) -> Iterator[tuple[str, dict[str, Any]]]:
    """The comparisons, by name, in which something was found that was not dropped."""
    for name in COMPARED:
        if name in found and found[name]["counts"]["leaks"] and "num_dropped" not in found[name]:
            yield name, found[name]


def _words(found: Found) -> str:
    lines = [
        f"{sentence(found[name])} {examples(found[name])}"
        for name in COMPARED
        if name in found and found[name]["counts"]["leaks"]
    ]
    for name, one in _remaining(found):
        lines.append(ADVICE[name].format(plural(one["counts"]["held_by"], "task")))
    return "\n             ".join([*lines, f"All of them are listed in {FILE}"])
