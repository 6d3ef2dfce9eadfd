"""Answer a study: read its finished runs, compare the arms, and apply the rule.

In: a study's folder. Out: a `StudyAnswer`, of which the page and the JSON are made. Numbers and intervals
are those of `comparison`; the sentences are written in `decision.py` (a difference) and `estimates.py` (a
law, a spread).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from arc_experiments.comparison.result import ComparedRuns, compare
from arc_experiments.comparison.runs import RunResult, read_result
from arc_experiments.comparison.scaling import Scaling
from arc_experiments.comparison.variance_components import VarianceComponents
from arc_experiments.config.plurals import of_all, plural
from arc_experiments.study.decision import Contrast, contrast, rule_sentence, unanswered
from arc_experiments.study.definition import Study
from arc_experiments.study.estimates import (
    law_sentence,
    scaling_of,
    spread_notes,
    spread_of,
    spread_sentences,
)
from arc_experiments.study.plan import PlannedRun, stages
from arc_experiments.study.record import StudyRecord
from arc_experiments.study.tuning import tuning_notes

MAX_RUNS_SHOWN = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyAnswer:
    """Everything that a study found.

    Attributes:
        compared: the arms against the baseline of the first contrast.
        num_planned: runs, those before the arms' included.
        missing: planned runs that are not finished, with their states.
        seconds: that the finished runs took, together.
        scaling: the law of its sizes; None if it has none, or is not complete.
        spread: where the spread comes from, by arm; {} if it does not ask, or is not complete.
        notes: sentences without which the answer would mislead.
    """

    record: StudyRecord
    contrasts: Sequence[Contrast]
    compared: ComparedRuns
    num_planned: int
    missing: Mapping[str, str]
    seconds: float
    notes: Sequence[str]
    scaling: Scaling | None = None
    spread: Mapping[str, VarianceComponents] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        return rule_sentence(self.record.study)

    @property
    def sentences(self) -> list[str]:
        """The answer, then what must be known of it."""
        return [*self.answers, *self.notes]

    @property
    def answers(self) -> list[str]:
        """A sentence a difference, the law, and the parts of the spread."""
        study = self.record.study
        law = [] if self.scaling is None else [law_sentence(study, self.scaling)]
        return [*(each.sentence for each in self.contrasts), *law, *spread_sentences(study, self.spread)]


Results = Mapping[PlannedRun, RunResult]
"""Runs that have a folder."""


def answer_study(record: StudyRecord, home: Path) -> StudyAnswer | None:
    """Compare the finished runs of a study and decide; None as long as too few arms have any.

    Raises:
        NotComparable: the arms' numbers differ in meaning, and the study is not `anyway`.
        ValueError: the metric is not in metrics.json.
    """
    study = record.study
    planned = [run for stage in stages(study, record.overrides) for run in stage]
    found = {run: _read(run, home) for run in planned if (home / run.name / "run.yaml").exists()}
    finished = [run for run, result in found.items() if result.state == "done"]
    if len({run.part for run in finished if run.part in study.arms}) < (1 if study.spread else 2):
        return None
    missing = {
        run.name: found[run].state if run in found else "waiting" for run in planned if run not in finished
    }
    comparisons = {baseline: _compare(study, found, baseline) for baseline in _baselines(study, finished)}
    return StudyAnswer(
        record=record,
        contrasts=[_contrast(study, arm, name, comparisons, found, missing) for arm, name in study.compared],
        compared=next(iter(comparisons.values())),
        num_planned=len(planned),
        missing=missing,
        seconds=sum(found[run].numbers.get("seconds.total", 0.0) for run in finished),
        notes=[
            *_notes(record, missing, len(planned)),
            *tuning_notes(study, record.overrides, home),
            *spread_notes(study),
        ],
        scaling=None if missing else scaling_of(study, found),
        spread={} if missing else spread_of(study, found),
    )


def _read(run: PlannedRun, home: Path) -> RunResult:
    # The seeds of this run alone: those of the run that it starts from are the same.
    return replace(read_result(home / run.name), draws=tuple(run.draw.items()))


def _baselines(study: Study, finished: Sequence[PlannedRun]) -> list[str]:
    """Those with finished runs; of a study that is not complete, any arm that has some."""
    known = {run.part for run in finished}
    named = dict.fromkeys([*(baseline for _, baseline in study.compared), *study.arms])
    found = [baseline for baseline in named if baseline in known]
    wanted = [baseline for baseline in found if baseline in {name for _, name in study.compared}]
    return wanted or found[:1]


def _compare(study: Study, found: Results, baseline: str) -> ComparedRuns:
    runs = [run for arm in study.arms for run in found if run.part == arm]
    return compare(
        [found[run] for run in runs],
        metric=study.metric,
        baseline=baseline,
        anyway=study.anyway,
        by_seed=study.decide.paired or study.decide.exact,
        names=[run.part for run in runs],
    )


def _contrast(
    study: Study,
    arm: str,
    baseline: str,
    comparisons: Mapping[str, ComparedRuns],
    found: Results,
    missing: Mapping[str, str],
) -> Contrast:
    if missing:
        return unanswered(arm, baseline, "not all runs are finished")
    by_draw = {(run.part, tuple(run.draw.items())): result for run, result in found.items()}
    pairs = [(result, by_draw[baseline, draw]) for (part, draw), result in by_draw.items() if part == arm]
    return contrast(study, arm, comparisons[baseline], pairs)


def _notes(record: StudyRecord, missing: Mapping[str, str], num_planned: int) -> Iterator[str]:
    if missing:
        shown = [f"{name} {state}" for name, state in missing.items()]
        rest = len(shown) - MAX_RUNS_SHOWN
        names = ", ".join(shown[:MAX_RUNS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
        count = of_all(len(missing), num_planned, "run")
        yield f"{count} not finished ({names}): what is shown is not the answer."
    for added in record.added:
        if added.finished:
            lists = (("seeds", added.seeds), ("partitions", added.partitions))
            what = " and ".join(
                f"{name} {', '.join(map(str, numbers))}" for name, numbers in lists if numbers
            )
            yield (
                f"Added when {plural(added.finished, 'run')} had finished: {what}. The intervals do not know "
                "that: whoever adds runs until an interval excludes 0 will find one that does."
            )
    if len(record.study.compared) > 1 and not record.study.decide.exact:
        yield (
            f"{plural(len(record.study.compared), 'difference')}, each with its own 95%: one in twenty such "
            "intervals excludes 0 by luck alone."
        )
