"""Decide: what a study's rule makes of a difference, of runs that must agree, and of a part of the spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arc_experiments.comparison.contrasts import verdict
from arc_experiments.comparison.result import ComparedRuns
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.tables import MetricFormat
from arc_experiments.config.plurals import of_all, plural
from arc_experiments.report.wording import percent
from arc_experiments.study.definition import INTERVALS, Study

BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "no difference that matters", "cannot tell"
IDENTICAL, DIFFERENT = "identical", "not identical"
MAX_KEYS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What a study says of an arm against a baseline.

    Attributes:
        verdict: one of the constants above; None as long as runs are missing.
        numbers: the row of `ComparedRuns.differences`; empty if the arms share no tasks.
    """

    arm: str
    baseline: str
    verdict: str | None
    sentence: str
    numbers: Mapping[str, Any]


def rule_sentence(study: Study) -> str:
    """The rule in words, as the decision follows it."""
    rule, words = study.decide, MetricFormat(metric=study.metric)
    if rule.exact:
        return (
            "Two arms are identical if every number of every pair of runs with the same seeds is equal, "
            "times, speeds and memory aside."
        )
    assert rule.matters is not None
    if study.spread:
        return (
            f"A seed matters if the 95% interval of its share of the variance of {study.metric} lies above "
            f"{percent(rule.matters)}, and does not if it lies below. Otherwise these runs cannot tell."
        )
    paired = ""
    if rule.paired:
        paired = " Runs of the same seeds are paired."
    elif study.before:
        paired = " Runs that start from the same run are paired."
    return (
        f"An arm is better (or worse) than its baseline if the 95% interval of their difference in "
        f"{study.metric} for {INTERVALS[rule.interval]} lies on that side of 0. It makes no difference that "
        f"matters if the interval lies within {words.size(rule.matters)}{words.noun} of 0. Otherwise these "
        f"runs cannot tell.{paired}"
    )


def contrast(
    study: Study, arm: str, compared: ComparedRuns, pairs: Sequence[tuple[RunResult, RunResult]]
) -> Contrast:
    """Decide on an arm against the baseline of a comparison of all arms, all of whose runs are finished.

    Args:
        pairs: runs of the arm and of the baseline with the same seeds.
    """
    baseline = str(compared.groups.group[0])
    rows = [row for _, row in compared.differences.iterrows() if row.group == arm]
    if not rows:
        return unanswered(arm, baseline, "they share no tasks")
    numbers = rows[0].to_dict()
    if study.decide.exact:
        found, sentence = _exactly(arm, baseline, pairs)
    else:
        found = decide(numbers, study)
        sentence = _sentence(study, found, arm, compared, numbers)
    return Contrast(arm=arm, baseline=baseline, verdict=found, sentence=sentence, numbers=numbers)


def unanswered(arm: str, baseline: str, reason: str) -> Contrast:
    """A contrast that nothing can be said of yet."""
    sentence = f"{arm} against {baseline}: no answer, since {reason}."
    return Contrast(arm=arm, baseline=baseline, verdict=None, sentence=sentence, numbers={})


def decide(row: Mapping[str, Any], study: Study) -> str:
    """What the rule makes of a difference with its interval; larger is better unless the metric is a loss."""
    low, high = (row[f"{study.decide.interval}_{end}"] for end in ("low", "high"))
    if pd.isna(low):
        return UNKNOWN
    side = verdict(low, high, study.metric)
    if side != "inconclusive":
        return side
    assert study.decide.matters is not None
    return SAME if max(abs(low), abs(high)) <= study.decide.matters else UNKNOWN


def _exactly(arm: str, baseline: str, pairs: Sequence[tuple[RunResult, RunResult]]) -> tuple[str, str]:
    """Compare the numbers of runs of the same seeds."""
    apart = [keys for one, two in pairs if (keys := _changed(one.repeatable, two.repeatable))]
    if not apart:
        return IDENTICAL, f"{arm} and {baseline} are identical in all {plural(len(pairs), 'pair')} of runs."
    keys = list(dict.fromkeys(key for changed in apart for key in changed))
    rest = len(keys) - MAX_KEYS_SHOWN
    more = f" and {plural(rest, 'other number')}" if rest > 0 else ""
    count, shown = of_all(len(apart), len(pairs), "pair"), ", ".join(keys[:MAX_KEYS_SHOWN])
    return DIFFERENT, f"{arm} and {baseline} are not identical: {count} of runs differ, in {shown}{more}."


def _changed(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]


def _sentence(study: Study, found: str, arm: str, compared: ComparedRuns, numbers: Mapping[str, Any]) -> str:
    """The answer with effect, interval, n, the smallest visible effect, and tasks won and lost."""
    words, target, baseline = (
        MetricFormat(metric=study.metric),
        study.decide.interval,
        compared.groups.group[0],
    )
    runs = dict(zip(compared.groups.group, compared.groups.runs, strict=True))
    count = f"{plural(runs[arm], 'run')} against {runs[baseline]}"
    if numbers["in_pairs_of_seeds"]:
        count = f"{plural(runs[arm], 'pair')} of runs"
    effect = f"{words.change(numbers['value'])}{words.noun} in {study.metric}"
    if pd.isna(numbers[f"{target}_low"]):
        return f"These runs cannot tell {arm} from {baseline}: {effect}, and too little varies ({count})."
    tasks = ""
    if not pd.isna(numbers.get("tasks_won")):
        won, lost = (int(numbers[name]) for name in ("tasks_won", "tasks_lost"))
        tasks = f"; better on {plural(won, 'task')}, worse on {lost}"
    opening = _opening(study, found, arm, baseline, numbers["value"])
    interval = words.interval(numbers, target, signed=True)
    visible = f"{words.size(numbers[f'{target}_detectable'])}{words.noun}"
    return (
        f"{opening}: {effect}, 95% interval {interval} for {INTERVALS[target]}, {count}{tasks}. A difference "
        f"of {visible} would have been seen in 80 of 100 such studies."
    )


def _opening(study: Study, found: str, arm: str, baseline: str, value: float) -> str:
    if found == SAME:
        return f"{arm} and {baseline} make no difference that matters"
    if found == UNKNOWN:
        return f"These runs cannot tell whether {arm} or {baseline} is better"
    words, matters = MetricFormat(metric=study.metric), study.decide.matters
    assert matters is not None
    small = (
        f", by less than the {words.size(matters)}{words.noun} that matter" if abs(value) < matters else ""
    )
    return f"{arm} is {found} than {baseline}{small}"
