"""Put a comparison into words: tables of text, and sentences on what the runs can and cannot show.

In: `ComparedRuns`. Out: titles with tables of text, the same for every kind of output, and sentences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arc_experiments.comparison.contrasts import less_is_better, verdict
from arc_experiments.comparison.result import ComparedRuns
from arc_experiments.report.wording import BY_KAGGLE, KAGGLE, NO_VALUE, duration, number, plural

MINUS = "\N{MINUS SIGN}"
NEW_SEEDS, NEW_TASKS, ONLY_TASKS = "seeds", "seeds, tasks", "tasks only"
COUNTS = ("score.num_", "score.invalid.", "score.version")
MAX_VALUES_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class MetricFormat:
    """Writes the numbers of a metric: fractions in percent, everything else with four digits."""

    metric: str

    @property
    def is_share(self) -> bool:
        return self.metric.startswith("score.") and not self.metric.startswith(COUNTS)

    @property
    def noun(self) -> str:
        """What `size` counts: " points", or nothing."""
        return " points" if self.is_share else ""

    def value(self, value: float) -> str:
        """0.125 -> "12.5%"."""
        return f"{self.size(value)}{'%' * self.is_share}"

    def size(self, value: float) -> str:
        """0.125 -> "12.5", in `noun`s."""
        return number(100 * value, 1) if self.is_share else f"{value:.4g}".replace("-", MINUS)

    def change(self, value: float) -> str:
        """0.125 -> "+12.5", 0 -> "0.0"."""
        size = self.size(abs(value))
        return size if not float(size.replace(MINUS, "-")) else f"{'+' if value > 0 else MINUS}{size}"

    def interval(self, row: Any, target: str, *, signed: bool = False) -> str:
        """[10.0, 12.5], or a dash if there is none."""
        ends = self.ends(row, target, signed=signed)
        return NO_VALUE if ends is None else f"[{', '.join(map(self.change if signed else self.size, ends))}]"

    def ends(self, row: Any, target: str, *, signed: bool = False) -> tuple[float, float] | None:
        """Ends of a row's interval; a share stays between 0 and 1, whatever the arithmetic says."""
        low, high = row[f"{target}_low"], row[f"{target}_high"]
        if pd.isna(low):
            return None
        return (max(0.0, low), min(1.0, high)) if self.is_share and not signed else (low, high)


def tables(compared: ComparedRuns) -> Iterator[tuple[str, pd.DataFrame]]:
    """Groups, differences, tasks, what differs, unfinished runs: titles and tables, those with rows."""
    words, first = MetricFormat(metric=compared.metric), compared.groups.group[0]
    about = ", ".join(filter(None, (direction(compared.metric), compared.asked)))
    part = f" ({compared.asked})" if compared.asked else ""
    yield f"{compared.metric} ({about})", _groups(compared, words)
    if len(compared.differences):
        yield f"Differences from {first}, on the same tasks{part}", _differences(compared, words)
    if "tasks_won" in compared.differences:
        yield f"Tasks better and worse than with {first}, these runs as they are{part}", _tasks(compared)
    if len(compared.settings):
        shown = compared.settings.copy()
        shown[["values", "changes with it"]] = shown[["values", "changes with it"]].map(_some)
        yield "What differs", shown
    if len(compared.unfinished):
        yield "Not finished, and in no number above", compared.unfinished


def sentences(compared: ComparedRuns) -> Iterator[str]:
    """What the numbers mean, and what these runs can and cannot show."""
    groups, differences, words = compared.groups, compared.differences, MetricFormat(metric=compared.metric)
    yield (
        f"95% intervals. New {NEW_SEEDS}: what other seeds of the same config would score on these tasks. "
        f"New {NEW_TASKS}: what they would score on other tasks like these."
    )
    if compared.metric.removeprefix("score.") in BY_KAGGLE:
        yield f"{compared.metric} follows {KAGGLE}."
    single = groups.group[groups.deviation.isna()]
    if len(single):
        yield (
            f"One run a task list says nothing about other seeds ({', '.join(single)}): an interval there "
            "holds the luck of the tasks alone, and a difference may be the luck of a seed. Add runs with "
            "other seeds (seed=1,2,3)."
        )
    if len(differences) and differences[["new_seeds_low", "new_tasks_low"]].notna().any(axis=None):
        yield (
            "Detectable: as many runs find a true difference of this size in 80 of 100 cases (the interval "
            "excludes 0). A smaller one may stay hidden: inconclusive does not mean equal."
        )
    elif pd.notna(groups.detectable[0]):
        yield (
            f"A second config with {plural(int(groups.runs[0]), 'run')} as far apart as these: on these "
            f"tasks a true difference of {words.size(groups.detectable[0])}{words.noun} would be found in 80 "
            "of 100 cases."
        )
    if groups.new_tasks_low.isna().all():
        yield (
            f"{compared.metric} is the same for all tasks or not known task by task: nothing can be said "
            "about new tasks."
        )
    if len(differences) > 1:
        yield (
            f"{plural(len(differences), 'difference')}, each with its own 95%: one in twenty such intervals "
            "excludes 0 by luck alone. Repeat what looks best of many with other seeds."
        )
    if len(differences) and differences.in_pairs_of_seeds.any():
        yield "Runs of the same seeds were paired, and those without a partner left out of the differences."


def direction(metric: str) -> str:
    """Which way is better, where the metric does not say it itself."""
    return "less is better" if less_is_better(metric) else "more is better"


def _groups(compared: ComparedRuns, words: MetricFormat) -> pd.DataFrame:
    rows = []
    for _, row in compared.groups.iterrows():
        alone = row.new_tasks_with_seeds is not None and not row.new_tasks_with_seeds
        rows.append(
            {
                "group": row.group,
                "runs": f"{row.runs}{f' on {row.task_lists} task lists' if row.task_lists > 1 else ''}",
                "mean": words.value(row.value),
                f"sd{',' * words.is_share}{words.noun}": _or_dash(row.deviation, words.size),
                f"new {NEW_SEEDS}": words.interval(row, "new_seeds"),
                f"new {NEW_TASKS}": words.interval(row, "new_tasks") + f" ({ONLY_TASKS})" * alone,
                "time a run": _or_dash(row.seconds, duration),
            }
        )
    return pd.DataFrame(rows)


def _differences(compared: ComparedRuns, words: MetricFormat) -> pd.DataFrame:
    """A row a target; only the first has the name and the difference."""
    rows = []
    for _, row in compared.differences.iterrows():
        names = {"group": row.group, words.noun.strip() or "difference": words.change(row.value)}
        tasks = NEW_TASKS if row.new_tasks_with_seeds else ONLY_TASKS
        for target, name in (("new_seeds", NEW_SEEDS), ("new_tasks", tasks)):
            if pd.notna(row[f"{target}_low"]):
                rows.append(
                    {
                        **names,
                        "for new": name,
                        "interval": words.interval(row, target, signed=True),
                        "detectable": words.size(row[f"{target}_detectable"]),
                        "verdict": verdict(row[f"{target}_low"], row[f"{target}_high"], compared.metric),
                    }
                )
                names = dict.fromkeys(names, "")
        if any(names.values()):
            nothing = dict.fromkeys(("for new", "interval", "detectable"), NO_VALUE)
            rows.append({**names, **nothing, "verdict": "too little varies to tell"})
    return pd.DataFrame(rows)


def _tasks(compared: ComparedRuns) -> pd.DataFrame:
    known = compared.differences.dropna(subset="tasks_won")
    names = {"group": "group", "tasks_won": "better", "tasks_lost": "worse", "tasks_same": "same"}
    shown = known[list(names)].astype(dict.fromkeys(list(names)[1:], int)).astype(str).rename(columns=names)
    return shown.assign(**{"sign test": known.sign_test_p.map("p = {:.2g}".format)})


def _or_dash(value: float, words: Any) -> str:
    return NO_VALUE if pd.isna(value) else words(value)


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:MAX_VALUES_SHOWN]) + (", ..." if len(texts) > MAX_VALUES_SHOWN else "")
