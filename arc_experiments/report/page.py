"""From a run folder to `report.html`: reads, arranges, fills the template, writes whole or not at all."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from arc_experiments.report.adaptation import adaptation_block
from arc_experiments.report.breakdown import by_number, groups
from arc_experiments.report.curves import count_not_finite, learning_rate_chart, loss_chart
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.format import KAGGLE, plural, unscored_sentence
from arc_experiments.report.gallery import TaskCard, task_cards
from arc_experiments.report.leaks import leak_block
from arc_experiments.report.summary import initial_loss, summarise
from arc_experiments.runs.folder import write_whole
from arc_experiments.tasks.task import TaskSet

FILTERS = (
    ("all", "All"),
    ("solved", "Solved"),
    ("unsolved", "Not fully solved"),
    ("valid", "Some valid answer"),
    ("no-valid", "No valid answer"),
)


def write_report(folder: Path, tasks: TaskSet) -> Path:
    """Write `report.html` into a run folder and return its path.

    `tasks` are those that were predicted, in that order, with solutions (without: nothing is marked right
    or wrong).

    Raises:
        ValueError: no run folder, a file in it that cannot be read, or predictions of other tasks.
    """
    return write_page(folder / "report.html", render(read_run(folder), tasks))


def write_page(path: Path, page: str) -> Path:
    """Write a page whole or not at all."""
    # A model can write half a surrogate pair, which no file can hold.
    write_whole(path, page, errors="replace")
    return path


def render(run: RunFiles, tasks: TaskSet) -> str:
    """The page as text: the same for the same files and tasks."""
    score = run.metrics.get("score", {})
    num_asked = run.metrics.get("answered", score).get("num_tasks")
    cards = task_cards(tasks, run.candidates, num_asked, run.rule)
    counts = Counter(name for card in cards for name in ("all", *card.filters))
    template = environment().get_template("page.html.j2")
    return template.render(
        run=run,
        summary=summarise(run),
        notices=list(_notices(run, cards)),
        losses=loss_chart(run.log, initial_loss(run.metrics)),
        learning_rate=learning_rate_chart(run.log),
        leaks=leak_block(run.leaks),
        adaptation=adaptation_block(run.metrics),
        answered=run.metrics.get("answered"),
        groups=list(groups(score)),
        by_number=by_number(score),
        mistakes=run.metrics.get("submission", {}).get("details", []),
        cards=cards,
        filters=[(name, words, counts[name]) for name, words in FILTERS],
        not_predicted=_not_predicted(run, cards),
    )


def environment() -> Environment:
    """The templates of this folder, which escape all that they are given."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["kaggle"] = KAGGLE
    return found


def _not_predicted(run: RunFiles, cards: Sequence[TaskCard]) -> list[str]:
    """Ids of the validation tasks that the model was not asked to answer."""
    predicted = {card.id for card in cards if card.predicted}
    known = dict.fromkeys([*run.validation_ids, *(card.id for card in cards)])
    return [task_id for task_id in known if task_id not in predicted]


def _notices(run: RunFiles, cards: Sequence[TaskCard]) -> Iterator[str]:
    """What a reader must know to read the numbers, in sentences."""
    num_predicted, num_left = sum(card.predicted for card in cards), len(_not_predicted(run, cards))
    if not num_predicted:
        yield "This folder holds no predictions, so nothing is marked right or wrong."
    elif num_left:
        yield (
            f"Answers were asked for {num_predicted:,} of the "
            f"{plural(num_predicted + num_left, 'validation task')}, and the scores are over these "
            f"{num_predicted:,}. The other {num_left:,} count neither as right nor as wrong."
        )
    num_silent = sum(not any(test.num_candidates for test in card.tests) for card in cards if card.predicted)
    if num_silent:
        verb = "counts" if num_silent == 1 else "count"
        yield f"{plural(num_silent, 'task')} got no candidate at all and {verb} as wrong."
    answered = run.metrics.get("answered", {})
    if answered:
        yield from _unscored(answered)
    elif not run.metrics.get("score") and num_predicted:
        yield "There is no score in metrics.json yet, so the pictures below are all there is to see."
    if run.metrics.get("submission", {}).get("mistakes"):
        counts = ", ".join(f"{count} {kind}" for kind, count in run.metrics["submission"]["mistakes"].items())
        yield f"The submission has mistakes ({counts}). What is missing or no grid counts as wrong."
    if count_not_finite(run.log):
        yield (
            f"Values in the log that are not finite numbers: {count_not_finite(run.log):,}. "
            "The curves leave them out."
        )
    if run.metrics.get("score", {}).get("converted_from"):
        yield (
            "An earlier version wrote metrics.json and counted pass_at_k and vote_k over all test outputs. pass_at_2 is "
            "converted to Kaggle's and ARC Prize's rule, what cannot be is left out; "
            "python -m arc_experiments.reselect counts it again."
        )
    yield from _disagreement(run, cards)


def _unscored(answered: dict[str, Any]) -> Iterator[str]:
    sentence = unscored_sentence(answered["num_tasks"], answered["num_tasks_without_solutions"])
    if sentence:
        yield f"{sentence[0].upper()}{sentence[1:]}."


def _disagreement(run: RunFiles, cards: Sequence[TaskCard]) -> Iterator[str]:
    score = run.metrics.get("score", {})
    if not score or not any(card.predicted for card in cards):
        return
    scored = round(score["by_rule"]["test_output"] * score["num_test_outputs"])
    drawn = sum(card.num_solved for card in cards)
    if scored != drawn and not any(card.state == "unknown" for card in cards):
        yield (
            f"The pictures show {plural(drawn, 'right test output')}, metrics.json counts {scored}: the "
            "predictions or the tasks are not those that were scored."
        )
