"""From a run folder to `report.html`: read, arrange, fill the template, write whole or not at all."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arc_experiments.report import leaks, pictures_seen, summary, wording
from arc_experiments.report.files import RunFiles, read_run
from arc_experiments.report.gallery import TaskCard, task_cards
from arc_experiments.report.programs import HEADINGS, program_cards, program_rows, program_sentences
from arc_experiments.report.run_charts import (
    count_not_finite,
    learning_rate_chart,
    loss_chart,
    predictions_chart,
    programs_chart,
    search_chart,
)
from arc_experiments.report.svg import Chart
from arc_experiments.report.templates import fill, write_page
from arc_experiments.report.thumbnail import FILE as PICTURE
from arc_experiments.report.thumbnail import picture
from arc_experiments.report.wording import plural, unscored_sentence, verified_sentence
from arc_experiments.scoring.metrics import tasks_asked
from arc_experiments.tasks.task import TaskSet

# The buttons above the tasks.
BUTTONS = {
    "all": "All",
    "solved": "Solved",
    "unsolved": "Not fully solved",
    "valid": "Some valid answer",
    "no-valid": "No valid answer",
}


def write_report(folder: Path, tasks: TaskSet) -> Path:
    """Write `report.html` and a picture for lists of runs into a run folder, and return the page's path.

    `tasks` are those that were predicted, in that order, with solutions (without, nothing is marked right
    or wrong).

    Raises:
        ValueError: no run folder, a file in it that cannot be read, or predictions of other tasks.
    """
    run = read_run(folder)
    cards = cards_of(run, tasks)
    drawn = picture(cards)
    if drawn is None:
        (folder / PICTURE).unlink(missing_ok=True)  # of an earlier report
    else:
        write_page(folder / PICTURE, drawn)  # before the page, whose runs count as finished
    return write_page(folder / "report.html", render(run, tasks, cards))


def cards_of(run: RunFiles, tasks: TaskSet) -> tuple[TaskCard, ...]:
    """A card for every task."""
    num_asked = run.metrics.get("answered", run.metrics.get("score", {})).get("num_tasks")
    return task_cards(tasks, run.candidates, num_asked, run.rule)


def render(run: RunFiles, tasks: TaskSet, cards: Sequence[TaskCard]) -> str:
    """The page as text: the same for the same files and tasks."""
    metrics, settings = run.metrics, summary.settings(run)
    score = metrics.get("score", {})
    counts = Counter(name for card in cards for name in ("all", *card.filters))
    compared = [run.leaks[name] for name in leaks.COMPARED if name in run.leaks]
    by_number, programs = score.get("by_num_predictions", []), score.get("programs")
    environment_rows = {key: value for key, value in run.environment.items() if key != "command"}
    return fill(
        "report/page.html.j2",
        run=run,
        metrics=metrics,
        score=score,
        asked=tasks_asked(metrics),
        settings=settings,
        subtitle=summary.subtitle(settings),
        tiles=list(summary.tiles(metrics)),
        notices=list(_notices(run, cards)),
        command=summary.command(run.environment),
        environment=list(summary.flat(environment_rows)),
        cost=list(summary.cost_rows(metrics.get("cost", {}))),
        training=list(summary.training_rows(metrics)),
        phases=[(name, wording.duration(seconds)) for name, seconds in summary.phases(metrics)],
        by_number=by_number,
        charts=charts_of(run),
        programs=_programs(programs) if programs else None,
        program_cards=program_cards(run.programs, tasks),
        seen=pictures_seen.by_task(run.pictures),
        leak_sentences=list(map(leaks.sentence, compared)),
        leak_rows=[row for one in compared for row in leaks.leak_rows(one, named=True)],
        adaptation=list(wording.adaptation_sentences(metrics["adaptation"]))
        if "adaptation" in metrics
        else [],
        stages=list(wording.stage_rows(metrics.get("stages", []))),
        mistakes=metrics.get("submission", {}).get("details", []),
        cards=cards,
        buttons=[(name, text, counts[name]) for name, text in BUTTONS.items()],
        not_predicted=_not_predicted(run, cards),
    )


def charts_of(run: RunFiles) -> dict[str, Chart | None]:
    """The charts of a run's page by name; None where there is nothing to draw."""
    metrics = run.metrics
    score = metrics.get("score", {})
    by_number, programs = score.get("by_num_predictions", []), score.get("programs")
    is_search = "rounds" in metrics.get("adaptation", {})
    return {
        "losses": loss_chart(run.log, summary.token_mean(metrics.get("validation", {}).get("initial_loss"))),
        "learning_rate": learning_rate_chart(run.log),
        "predictions": predictions_chart(by_number) if len(by_number) > 1 else None,
        "programs": programs_chart(programs["by_num_sampled"]) if programs else None,
        "search": search_chart({run.name: programs}) if is_search else None,
    }


def _programs(programs: dict[str, Any]) -> dict[str, Any]:
    """What the page says of all programs together."""
    return {
        "sentences": list(program_sentences(programs)),
        "headings": HEADINGS,
        "rows": program_rows(programs),
    }


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
            f"{num_predicted:,}. The others ({num_left:,}) count neither as right nor as wrong."
        )
    num_silent = sum(not any(test.num_candidates for test in card.tests) for card in cards if card.predicted)
    if num_silent:
        verb = "counts" if num_silent == 1 else "count"
        yield f"{plural(num_silent, 'task')} got no candidate at all and {verb} as wrong."
    yield from _notices_on_scores(run, num_predicted)
    others = run.metrics.get("validation", {}).get("loss_with_others_pictures")
    if others and (warning := wording.pictures_warning(others)):
        yield f"{warning[0].upper()}{warning[1:]}."
    if count := count_not_finite(run.log):
        yield f"Values in the log that are not finite numbers: {count:,}. The curves leave them out."
    yield from _disagreement(run.metrics.get("score"), cards)


def _notices_on_scores(run: RunFiles, num_predicted: int) -> Iterator[str]:
    score, answered = run.metrics.get("score", {}), run.metrics.get("answered", {})
    if answered:
        sentence = unscored_sentence(answered["num_tasks"], answered["num_tasks_without_solutions"])
        if sentence:
            yield f"{sentence[0].upper()}{sentence[1:]}."
            if verified := verified_sentence(answered):
                yield f"{verified}."
    elif not score and num_predicted:
        yield "There is no score in metrics.json yet, so the pictures below are all there is to see."
    if mistakes := run.metrics.get("submission", {}).get("mistakes"):
        counts = ", ".join(f"{count} {kind}" for kind, count in mistakes.items())
        yield f"The submission has mistakes ({counts}). What is missing or no grid counts as wrong."
    if score.get("converted_from"):
        yield (
            "An earlier version wrote metrics.json and counted pass_at_k and vote_k over all test outputs. "
            "pass_at_2 is converted to Kaggle's and ARC Prize's rule, what cannot be is left out; "
            "python -m arc_experiments.reselect counts it again."
        )


def _disagreement(score: dict[str, Any] | None, cards: Sequence[TaskCard]) -> Iterator[str]:
    if not score or not any(card.predicted for card in cards):
        return
    scored = round(score["by_rule"]["test_output"] * score["num_test_outputs"])
    drawn = sum(card.num_solved for card in cards)
    if scored != drawn and not any(card.state == "unknown" for card in cards):
        yield (
            f"The pictures show {plural(drawn, 'right test output')}, metrics.json counts {scored}: the "
            "predictions or the tasks are not those that were scored."
        )
