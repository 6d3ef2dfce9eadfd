"""Choose for each arm the values that were best for it, by runs with seeds of their own.

Chosen on the seeds of the answer, the best of several values would look better than it is.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from arc_experiments.comparison.contrasts import less_is_better
from arc_experiments.comparison.runs import read_result
from arc_experiments.comparison.tables import MetricFormat
from arc_experiments.study.definition import Study
from arc_experiments.study.plan import TunedValues, stages


def best(choices: Sequence[TunedValues], metric: str, home: Path) -> TunedValues:
    """The choice with the best mean; the first of equals.

    Raises:
        ValueError: a run does not have the metric.
    """
    return (min if less_is_better(metric) else max)(choices, key=lambda choice: _mean(choice, metric, home))


def tuning_notes(study: Study, typed: Sequence[str], home: Path) -> Iterator[str]:
    """Yield a sentence an arm on what was chosen for it, and on how good the others were."""
    words = MetricFormat(metric=study.metric)
    arms = {run.part: run.choices for stage in stages(study, typed) for run in stage if run.choices}
    for arm, choices in arms.items():
        means = {choice: _mean(choice, study.metric, home) for choice in choices}
        chosen = best(choices, study.metric, home)
        tried = "; ".join(f"{' '.join(each.overrides)}: {words.value(mean)}" for each, mean in means.items())
        is_end = len(study.tune) == 1 and chosen in (choices[0], choices[-1])
        end = ", which is at the end of what was tried: a better one may lie beyond" if is_end else ""
        yield (
            f"{arm} has {' '.join(chosen.overrides)}, chosen with seeds "
            f"{', '.join(map(str, study.tuning_seeds))} ({tried}){end}."
        )


def _mean(choice: TunedValues, metric: str, home: Path) -> float:
    return fmean(read_result(home / name).number(metric) for name in choice.runs)
