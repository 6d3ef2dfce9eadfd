"""Write a study's answer as a section of a document, with its figures beside it.

    study.md   figures/law.svg   figures/scores.svg   figures/losses.svg

In: a `StudyAnswer`. Out: Markdown in GitHub's form, and charts by name, those of the page.
"""

import shlex

from arc_experiments.comparison.charts import law_chart
from arc_experiments.comparison.formats import markdown_table
from arc_experiments.comparison.page import charts_of
from arc_experiments.comparison.tables import tables
from arc_experiments.config.plurals import plural
from arc_experiments.report.svg import Chart
from arc_experiments.report.wording import duration
from arc_experiments.runs.folder import read_object
from arc_experiments.study.answer import StudyAnswer
from arc_experiments.study.definition import Study

FIGURES = "figures"  # the folder of the charts, beside the section
SHOWN = 2  # tables of the comparison: groups, and differences from the first


def charts(answer: StudyAnswer) -> dict[str, Chart]:
    """The charts of the page by name; the one that answers best comes first."""
    found = {"law": law(answer), **charts_of(answer.compared)}
    return {name: chart for name, chart in found.items() if chart is not None and name != "cost"}


def law(answer: StudyAnswer) -> Chart | None:
    """The metric by size, and the law fitted to it; None if the study has no sizes, or is not complete."""
    scale = answer.record.study.scale
    if scale is None or answer.scaling is None:
        return None
    return law_chart(answer.scaling, metric=answer.record.study.metric, of=scale.of)


def drawn(study: Study) -> str:
    """Which seeds each arm is run with: "seeds 1, 2; partitions 7", "seeds.stream 1, 2 x seeds.init 1, 2"."""
    seeds = study.spread or {"seeds": study.seeds, "partitions": study.partitions}
    listed = (f"{key} {', '.join(map(str, values))}" for key, values in seeds.items())
    return (" x " if study.spread else "; ").join(listed)


def section(name: str, answer: StudyAnswer) -> str:
    """The question, the command, the rule, the answer, the first chart, two tables, the cost."""
    study, typed = answer.record.study, shlex.join(answer.record.overrides)
    first, *_ = charts(answer)
    shown = list(tables(answer.compared))[:SHOWN] if study.compared else []
    num_finished = answer.num_planned - len(answer.missing)
    parts = [
        f"## {study.question}",
        f"```bash\npython -m arc_experiments.study {name}{f' {typed}' if typed else ''}\n```",
        f"Rule, written down before the runs: {answer.rule}",
        *(f"**{sentence}**" for sentence in answer.answers),
        f"![{study.metric} of {name}]({FIGURES}/{first}.svg)",
        *(f"{title}:\n\n{markdown_table(frame)}" for title, frame in shown),
        *(f"> {note}" for note in [*answer.notes, *answer.compared.notices]),
        f"{plural(num_finished, 'run')}, {duration(answer.seconds)} together; {_circumstances(answer)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _circumstances(answer: StudyAnswer) -> str:
    """Seeds, and the machines and versions that the runs were made with."""
    found = [read_object(run.folder.path / "environment.json") for run in answer.compared.runs.result]
    made = {
        f"{one['device']}, torch {one['packages']['torch']}, version {(one['commit'] or 'unknown')[:8]}"
        for one in found
        if "device" in one
    }
    return "; ".join([drawn(answer.record.study), *sorted(made)])
