"""Runs of the same config under other seeds and partitions become a group; what differs between groups gives the names.

In: finished runs. Out: `Group`s in the order of their settings, and every reason not to compare these runs.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from arc_experiments.comparison.runs import RunResult
from arc_experiments.report.format import plural

ABSENT = "(absent)"
MAX_RUNS_SHOWN = 3
MAX_TASKS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Differing:
    """A setting that is not the same in all runs; `along` are those that change whenever it does."""

    key: str
    along: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one config.

    Attributes:
        choices: value of each `Differing` setting.
        name: the same in words.
    """

    name: str
    choices: tuple[tuple[str, Any], ...]
    runs: tuple[RunResult, ...]


def differing(runs: Sequence[RunResult]) -> tuple[Differing, ...]:
    """The settings in which these runs differ, those that always change together under one of them."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    by_pattern: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for key in keys:
        values = [_hashable(run.settings.get(key, ABSENT)) for run in runs]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        if len(numbers) > 1:
            by_pattern[tuple(numbers[value] for value in values)].append(key)
    found = []
    for names in by_pattern.values():
        first = min(names, key=_plainness)
        found.append(Differing(key=first, along=tuple(sorted(set(names) - {first}))))
    return tuple(sorted(found, key=lambda one: one.key))


def grouped(runs: Sequence[RunResult], keys: Sequence[Differing]) -> tuple[Group, ...]:
    """A group for each combination of values that occurs."""
    by_choice: dict[tuple[Any, ...], list[RunResult]] = defaultdict(list)
    for run in runs:
        by_choice[tuple(_hashable(run.settings.get(one.key, ABSENT)) for one in keys)].append(run)
    short = [short_name(one.key) for one in keys]
    names = [one.key if short.count(last) > 1 else last for one, last in zip(keys, short, strict=True)]
    ordered = sorted(by_choice, key=lambda choice: [_order(value) for value in choice])
    return tuple(
        Group(
            name=", ".join(f"{name}={in_words(value)}" for name, value in zip(names, choice, strict=True))
            or "all runs",
            choices=tuple((one.key, value) for one, value in zip(keys, choice, strict=True)),
            runs=tuple(sorted(by_choice[choice], key=lambda run: [_order(value) for _, value in run.draws])),
        )
        for choice in ordered
    )


def without_repetitions(runs: Sequence[RunResult]) -> tuple[list[RunResult], list[RunResult]]:
    """Runs of the same settings and seeds give the same numbers: one of each counts, the others say nothing new."""
    first: dict[Any, RunResult] = {}
    again = []
    for run in runs:
        # Seeds of a partition that came out the same (an official split, say) are no other draw.
        others = [draw for draw in run.draws if draw not in run.partition_draws]
        identity = _hashable([run.settings, others, run.partition.get("hash", run.partition_draws)])
        if identity in first:
            again.append(run)
        first.setdefault(identity, run)
    return list(first.values()), again


def conflicts(runs: Sequence[RunResult], metric: str) -> list[str]:
    """Why the numbers of these runs do not stand for the same thing, a reason a line."""
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
    """What else is not the same in all runs, and a reader may want to know."""
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
        found.append(f"Scores say too much: {plural(len(leaked), 'task')} leaked into training")
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
    if isinstance(value, tuple):
        return f"[{','.join(in_words(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _leaked(run: RunResult, metric: str) -> frozenset[str]:
    return frozenset(run.metrics.get("leaked_tasks", ())) & frozenset(run.task_ids(metric))


def _ancestry(run: RunResult) -> str:
    """What is known of the tasks that the weights were trained on before."""
    if run.leaks.get("policy") == "ignore":
        return "not looked at"
    counts = run.leaks.get("ancestry", {}).get("counts")
    return "none known" if counts is None else f"{plural(counts['leaks'], 'validation task')} in it"


def _difference(name: str, runs: Sequence[RunResult], fact: Callable[[RunResult], str]) -> str:
    """Which runs have which value of a fact; "" where all have the same."""
    holders: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        holders[fact(run)].append(run)
    if len(holders) < 2:
        return ""
    return f"{name}: {'; '.join(f'{value} in {_names(holding)}' for value, holding in holders.items())}"


def _difference_of_lists(
    name: str, runs: Sequence[RunResult], tasks: Callable[[RunResult], frozenset[str]]
) -> str:
    """The same of lists of tasks, with those that some have and others lack."""
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


def _plainness(key: str) -> tuple[bool, bool, int, str]:
    """A name before what it stands for, own settings before those of the weights' run, short before long."""
    return key.startswith("from_run."), not key.endswith(".name"), key.count("."), key


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(one)) for key, one in value.items())
    return tuple(_hashable(one) for one in value) if isinstance(value, list | tuple) else value


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then words; null first."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, int | float):
        return 1, float(value), ""
    return 2, 0.0, str(value)
