"""Evaluate: views of validation tasks -> answers -> candidates -> attempts -> scores, page, submission."""

import hashlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from arc_experiments.jobs.answering import answered, finish, is_reported, validation_metrics, write_candidates
from arc_experiments.jobs.beginning import (
    begin,
    check_resumes,
    check_weights,
    find_leaks,
    leak_metrics,
    note_environment,
    write_partition,
)
from arc_experiments.jobs.estimate import answering_seconds, prompts_text, show_estimate
from arc_experiments.jobs.resources import check_resources
from arc_experiments.jobs.results import show_finished, show_scores
from arc_experiments.jobs.terminal import show_leaks, show_plan
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.launching.tables import show_line
from arc_experiments.report.page import write_report
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.runs.environment import peak_memory_bytes
from arc_experiments.scoring.per_output import solved
from arc_experiments.scoring.submission import (
    Submission,
    attempted,
    find_mistakes,
    read_submission,
    score_attempts,
)
from arc_experiments.tasks import TaskSet


def main(run: Run, console: Console) -> None:
    """Score a model as it is, or a run's (`from_run`), or the answers in a file (`submission`)."""
    if run.config.submission is not None:
        _score_file(run, Path(run.config.submission), console)
        return
    check_weights(run)
    if is_reported(run):
        show_finished(run, console)
        return
    begin(run)
    leaks = find_leaks(run, trains=False)
    tracker = Tracker(run.folder, run.config, console, is_main=run.processes.is_main_process)
    check_resources(run, console)
    model = run.model(trainable=False)
    show_plan(run, model, console)
    _show_whose_weights(run, console)
    show_leaks(leaks, console)
    start = time.perf_counter()
    loss, others_pictures = run.validation_loss(model), run.loss_with_others_pictures(model)
    seconds = {"validation": time.perf_counter() - start}
    if run.requests:
        show_estimate(prompts_text(run, answering_seconds(run, model)), console)
    metrics = {
        **validation_metrics(loss, others_pictures=others_pictures),
        **leak_metrics(leaks),
        "seconds": seconds,
    }
    finish(run, model, metrics, tracker, console)


def _show_whose_weights(run: Run, console: Console) -> None:
    """Say that no run of the user's is evaluated, where a run folder may have been forgotten."""
    model = run.config.model
    if run.config.from_run is None and model.adapter is None and model.weights == "pretrained":
        text = (
            f"the weights of {model.path} as they are: from_run=<run folder> evaluates what a run has trained"
        )
        show_line(console, "note", text, "yellow")


def _score_file(run: Run, file: Path, console: Console) -> None:
    """Score a submission, whatever has written it, and make the page; no model is loaded.

    What is missing or no grid counts as wrong, so that the denominator is that of the task list.

    Raises:
        ValueError: the file cannot be read or is no submission, no task has solutions, or an earlier attempt
            scored another file or other tasks.
    """
    start = time.perf_counter()
    submission = read_submission(file)
    digest = hashlib.sha256(file.expanduser().read_bytes()).hexdigest()[:16]
    own = {"data": run.corpus.hash, "submission": digest}
    check_resumes(run, own, "scored")
    note_environment(run, {"began_with": own})
    write_partition(run)
    if is_reported(run):
        show_finished(run, console)
        return
    tasks = run.predicted_tasks()
    if not len(solved(tasks)):
        raise ValueError(
            f"submission={file}: none of {plural(len(tasks), 'validation task')} of "
            f"data={run.config.data.name} has solutions, so there is nothing to score it by: "
            "name tasks that have them (data=..., data.path=...)"
        )
    candidates = attempted(submission, tasks)
    write_candidates(run, "predictions.jsonl", candidates)
    metrics = {
        **answered(run, tasks),
        "submission": {"path": str(file), **_mistakes(submission, tasks)},
        "score": score_attempts(tasks, candidates, run.corpus.source_of),
    }
    seconds = time.perf_counter() - start
    metrics["seconds"] = {"scoring": seconds, "total": seconds}
    metrics["peak_memory_bytes"] = peak_memory_bytes(run.device)
    run.folder.write_json("metrics.json", metrics)
    write_report(run.folder.path, tasks)
    show_scores(metrics, run, console)


def _mistakes(submission: Submission, tasks: TaskSet) -> dict[str, Any]:
    """What is wrong with a submission, counted by kind and in sentences; what counts as wrong comes first."""
    # There may be many tasks of another set.
    mistakes = sorted(find_mistakes(submission, tasks), key=lambda mistake: mistake.kind == "unknown task")
    return {
        "mistakes": dict(sorted(Counter(mistake.kind for mistake in mistakes).items())),
        "details": [mistake.text for mistake in mistakes],
    }
