"""Answer a study: differences of its arms, and what its rule makes of them.

In: a study's folder. Out: a `StudyAnswer`, of which the page and the JSON are made. Numbers and intervals
are those of `comparison`; this file only decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from arc_experiments.comparison.result import ComparedRuns, compare
from arc_experiments.comparison.runs import RunResult, read_result
from arc_experiments.comparison.tables import MetricFormat, verdict
from arc_experiments.config.plurals import of_all, plural
from arc_experiments.study.definition import INTERVALS, Study
from arc_experiments.study.plan import PlannedRun, stages
from arc_experiments.study.record import Record
from arc_experiments.study.tuning import tuning_notes

BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "no difference that matters", "cannot tell"
IDENTICAL, DIFFERENT = "identical", "not identical"


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


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyAnswer:
    """Everything that a study found.

    Attributes:
        compared: the arms against the first baseline.
        missing: planned runs that are not finished, with their states.
        notes: sentences without which the answer would mislead.
    """

    record: Record
    contrasts: Sequence[Contrast]
    compared: ComparedRuns
    planned: Sequence[PlannedRun]
    missing: Mapping[str, str]
    seconds: float
    notes: Sequence[str]

    @property
    def rule(self) -> str:
        return rule_sentence(self.record.study)

    @property
    def sentences(self) -> list[str]:
        """The answer, then what must be known of it."""
        return [*(contrast.sentence for contrast in self.contrasts), *self.notes]


def answer_study(record: Record, home: Path) -> StudyAnswer | None:
    """Compare the finished runs of a study and decide; None as long as not even two arms have any.

    Raises:
        NotComparable: the arms' numbers differ in meaning, and the study is not `anyway`.
        ValueError: the metric is not in metrics.json.
    """
    study = record.study
    planned = [run for stage in stages(study, record.overrides) for run in stage]
    found = {
        run: replace(read_result(home / run.name), draws=tuple(run.draw.items()))
        for run in planned
        if (home / run.name / "run.yaml").exists()
    }
    results = {run: result for run, result in found.items() if run.part in study.arms}
    finished = [run for run, result in found.items() if result.state == "done"]
    if len({run.part for run in finished if run.part in study.arms}) < 2:
        return None
    missing = {
        run.name: found[run].state if run in found else "waiting" for run in planned if run not in finished
    }
    comparisons = {
        baseline: _compare(study, results, baseline) for baseline in dict.fromkeys(b for _, b in study.compared)
    }
    contrasts = [
        _contrast(study, arm, comparisons[baseline], results, is_complete=not missing)
        for arm, baseline in study.compared
        if baseline in comparisons
    ]
    return StudyAnswer(
        record=record,
        contrasts=contrasts,
        compared=next(iter(comparisons.values())),
        planned=planned,
        missing=missing,
        seconds=sum(found[run].numbers.get("seconds.total", 0.0) for run in finished),
        notes=[*_notes(record, missing, len(planned)), *tuning_notes(study, record.overrides, home)],
    )


def rule_sentence(study: Study) -> str:
    """The rule in words, as the decision follows it."""
    decide, words = study.decide, MetricFormat(metric=study.metric)
    if decide.exact:
        return (
            "Two arms are identical if every number of every pair of runs with the same seeds is equal, "
            "times, speeds and memory aside."
        )
    assert decide.matters is not None
    paired = " Runs of the same seeds are paired." if decide.paired else ""
    return (
        f"An arm is better (or worse) than its baseline if the 95% interval of their difference in "
        f"{study.metric} for {INTERVALS[decide.interval]} lies on that side of 0. It makes no difference that "
        f"matters if the interval lies within {words.size(decide.matters)}{words.noun} of 0. Otherwise these "
        f"runs cannot tell.{paired}"
    )


def decide(row: Mapping[str, Any], study: Study) -> str:
    """What the rule makes of a difference with its interval; a larger metric is better unless it is a loss."""
    low, high = (row[f"{study.decide.interval}_{end}"] for end in ("low", "high"))
    if pd.isna(low):
        return UNKNOWN
    side = verdict(low, high, study.metric)
    if side != "inconclusive":
        return side
    assert study.decide.matters is not None
    return SAME if max(abs(low), abs(high)) <= study.decide.matters else UNKNOWN


def _compare(study: Study, results: Mapping[PlannedRun, RunResult], baseline: str) -> ComparedRuns:
    order = {arm: place for place, arm in enumerate(study.arms)}
    runs = sorted(results, key=lambda run: order[run.part])
    return compare(
        [results[run] for run in runs],
        metric=study.metric,
        baseline=baseline,
        anyway=study.anyway,
        by_seed=study.decide.paired,
        names=[run.part for run in runs],
    )


def _contrast(
    study: Study,
    arm: str,
    compared: ComparedRuns,
    results: Mapping[PlannedRun, RunResult],
    *,
    is_complete: bool,
) -> Contrast:
    baseline = str(compared.groups.group[0])
    rows = [row for _, row in compared.differences.iterrows() if row.group == arm]
    numbers = rows[0].to_dict() if rows else {}
    if not is_complete or not numbers:
        reason = "not all runs are finished" if not is_complete else "they share no tasks"
        sentence = f"{arm} against {baseline}: no answer, since {reason}."
        return Contrast(arm=arm, baseline=baseline, verdict=None, sentence=sentence, numbers=numbers)
    if study.decide.exact:
        found, sentence = _exactly(arm, baseline, results)
    else:
        found = decide(numbers, study)
        sentence = _sentence(study, found, arm, compared, numbers)
    return Contrast(arm=arm, baseline=baseline, verdict=found, sentence=sentence, numbers=numbers)


def _exactly(arm: str, baseline: str, results: Mapping[PlannedRun, RunResult]) -> tuple[str, str]:
    """Compare the numbers of runs of the same seeds."""
    by_draw = {
        part: {tuple(run.draw.items()): result for run, result in results.items() if run.part == part}
        for part in (arm, baseline)
    }
    pairs = [(by_draw[arm][draw], by_draw[baseline][draw]) for draw in by_draw[arm]]
    apart = [changed for one, two in pairs if (changed := _changed(one.repeatable, two.repeatable))]
    if not apart:
        return IDENTICAL, f"{arm} and {baseline} are identical in all {plural(len(pairs), 'pair')} of runs."
    keys = list(dict.fromkeys(key for changed in apart for key in changed))
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return DIFFERENT, (
        f"{arm} and {baseline} are not identical: {of_all(len(apart), len(pairs), 'pair')} of runs differ, in "
        f"{', '.join(keys[:3])}{more}."
    )


def _changed(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]


def _sentence(study: Study, found: str, arm: str, compared: ComparedRuns, numbers: Mapping[str, Any]) -> str:
    """The answer with effect, interval, n, the smallest visible effect, and tasks won and lost."""
    words, target, baseline = MetricFormat(metric=study.metric), study.decide.interval, compared.groups.group[0]
    runs = dict(zip(compared.groups.group, compared.groups.runs, strict=True))
    if numbers["in_pairs_of_seeds"]:
        count = f"{plural(runs[arm], 'pair')} of runs"
    else:
        count = f"{plural(runs[arm], 'run')} against {runs[baseline]}"
    effect = f"{words.change(numbers['value'])}{words.noun} in {study.metric}"
    if pd.isna(numbers[f"{target}_low"]):
        return f"These runs cannot tell {arm} from {baseline}: {effect}, and too little varies ({count})."
    small = ""
    assert study.decide.matters is not None
    if found in (BETTER, WORSE) and abs(numbers["value"]) < study.decide.matters:
        small = f", by less than the {words.size(study.decide.matters)}{words.noun} that matter"
    opening = {
        BETTER: f"{arm} is better than {baseline}{small}",
        WORSE: f"{arm} is worse than {baseline}{small}",
        SAME: f"{arm} and {baseline} make no difference that matters",
        UNKNOWN: f"These runs cannot tell whether {arm} or {baseline} is better",
    }[found]
    tasks = ""
    if not pd.isna(numbers.get("tasks_won")):
        tasks = f"; better on {numbers['tasks_won']:.0f} tasks, worse on {numbers['tasks_lost']:.0f}"
    detectable = words.size(numbers[f"{target}_detectable"])
    return (
        f"{opening}: {effect}, 95% interval {words.interval(numbers, target, signed=True)} for "
        f"{INTERVALS[target]}, {count}{tasks}. A difference of {detectable}{words.noun} would have been seen in "
        "80 of 100 such studies."
    )


def _notes(record: Record, missing: Mapping[str, str], num_planned: int) -> list[str]:
    notes = []
    if missing:
        shown = [f"{name} {state}" for name, state in missing.items()]
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        notes.append(
            f"{of_all(len(missing), num_planned, 'run')} not finished ({', '.join(shown[:3])}{more}): what is shown "
            "is not the answer."
        )
    for added in record.added:
        if added.finished:
            more = " and ".join(
                f"{name} {', '.join(map(str, numbers))}"
                for name, numbers in (("seeds", added.seeds), ("partitions", added.partitions))
                if numbers
            )
            notes.append(
                f"Added when {plural(added.finished, 'run')} had finished: {more}. The intervals do not know "
                "that: whoever adds runs until an interval excludes 0 will find one that does."
            )
    if len(record.study.compared) > 1 and not record.study.decide.exact:
        notes.append(
            f"{plural(len(record.study.compared), 'difference')}, each with its own 95%: one in twenty such "
            "intervals excludes 0 by luck alone."
        )
    return notes
