"""A comparison in words and tables of text, for every output alike.

In: a `Comparison`. Out: `Table`s, and sentences on what these runs can and cannot show.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from arc_experiments.comparison.contrasts import Contrast, Scored, less_is_better
from arc_experiments.comparison.groups import in_words
from arc_experiments.comparison.result import Comparison
from arc_experiments.report.format import BY_KAGGLE, KAGGLE, NO_VALUE, duration, number, plural
from arc_experiments.scoring import uncertainty as statistics
from arc_experiments.scoring.uncertainty import Interval

NEW_SEEDS, NEW_TASKS, ONLY_TASKS = "seeds", "seeds, tasks", "tasks only"
MINUS = "\N{MINUS SIGN}"
COUNTS = ("score.num_", "score.invalid.", "score.version")
MAX_VALUES_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a title; the first column names the row."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """How the numbers of a metric are written: fractions as percentages, everything else with four digits."""

    metric: str

    @property
    def is_share(self) -> bool:
        return self.metric.startswith("score.") and not self.metric.startswith(COUNTS)

    def value(self, value: float) -> str:
        """0.125 -> "12.5%"."""
        return f"{number(100 * value, 1)}%" if self.is_share else f"{value:.4g}".replace("-", MINUS)

    def size(self, value: float) -> str:
        """0.125 -> "12.5", in `noun`s."""
        return number(100 * value, 1) if self.is_share else f"{value:.4g}".replace("-", MINUS)

    def change(self, value: float) -> str:
        """0.125 -> "+12.5"."""
        return f"{'' if value < 0 else '+'}{self.size(value)}"

    @property
    def noun(self) -> str:
        """What `size` counts: " points" or nothing."""
        return " points" if self.is_share else ""

    def interval(self, interval: Interval | None, *, signed: bool = False) -> str:
        """[10.0, 12.5]; a share stays between 0 and 1, whatever the arithmetic says."""
        if interval is None:
            return NO_VALUE
        low, high = interval.low, interval.high
        if self.is_share and not signed:
            low, high = max(0.0, low), min(1.0, high)
        texts = map(self.size, (low, high))
        signs = ("+" if signed and end > 0 else "" for end in (low, high))
        return f"[{', '.join(sign + text for sign, text in zip(signs, texts, strict=True))}]"


def tables(comparison: Comparison) -> Iterator[Table]:
    """Groups, differences, tasks, what differs, unfinished runs; those with something in them."""
    yield _groups(comparison)
    if comparison.contrasts:
        yield _differences(comparison)
    if any(one.gains is not None for one in comparison.contrasts):
        yield _tasks(comparison)
    if comparison.keys:
        yield _keys(comparison)
    if comparison.unfinished:
        rows = ((run.name, run.state, run.error, str(run.folder)) for run in comparison.unfinished)
        yield Table(
            title="Not finished, and in no number above",
            headings=("run", "state", "error", "folder"),
            rows=tuple(rows),
        )


def sentences(comparison: Comparison) -> Iterator[str]:
    """What the numbers mean, and what these runs can and cannot show."""
    yield (
        f"95% intervals. New {NEW_SEEDS}: what other seeds of the same config would score on these tasks. New {NEW_TASKS}: "
        "what they would score on other tasks like these."
    )
    unit, first = Unit(metric=comparison.metric), comparison.groups[0]
    if comparison.metric.removeprefix("score.") in BY_KAGGLE:
        yield f"{comparison.metric} follows {KAGGLE}."
    single = [one.name for one in comparison.groups if one.estimate.deviation is None]
    if single:
        yield (
            f"One run a task list says nothing of other seeds ({', '.join(single)}): an interval there holds the luck of "
            "the tasks alone, and a difference may be the luck of a seed. Add runs with other seeds (seed=1,2,3)."
        )
    if any(one.estimate.new_seeds or one.estimate.new_tasks for one in comparison.contrasts):
        yield (
            "Found from: a true difference of this size is found by as many runs in 80 of 100 cases (the interval leaves "
            "0 out). A smaller one may stay hidden: not told apart does not mean equal."
        )
    elif first.estimate.new_seeds is not None:
        yield _planned(first, unit)
    if all(one.estimate.new_tasks is None for one in comparison.groups):
        yield f"{comparison.metric} is the same for all tasks or not known task by task: nothing is said of new tasks."
    if len(comparison.contrasts) > 1:
        yield (
            f"{plural(len(comparison.contrasts), 'difference')}, each with its own 95%: one in twenty such intervals leaves 0 "
            "out by luck alone. Repeat with other seeds what looks best of many."
        )
    if any(one.by_seed for one in comparison.contrasts):
        yield "Runs of the same seeds were taken in pairs, and those without a partner left out of the differences."


def direction(metric: str) -> str:
    """Which way is better, where the metric does not say it itself."""
    return "less is better" if less_is_better(metric) else "more is better"


def _groups(comparison: Comparison) -> Table:
    unit = Unit(metric=comparison.metric)
    return Table(
        title=f"{comparison.metric} ({direction(comparison.metric)})",
        headings=(
            "group",
            "runs",
            "mean",
            f"sd{',' * unit.is_share}{unit.noun}",
            f"new {NEW_SEEDS}",
            f"new {NEW_TASKS}",
            "time a run",
        ),
        rows=tuple(_group_row(one, unit) for one in comparison.groups),
    )


def _group_row(one: Scored, unit: Unit) -> tuple[str, ...]:
    estimate = one.estimate
    lists = f" on {len(one.blocks)} task lists" if len(one.blocks) > 1 else ""
    alone = "" if estimate.with_seeds or estimate.new_tasks is None else f" ({ONLY_TASKS})"
    return (
        one.name,
        f"{len(one.values)}{lists}",
        unit.value(estimate.value),
        NO_VALUE if estimate.deviation is None else unit.size(estimate.deviation),
        unit.interval(estimate.new_seeds),
        unit.interval(estimate.new_tasks) + alone,
        NO_VALUE if one.seconds is None else duration(one.seconds),
    )


def _differences(comparison: Comparison) -> Table:
    return Table(
        title=f"Differences from {comparison.groups[0].name}, on the same tasks",
        headings=(
            "group",
            Unit(metric=comparison.metric).noun.strip() or "difference",
            "for new",
            "interval",
            "found from",
            "so",
        ),
        rows=tuple(row for one in comparison.contrasts for row in _difference_rows(one, comparison.metric)),
    )


def _difference_rows(one: Contrast, metric: str) -> Iterator[tuple[str, ...]]:
    """A row a target; the name and the difference stand in the first."""
    unit, found = Unit(metric=metric), one.estimate
    names = (one.second.name, unit.change(found.value))
    targets = ((NEW_SEEDS, found.new_seeds), (NEW_TASKS if found.with_seeds else ONLY_TASKS, found.new_tasks))
    known = [(target, interval) for target, interval in targets if interval is not None]
    if not known:
        yield *names, NO_VALUE, NO_VALUE, NO_VALUE, "too little varies to tell"
    for target, interval in known:
        shown = unit.interval(interval, signed=True), unit.size(interval.detectable)
        yield *names, target, *shown, verdict(interval, metric)
        names = ("", "")


def verdict(interval: Interval, metric: str) -> str:
    """What the interval of a difference says."""
    sign = -1 if less_is_better(metric) else 1
    low, high = sorted((sign * interval.low, sign * interval.high))
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _tasks(comparison: Comparison) -> Table:
    rows = [
        (
            one.second.name, str(len(one.won)), str(len(one.lost)),
            str(len(one.gains) - len(one.won) - len(one.lost)), f"p = {one.p_value:.2g}",
        )
        for one in comparison.contrasts
        if one.gains is not None
    ]  # fmt: skip
    return Table(
        title=f"Tasks better and worse than with {comparison.groups[0].name}, these runs as they are",
        headings=("group", "better", "worse", "same", "sign test"),
        rows=tuple(rows),
    )


def _keys(comparison: Comparison) -> Table:
    rows = []
    for one in comparison.keys:
        values = dict.fromkeys(
            in_words(value)
            for scored in comparison.groups
            for key, value in scored.group.choices
            if key == one.key
        )
        rows.append((one.key, _some(list(values)), _some(one.along)))
    return Table(title="What differs", headings=("setting", "values", "changes with it"), rows=tuple(rows))


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:MAX_VALUES_SHOWN]) + (", ..." if len(texts) > MAX_VALUES_SHOWN else "")


def _planned(one: Scored, unit: Unit) -> str:
    """For whoever plans the second group."""
    blocks = list(one.blocks.values())
    interval = statistics.difference(blocks, blocks).new_seeds
    assert interval is not None
    return (
        f"A second config with {plural(len(one.values), 'run')} as far apart as these: on these tasks a true difference of "
        f"{unit.size(interval.detectable)}{unit.noun} would be found in 80 of 100 cases."
    )
