"""What a study says beyond differences: the law of its sizes, and which seed makes the spread.

In: the finished runs of all arms. Out: the fits of `comparison`, and sentences.
"""

from collections.abc import Iterator, Mapping

from arc_experiments.comparison.contrasts import less_is_better
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.scaling import Scaling, fit_scaling, scaling_sentence
from arc_experiments.comparison.tables import MetricFormat
from arc_experiments.comparison.variance_components import Component, VarianceComponents, variance_components
from arc_experiments.report.wording import percent, percent_range
from arc_experiments.study.definition import Study
from arc_experiments.study.plan import PlannedRun

Results = Mapping[PlannedRun, RunResult]


def scaling_of(study: Study, found: Results) -> Scaling | None:
    """The law of the arms' sizes; None if the study asks for none."""
    if study.scale is None:
        return None
    runs = [run for run in found if run.part in study.scale.sizes]
    is_share = MetricFormat(metric=study.metric).is_share
    return fit_scaling(
        [study.scale.sizes[run.part] for run in runs],
        [found[run].number(study.metric) for run in runs],
        [tuple(run.draw.items()) for run in runs],
        beyond=study.scale.beyond,
        lowest=0.0 if is_share or less_is_better(study.metric) else -float("inf"),
        highest=1.0 if is_share else float("inf"),
    )


def spread_of(study: Study, found: Results) -> dict[str, VarianceComponents]:
    """Where the spread of each arm's runs comes from; {} if the study does not ask."""
    if not study.spread:
        return {}
    by_arm = {arm: [run for run in found if run.part == arm] for arm in study.arms}
    return {
        arm: variance_components(
            [found[run].number(study.metric) for run in runs],
            {key: [run.draw[key] for run in runs] for key in study.spread},
        )
        for arm, runs in by_arm.items()
    }


def law_sentence(study: Study, found: Scaling) -> str:
    """What more would give, or why nobody knows."""
    assert study.scale is not None
    show = MetricFormat(metric=study.metric).value
    return scaling_sentence(found, metric=study.metric, of=study.scale.of, show=show)


def spread_sentences(study: Study, found: Mapping[str, VarianceComponents]) -> Iterator[str]:
    """Yield how far the runs of each arm are apart, then a sentence a seed on its part in that."""
    words = MetricFormat(metric=study.metric)
    for arm, parts in found.items():
        of_arm = f"{arm}: " if len(found) > 1 else ""
        ends = parts.interval and [words.size(end) for end in parts.interval]
        interval = f" (95% {' to '.join(ends)})" if ends else ""
        yield (
            f"{of_arm}{study.metric} has a standard deviation of {words.size(parts.deviation)}{words.noun}"
            f"{interval} between runs that draw all of these seeds anew, from {parts.num_runs} runs."
        )
        for part in parts.components:
            yield f"{of_arm}{_part_sentence(part, study, words)}"


def spread_notes(study: Study) -> Iterator[str]:
    """Yield what must be known of the other tables of such a study."""
    if study.spread:
        yield (
            "The intervals of groups below take all runs for independent, which runs that share seeds are "
            "not: the parts of the spread are what this study is for."
        )


def _part_sentence(part: Component, study: Study, words: MetricFormat) -> str:
    if part.share is None or part.share_interval is None:
        return f"{part.name} makes no difference at all."
    low, high = part.share_interval
    matters = study.decide.matters
    assert matters is not None
    verdict = "matters" if low > matters else "does not matter" if high < matters else "may matter, or not"
    interval = percent_range(part.share_interval)
    return (
        f"{part.name} {verdict}: {percent(part.share)} of the variance (95% {interval}), "
        f"a standard deviation of {words.size(part.deviation)}{words.noun}."
    )
