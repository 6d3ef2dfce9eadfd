"""What a job shows at its end: scores with their intervals, by rule and by kind of task, and their cost."""

from typing import Any

from rich.console import Console
from rich.table import Table

from arc_experiments.jobs.beginning import changed_tasks
from arc_experiments.launching.tables import plain_table, show_line
from arc_experiments.report.programs import HEADINGS, program_rows, program_sentences
from arc_experiments.report.wording import (
    BY_KAGGLE,
    BY_OUTPUT,
    KINDS,
    PROGRAMS,
    STAGE_HEADINGS,
    adaptation_sentences,
    cost_sentence,
    invalid_sentence,
    label,
    lost_sentence,
    percent,
    percent_range,
    pictures_sentence,
    pictures_warning,
    plural,
    points,
    points_range,
    rules_sentence,
    stage_rows,
    unscored_sentence,
    verified_sentence,
)
from arc_experiments.run import Run
from arc_experiments.scoring.metrics import in_todays_terms, tasks_asked

SHOWN_IDS = 12  # of tasks won or lost
SHOWN_MISTAKES = 10  # of a submission
SCORES = {label(name): name for name in (*BY_KAGGLE, *BY_OUTPUT)}
CAPTION = "pass@k, vote@k: Kaggle's and ARC Prize's rule; the others: means over all test outputs"


def show_scores(metrics: dict[str, Any], run: Run, console: Console) -> None:
    """Show the scores, what they have cost and where the files are; the last line is the run folder."""
    if "submission" in metrics:
        _show_mistakes(metrics["submission"], console)
    if "score" in metrics:
        _show_score(metrics, run.config.inference.selection, console)
    if "answered" in metrics:
        _show_answered(metrics["answered"], console)
    if "adaptation" in metrics:
        _show_adaptation(metrics, console)
    if "cost" in metrics:
        console.print(f"cost: {cost_sentence(metrics['cost'])}", markup=False)
    shares = metrics.get("train", {}).get("by_source", {})
    if len(shares) > 1:
        total = sum(shares.values())
        console.print("samples by source: " + ", ".join(f"{n} {c / total:.1%}" for n, c in shares.items()))
    if "validation" in metrics:
        _show_losses(metrics["validation"], console)
    if (run.folder / "report.html").exists():
        console.print(f"report: {run.folder}/report.html", markup=False)
    console.print(str(run.folder), markup=False)


def _show_answered(counts: dict[str, Any], console: Console) -> None:
    """Show what is known of the answers without solutions."""
    unscored = unscored_sentence(counts["num_tasks"], counts["num_tasks_without_solutions"])
    for sentence in filter(None, (unscored, verified_sentence(counts))):
        console.print(sentence)


def _show_score(metrics: dict[str, Any], selection: str, console: Console) -> None:
    """Show the scores in a table, by rule and by kind of task, and how many answers were invalid."""
    score, part = metrics["score"], part_asked(metrics)
    console.print(_paired_table(metrics, part) if "before" in metrics else score_table(score, part))
    if "by_selection" in score:
        console.print(selection_table(score, selection, part))
    if "lost" in score:
        console.print(lost_sentence(score, part))
    _show_groups(score.get("by_group", {}), part, console)
    console.print(rules_sentence(score, part))
    if invalid := invalid_sentence(score["invalid"]):
        console.print(invalid)
    if "programs" in score:
        show_programs(score["programs"], part, console)


def show_programs(programs: dict[str, Any], part: str, console: Console) -> None:
    """Show how many programs do what, against the number sampled for a task."""
    table = plain_table(*HEADINGS, title=f"programs{part}", caption=PROGRAMS)
    for row in program_rows(programs):
        table.add_row(*row)
    console.print(table)
    for sentence in program_sentences(programs):
        console.print(sentence, markup=False)


def part_asked(metrics: dict[str, Any]) -> str:
    """` (16 of 100 tasks asked)`, to follow a score; nothing if all were asked."""
    asked = tasks_asked(metrics)
    return f" ({asked})" if asked else ""


def _title(score: dict[str, Any], part: str) -> str:
    return f"{plural(score['num_tasks'], 'task')}, {plural(score['num_test_outputs'], 'test output')}{part}"


def score_table(score: dict[str, Any], part: str) -> Table:
    """Every score with its interval; `part` is that of `part_asked`."""
    table = plain_table("score", "", "95 % interval", title=_title(score, part), caption=CAPTION)
    for name, key in SCORES.items():
        if key in score:
            bounds = score["interval"].get(key)
            table.add_row(name, percent(score[key]), "" if bounds is None else percent_range(bounds))
    return table


def _show_groups(by_group: dict[str, dict[str, Any]], part: str, console: Console) -> None:
    """Show pass@2 by kind of task, a line a kind; the page has the intervals."""
    for kind, groups in by_group.items():
        parts = (
            f"{percent(group['pass_at_2'])} for {name} ({plural(group['num_tasks'], 'task')})"
            for name, group in groups.items()
        )
        console.print(f"pass@2 by {KINDS[kind]}{part}: {', '.join(parts)}", markup=False)


def _show_mistakes(submission: dict[str, Any], console: Console) -> None:
    """Show what is wrong with a submission: counted by kind, the first mistakes in full."""
    console.print(f"submission: {submission['path']}", markup=False)
    counts = ", ".join(f"{count} x {kind}" for kind, count in submission["mistakes"].items())
    if not counts:
        console.print("It answers every test output, two attempts each.")
        return
    console.print(f"[yellow]mistakes[/]     {counts}. What is missing or no grid counts as wrong:")
    for text in submission["details"][:SHOWN_MISTAKES]:
        console.print(f"             {text}", markup=False)
    if len(submission["details"]) > SHOWN_MISTAKES:
        left = len(submission["details"]) - SHOWN_MISTAKES
        console.print(f"             ... and {left} more (metrics.json)")


def _paired_table(metrics: dict[str, Any], part: str) -> Table:
    """The scores before and after adaptation, with the differences in percentage points."""
    before, after, gains = metrics["before"]["score"], metrics["score"], metrics["difference"]
    headings = ("score", "before", "after", "difference, points", "95 % interval")
    table = plain_table(*headings, title=_title(after, part), caption=CAPTION)
    for name, key in SCORES.items():
        if key not in before or key not in after:  # one of them by an earlier version
            continue
        bounds = gains.get(key, {}).get("interval")
        interval = "" if bounds is None else points_range(bounds)
        scores = (percent(before[key]), percent(after[key]), points(after[key] - before[key]))
        table.add_row(name, *scores, interval)
    return table


def _show_adaptation(metrics: dict[str, Any], console: Console) -> None:
    """Show outcomes, losses, and which tasks were won and lost, if that is known."""
    if "stages" in metrics:
        table = plain_table(*STAGE_HEADINGS, title="what each stage gave")
        for row in stage_rows(metrics["stages"]):
            table.add_row(*row)
        console.print(table)
    for sentence in adaptation_sentences(metrics["adaptation"]):
        console.print(sentence)
    gains = metrics.get("difference", {})
    for name in ("won", "lost") if gains else ():
        ids = gains[name]
        shown = f": {', '.join(ids[:SHOWN_IDS])}{', ...' if len(ids) > SHOWN_IDS else ''}" if ids else ""
        console.print(f"{name}: {plural(len(ids), 'task')}{shown}", markup=False)


def _show_losses(losses: dict[str, Any], console: Console) -> None:
    before = f"{losses['initial_loss']:.4f} -> " if "initial_loss" in losses else ""
    over = plural(losses["loss"]["num_tasks"], "task")
    if too_long := losses["loss"].get("num_too_long"):
        over += f" (left out, as prompt.max_length has no room for them: {plural(too_long, 'answer')})"
    console.print(f"validation loss per token: {before}{losses['loss']['token_mean']:.4f}, over {over}")
    if others := losses.get("loss_with_others_pictures"):
        console.print(f"validation loss per token {pictures_sentence(others)}")
        if warning := pictures_warning(others):
            console.print(f"[yellow]warning[/]      {warning}")
    by_source = losses["loss"]["by_source"]
    if len(by_source) > 1:
        console.print(
            "by source: " + ", ".join(f"{n} {part['token_mean']:.4f}" for n, part in by_source.items())
        )


def selection_table(score: dict[str, Any], named: str, part: str) -> Table:
    """What each selection rule would have scored, and proposed grids that it did not choose; the rule that
    gave the attempts is marked.

    Args:
        part: of `part_asked`.
    """
    lost = score.get("lost", {}).get("by_selection", {})  # no part of earlier versions
    headings = ("selection", "pass@1", "pass@2", *(("not chosen", "95 % interval") if lost else ()))
    caption = f"by Kaggle's and ARC Prize's rule{part}"
    if lost:
        caption += "\nnot chosen: a candidate was right, but neither attempt was"
    table = plain_table(*headings, title="by selection rule", caption=caption)
    for name, values in score["by_selection"].items():
        mark = " (the attempts)" if name == named else ""
        cells = [percent(values[key]) for key in ("pass_at_1", "pass_at_2")]
        if lost:
            cells += [percent(lost[name]["not_chosen"]), percent_range(lost[name]["interval"])]
        table.add_row(name + mark, *cells)
    return table


def _about_tasks(run: Run) -> str:
    """Warn that a finished run's scores are not those of today's tasks; empty if they are."""
    try:
        changed = changed_tasks(run, run.folder)
    except Exception as error:  # noqa: BLE001 (whatever became of the files, the scores are there)
        return f"the tasks cannot be read any more: {error}"
    return changed and f"{changed}. These scores are of the old ones; resume=false starts with the new ones"


def show_finished(run: Run, console: Console) -> None:
    """Show the scores of a run that was finished earlier."""
    console.print("This run is finished (resume=false starts another beside it).")
    if warning := _about_tasks(run):
        show_line(console, "warning", warning, "yellow")
    show_scores(in_todays_terms(run.folder.read_json("metrics.json")), run, console)
