"""Group runs that differ only in seeds and partitions; what differs between groups gives them their names.

In: finished runs. Out: the name of each run's group, in the order of the settings; reasons not to compare.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from arc_experiments.comparison.runs import RunResult
from arc_experiments.report.wording import plural

ABSENT = "(absent)"
MAX_RUNS_SHOWN = 3
MAX_TASKS_SHOWN = 5
# How long or how much is computed, which says less about a run than any other setting.
AMOUNTS = frozenset(
    ("max_steps", "epochs", "stop_after", "log_steps", "eval_steps", "save_steps", "warmup", "batch_size",
     "patience", "limit", "max_new_tokens", "batch_tokens", "cpu_seconds", "memory_megabytes", "force")
)  # fmt: skip


def differing(runs: Sequence[RunResult]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Find the settings in which runs differ.

    Returns:
        A row a run and a column a setting, where settings that always change together have one column;
        and the others of each column.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {key: [_hashable(run.settings.get(key, ABSENT)) for run in runs] for key in keys}
    together: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for key, column in values.items():
        numbers = {value: number for number, value in enumerate(dict.fromkeys(column))}
        if len(numbers) > 1:
            together[tuple(numbers[value] for value in column)].append(key)
    firsts = {min(names, key=_rank): names for names in together.values()}
    frame = pd.DataFrame(
        {key: pd.Series(values[key], dtype=object) for key in sorted(firsts)}, range(len(runs))
    )
    return frame, {first: sorted(set(firsts[first]) - {first}) for first in frame}


def sorted_runs(runs: Sequence[RunResult], settings: pd.DataFrame) -> tuple[list[RunResult], list[str]]:
    """Runs in the order of their settings and seeds, and the name of each one's group."""
    short = [short_name(key) for key in settings]
    names = [key if short.count(last) > 1 else last for key, last in zip(settings, short, strict=True)]

    places = sorted(
        range(len(runs)),
        key=lambda place: [
            order(value) for value in (*settings.iloc[place], *(drawn for _, drawn in runs[place].draws))
        ],
    )
    groups = [
        ", ".join(
            f"{name}={in_words(value)}" for name, value in zip(names, settings.iloc[place], strict=True)
        )
        for place in places
    ]
    return [runs[place] for place in places], [group or "all runs" for group in groups]


def named_runs(
    runs: Sequence[RunResult], names: Mapping[RunResult, str]
) -> tuple[list[RunResult], list[str]]:
    """Runs in the order of the groups that they are given and of their seeds, and each one's group."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names.values()))}
    found = sorted(runs, key=lambda run: (places[names[run]], [order(drawn) for _, drawn in run.draws]))
    return found, [names[run] for run in found]


def without_repetitions(
    runs: Sequence[RunResult], names: Mapping[RunResult, str]
) -> tuple[list[RunResult], list[RunResult]]:
    """Separate the first run of each config and seeds from its repetitions, which say nothing new.

    Args:
        names: the groups of runs, if they are given: runs of two groups are no repetitions.
    """
    first: dict[Any, RunResult] = {}
    again = []
    for run in runs:
        # Partition seeds that give the same partition (an official split, say) are not another draw.
        others = [draw for draw in run.draws if draw not in run.partition_draws]
        identity = _hashable(
            [names.get(run), run.settings, others, run.partition.get("hash", run.partition_draws)]
        )
        if first.setdefault(identity, run) is not run:
            again.append(run)
    return list(first.values()), again


def conflicts(runs: Sequence[RunResult], metric: str) -> list[str]:
    """Reasons why the numbers of these runs do not mean the same thing, one a line."""
    found = [
        _difference("metrics of other versions", runs, lambda run: f"version {run.metrics_version}"),
        _difference("other leak settings", runs, lambda run: f"data.leaks={run.settings.get('data.leaks')}"),
        _difference_of_lists("other tasks that leaked into training", runs, lambda run: _leaked(run, metric)),
    ]
    by_draw: dict[Any, list[RunResult]] = defaultdict(list)
    for run in runs:
        by_draw[run.partition_draws].append(run)
    for draws, same in by_draw.items():
        name = f"other task lists under {', '.join(f'{key}={value}' for key, value in draws)}"
        found.append(_difference_of_lists(name, same, lambda run: frozenset(run.task_ids(metric))))
    return [line for line in found if line]


def remarks(runs: Sequence[RunResult], metric: str) -> list[str]:
    """Sentences on other differences that a reader may want to know."""
    found = [
        _difference("Weights of another ancestry", runs, _ancestry),
        _difference("Other versions of the code", runs, lambda run: f"commit {str(run.commit)[:8]}"),
    ]
    if metric.startswith("validation.") and metric.endswith("token_mean"):
        settings = ("prompt.name", "model.path", "model.vocabulary")
        found.append(
            _difference(
                "Losses a token of other prompts or vocabularies, whose tokens are not the same",
                runs,
                lambda run: ", ".join(str(run.settings.get(key)) for key in settings),
            )
        )
    leaked = {task for run in runs for task in _leaked(run, metric)}
    if leaked:
        found.append(
            f"Scores may be too high: {plural(len(leaked), 'task')} stood in training, whole or in part "
            "(each run's leaks.json says how much)"
        )
    return [f"{line}." for line in found if line]


def short_name(key: str) -> str:
    """model.lora.rank -> rank; model.name -> model, as it is typed."""
    return key.removesuffix(".name").rpartition(".")[2]


def in_words(value: Any) -> str:
    """As it would be typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(in_words(one) for one in value)}]"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def _leaked(run: RunResult, metric: str) -> frozenset[str]:
    return frozenset(run.metrics.get("leaked_tasks", ())) & frozenset(run.task_ids(metric))


def _ancestry(run: RunResult) -> str:
    """What is known of the tasks that the weights were trained on before."""
    if run.leaks.get("policy") == "ignore":
        return "not checked"
    counts = run.leaks.get("ancestry", {}).get("counts")
    return "none known" if counts is None else f"{plural(counts['leaks'], 'validation task')} in it"


def _difference(name: str, runs: Sequence[RunResult], fact: Callable[[RunResult], str]) -> str:
    """Say which runs have which value of a fact; "" if all have the same."""
    holders: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        holders[fact(run)].append(run)
    if len(holders) < 2:
        return ""
    return f"{name}: {'; '.join(f'{value} in {_names(holding)}' for value, holding in holders.items())}"


def _difference_of_lists(
    name: str, runs: Sequence[RunResult], tasks: Callable[[RunResult], frozenset[str]]
) -> str:
    """Say which runs have which list of tasks, and which tasks are not in all."""
    lists = [tasks(run) for run in runs]
    apart = sorted(frozenset().union(*lists) - lists[0].intersection(*lists))
    if not apart:
        return ""
    holders: dict[frozenset[str], list[RunResult]] = defaultdict(list)
    for run, ids in zip(runs, lists, strict=True):
        holders[ids].append(run)
    parts = "; ".join(f"{plural(len(ids), 'task')} in {_names(holding)}" for ids, holding in holders.items())
    return f"{name}: {parts}. Not in all: {_shortened(apart, MAX_TASKS_SHOWN)}"


def _names(runs: Sequence[RunResult]) -> str:
    return _shortened([run.name for run in runs], MAX_RUNS_SHOWN)


def _shortened(names: Sequence[str], most: int) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _rank(key: str) -> tuple[bool, bool, bool, int, str]:
    """Put the most telling setting first: the run's own, names, no amounts, short keys."""
    is_amount = key.rpartition(".")[2] in AMOUNTS
    return key.startswith("from_run."), not key.endswith(".name"), is_amount, key.count("."), key


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(one)) for key, one in value.items())
    return tuple(_hashable(one) for one in value) if isinstance(value, list | tuple) else value


def order(value: Any) -> tuple[int, float, str]:
    """Null first, then numbers by size, then words."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, int | float):
        return 1, float(value), ""
    return 2, 0.0, str(value)
