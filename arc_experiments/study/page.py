"""Write a study's answer as one page and as JSON.

In: a `StudyAnswer`. Out: HTML without scripts or requests, and JSON; both are the same for the same runs,
but for times, which the JSON keeps under `cost`.
"""

import json
import math
from dataclasses import asdict
from typing import Any

import pandas as pd

from arc_experiments.comparison.charts import validation_losses
from arc_experiments.comparison.page import values_of
from arc_experiments.config.plurals import plural
from arc_experiments.report.templates import fill
from arc_experiments.report.wording import duration
from arc_experiments.study.answer import StudyAnswer
from arc_experiments.study.section import drawn, law


def render(name: str, answer: StudyAnswer) -> str:
    """The page as text: the question, the arms, the rule and the answer; then the comparison's page."""
    study, num_finished = answer.record.study, answer.num_planned - len(answer.missing)
    return fill(
        "study/page.html.j2",
        **values_of(answer.compared),
        name=name,
        question=study.question,
        arms=study.parts,
        base=[*study.base, *answer.record.chosen],
        draws=drawn(study),
        rule=answer.rule,
        answers=answer.answers,
        notes=answer.notes,
        law=law(answer),
        spent=f"{plural(num_finished, 'run')}, {duration(answer.seconds)} together",
    )


def as_json(name: str, answer: StudyAnswer) -> str:
    """The numbers in full."""
    compared, study = answer.compared, answer.record.study
    values = {
        "study": name,
        "definition": asdict(study),
        "overrides": answer.record.chosen,
        "runs": {"planned": answer.num_planned, "not_finished": dict(answer.missing)},
        "rule": answer.rule,
        "answer": [
            {
                "arm": each.arm,
                "baseline": each.baseline,
                "verdict": each.verdict,
                "sentence": each.sentence,
                "difference": dict(each.numbers),
            }
            for each in answer.contrasts
        ],
        "law": None if answer.scaling is None else asdict(answer.scaling),
        "spread": {arm: asdict(parts) for arm, parts in answer.spread.items()},
        "notes": [*answer.notes, *compared.notices],
        "arms": compared.groups.drop(columns="seconds").to_dict("records"),
        "gains_by_task": compared.gains.to_dict(),
        "learning_curves": {arm: _curve(runs) for arm, runs in compared.runs.groupby("group", sort=False)},
        "cost": {
            "seconds": answer.seconds,
            "seconds_a_run": dict(zip(compared.groups.group, compared.groups.seconds, strict=True)),
        },
    }
    return json.dumps(_plain(values), indent=2) + "\n"


def _curve(runs: pd.DataFrame) -> list[dict[str, float]]:
    """Validation losses by step: mean, lowest and highest of the runs."""
    losses = validation_losses(list(runs.result))
    return [
        {"step": step, "mean": row.mean(), "low": row.min(), "high": row.max()}
        for step, row in losses.iterrows()
    ]


def _plain(value: Any) -> Any:
    """As JSON has it: numbers of Python, null for what is not a number."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
