"""README.md beside trained weights: what they are of, how to load them without this package, their scores.

It holds nothing that differs between two runs of one composition.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.report import summary
from arc_experiments.report.files import read_run
from arc_experiments.report.templates import environment
from arc_experiments.report.wording import percent, percent_range
from arc_experiments.runs.folder import read_object, write_whole
from arc_experiments.scoring.metrics import tasks_asked

FILE = "README.md"
SCORES = ("pass_at_1", "pass_at_2")
MOST_CHARACTERS = 2000  # of a question
OF_WEIGHTS = ("data.", "augmentation", "model.", "prompt.", "optim.", "seed")


def write_card(
    folder: Path,
    weights: Path,
    metrics: dict[str, Any],
    *,
    question: str | None,
    shows_pictures: bool,
    notes: Sequence[str] = (),
) -> None:
    """Write the card of a run's weights.

    Args:
        weights: the folder `adapter/` or `model/`, or an exported one.
        metrics: what metrics.json will hold.
        question: the text of a prompt, as the model is asked.
        notes: of an exported folder, sentences that say what was made of the weights.
    """
    run, ancestry = read_run(folder), read_ancestry(weights)
    adapter, settings = read_object(weights / "adapter_config.json"), summary.settings(run)
    score = metrics.get("score", {})
    if question is not None and len(question) > MOST_CHARACTERS:
        question = question[:MOST_CHARACTERS] + "\n[...]"
    page = (
        environment()
        .overlay(autoescape=False)  # it is no HTML
        .get_template("report/model_card.md.j2")
        .render(
            title=f"{settings['model.name']} on {settings['data.name']}",
            base=adapter.get("base_model_name_or_path"),
            base_is_folder=Path(adapter.get("base_model_name_or_path") or "").is_absolute(),
            revision=adapter.get("revision"),
            rank=adapter.get("r"),
            ancestry=ancestry,
            question=question,
            shows_pictures=shows_pictures,
            notes=notes,
            data=settings["data.name"],
            scores=list(_scores(score)),
            num_tasks=score.get("num_tasks"),
            asked=tasks_asked(metrics),
            settings={key: value for key, value in settings.items() if key.startswith(OF_WEIGHTS)},
        )
    )
    write_whole(weights / FILE, page, errors="replace")


def _scores(score: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in SCORES:
        if name in score:
            yield name, percent(score[name]), percent_range(score["interval"].get(name))
