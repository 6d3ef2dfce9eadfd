"""From a model to the page: answers -> likelihoods -> attempts -> scores -> submission, page and tracker.

What answers have cost is the `cost` part of metrics.json:

    {"device": "cpu, 2 threads", "num_processes": 1, "device_seconds": 81.5, "device_seconds_per_task": 0.82,
     "prompt_tokens": 912000, "generated_tokens": 61000, "compared_tokens": 0, "peak_memory_bytes": 913000000}

Its seconds were spent on finished pieces of work, in all attempts and processes (times the GPUs of a split
model). Work that a kill cut off is not counted. The peak is that of the process that needed most.
"""

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from arc_experiments.config.schema import NEED_LIKELIHOODS
from arc_experiments.generation.requests import Request
from arc_experiments.generation.resuming import Spent, forget, spent
from arc_experiments.jobs.results import show_scores
from arc_experiments.jobs.shown_programs import shown_programs
from arc_experiments.jobs.terminal import progress, show_shrunk, timed
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.report.model_card import write_card
from arc_experiments.report.page import write_report
from arc_experiments.report.pictures_seen import FILE as PICTURES
from arc_experiments.report.pictures_seen import SeenPicture, SeenPrompt
from arc_experiments.report.programs import FILE as PROGRAMS
from arc_experiments.run import PARTIAL_PREDICTIONS, Run
from arc_experiments.runs.environment import device_name, peak_memory_bytes
from arc_experiments.scoring.by_num_predictions import by_num_predictions
from arc_experiments.scoring.by_program import verified_tasks
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.per_output import solved
from arc_experiments.scoring.selection import distinct_by_output
from arc_experiments.scoring.submission import Submission, check_submission, submission
from arc_experiments.tasks import TaskSet
from arc_experiments.training.others_pictures import loss_differences
from arc_experiments.training.validation import ValidationLoss

SHOWN_TASKS = 4  # whose pictures are kept
LIKELIHOODS = "likelihoods"  # a folder beside the answers under way


def is_reported(run: Run) -> bool:
    """Whether an earlier attempt came to its end: the page is written last, if there is one."""
    if not (run.folder / "metrics.json").exists():
        return False
    has_page = {"score", "answered"} & run.folder.read_json("metrics.json").keys()
    return not has_page or (run.folder / "report.html").exists()


def validation_metrics(
    loss: ValidationLoss | None,
    *,
    initial_loss: float | None = None,
    others_pictures: ValidationLoss | None = None,
) -> dict[str, Any]:
    """The `validation` part of metrics.json; empty if nothing could be measured.

    Args:
        others_pictures: the loss with the pictures of other tasks; None: not measured.
    """
    if loss is None:
        return {}
    losses: dict[str, Any] = {} if initial_loss is None else {"initial_loss": initial_loss}
    losses["loss"] = asdict(loss)
    if others_pictures is not None:
        difference, interval = loss_differences(loss.by_task, others_pictures.by_task)
        losses["loss_with_others_pictures"] = {
            **asdict(others_pictures),
            "difference": difference,
            "interval": interval,
        }
    return {"validation": losses}


def score_in_training(run: Run, model: Any) -> dict[str, float]:
    """What the finished run would score with the model as it is now: `{"pass_at_2": ...}`."""
    candidates = [*answer_in_training(run, model), *run.fallback]
    scores = score(run.predicted_tasks(), candidates, run.rule)
    return {"pass_at_2": scores["pass_at_2"]}


def answer_in_training(run: Run, model: Any) -> list[Candidate]:
    """Answer the tasks during training: the model is left exactly as it is, and no answer is kept."""
    was_training, kept = model.training, run.folder / f"{PARTIAL_PREDICTIONS}.training"
    forget(kept, run.processes)  # a killed attempt's, whose weights were others
    candidates = run.predictor.predict(model.eval(), run.requests, kept)
    if run.config.inference.selection in NEED_LIKELIHOODS:
        tasks, folder = run.predicted_tasks(), kept / LIKELIHOODS
        candidates = run.predictor.with_likelihoods(model, tasks, candidates, folder)
    forget(kept, run.processes)
    model.train(was_training)
    return candidates


def finish(run: Run, model: Any, metrics: dict[str, Any], tracker: Tracker, console: Console) -> None:
    """Answer the tasks, resuming an earlier attempt's answers, and report.

    Args:
        metrics: what metrics.json holds beside the answers' part.
    """
    start, num_processes = time.perf_counter(), run.processes.num_processes
    kept = run.folder / PARTIAL_PREDICTIONS
    places = (kept, kept / LIKELIHOODS)
    earlier = spent(*places).seconds / num_processes  # by attempts that were killed
    candidates: Sequence[Candidate] = ()
    if len(run.predicted_tasks()):
        candidates = _answer(run, model, console)
    if not run.processes.is_main_process:
        return
    metrics["seconds"]["inference"] = earlier + time.perf_counter() - start
    if candidates:
        metrics["cost"] = cost(run, spent(*places), run.requests, candidates, num_processes=num_processes)
        metrics["peak_memory_bytes"] = metrics["cost"]["peak_memory_bytes"]
    report(run, candidates, metrics, tracker, console)


def _answer(run: Run, model: Any, console: Console) -> Sequence[Candidate]:
    """Answer every request and rescore the answers, if the composition asks for likelihoods."""
    show_shrunk(run, console)
    with progress(console, "answering", len(run.requests)) as bar:
        candidates = run.predict(model, timed(bar), resume=True)
    num_views = run.config.inference.scoring_views
    if num_views == 0:
        return candidates
    grids = [one for one in candidates if one.grid is not None and one.program is None]
    num_outputs = len({(one.task_id, one.test_index) for one in grids})
    partial = run.folder / PARTIAL_PREDICTIONS / LIKELIHOODS
    with progress(console, "comparing", num_outputs * num_views) as bar:
        return run.predictor.with_likelihoods(model, run.predicted_tasks(), candidates, partial, timed(bar))


def report(
    run: Run,
    candidates: Sequence[Candidate],
    metrics: dict[str, Any],
    tracker: Tracker,
    console: Console,
) -> None:
    """Score the answers; write predictions, submission, metrics and page; show and track them.

    Those of `inference.fallback_run` join them.
    """
    tasks, attempts = run.predicted_tasks(), Submission()
    if len(tasks):
        candidates = [*candidates, *run.fallback]
        metrics |= _scored(run, tasks, candidates)
        attempts = submission(tasks, candidates, run.rule)
        check_submission(attempts, tasks)
        run.folder.write_json("submission.json", attempts)
        write_candidates(run, "predictions.jsonl", candidates)
        _write_programs(run, tasks, candidates)
        _write_pictures(run, tasks)
    metrics["data"] = {"skipped_tasks": {name: len(skipped) for name, skipped in run.corpus.skipped.items()}}
    metrics["seconds"]["total"] = sum(metrics["seconds"].values())
    metrics["peak_memory_bytes"] = max(metrics.get("peak_memory_bytes", 0), peak_memory_bytes(run.device))
    _write_card(run, metrics)
    run.folder.write_json("metrics.json", metrics)
    if len(tasks):
        write_report(run.folder.path, tasks)
        tracker.log_answers(tasks, attempts)
    shutil.rmtree(run.folder / PARTIAL_PREDICTIONS, ignore_errors=True)
    tracker.finish(metrics)
    show_scores(metrics, run, console)


def _write_card(run: Run, metrics: dict[str, Any]) -> None:
    """Write what the weights are, beside them, if this run has made some."""
    if run.weights.folder.is_dir():
        question = next((run.prompt.decode(each.ids) for each in run.requests if each.ids is not None), None)
        shows_pictures = run.config.prompt.shows_pictures
        write_card(
            run.folder.path, run.weights.folder, metrics, question=question, shows_pictures=shows_pictures
        )


def _write_programs(run: Run, tasks: TaskSet, candidates: Sequence[Candidate]) -> None:
    """Write the programs behind the attempts, if programs were asked for."""
    if any(one.program is not None for one in candidates):
        found = shown_programs(tasks, candidates, run.rule, run.sandbox, seed=run.config.seeds.inference)
        run.folder.write(PROGRAMS, "".join(f"{json.dumps(one.to_record())}\n" for one in found))


def _write_pictures(run: Run, tasks: TaskSet) -> None:
    """Write what the model saw of the first tasks, if that was pictures."""
    first = tasks.ids[:SHOWN_TASKS]
    found = [
        SeenPrompt(
            task_id=request.task_id,
            test_index=request.test_index,
            view=request.view.name,
            num_tokens=len(request.encoded),
            pictures=tuple(map(SeenPicture.of, request.encoded.pictures)),
        )
        for request in run.requests
        if request.task_id in first and request.view.index == 0
        if request.encoded is not None and request.encoded.pictures
    ]
    if found:
        run.folder.write(PICTURES, "".join(f"{json.dumps(one.to_record())}\n" for one in found))


def _scored(run: Run, tasks: TaskSet, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The parts `answered` and `score` of metrics.json, the latter if some task has solutions."""
    metrics = answered(run, tasks)
    if (verified := verified_tasks(candidates)) is not None:
        metrics["answered"]["num_tasks_verified"] = len(verified)
    if len(solved(tasks)):
        rule = run.rule
        metrics["score"] = score(tasks, candidates, rule, run.corpus.source_of)
        metrics["score"]["by_num_predictions"] = by_num_predictions(tasks, candidates, rule)
    return metrics


def answered(run: Run, tasks: TaskSet) -> dict[str, Any]:
    """For metrics.json: how many tasks were answered, of how many, and how many of them cannot be scored."""
    return {
        "answered": {
            "num_tasks": len(tasks),
            "num_test_outputs": tasks.num_test_outputs,
            "num_tasks_without_solutions": len(tasks) - len(solved(tasks)),
            "num_validation_tasks": len(run.corpus.arc_tasks),
        }
    }


def write_candidates(run: Run, name: str, candidates: Iterable[Candidate]) -> None:
    """Write answers into the run's folder, a line each."""
    run.folder.write(name, "".join(f"{candidate.to_json()}\n" for candidate in candidates))


def cost(
    run: Run,
    spent: Spent,
    requests: Iterable[Request],
    *answers: Sequence[Candidate],
    num_processes: int,
    **more: int,
) -> dict[str, Any]:
    """What it has cost to ask these questions and to compare the answers.

    Args:
        answers: each time that the tasks were answered.
        more: other counts of tokens.
    """
    num_gpus = torch.cuda.device_count() if run.config.hardware.parallelism == "split" else 1
    seconds = spent.seconds * max(1, num_gpus)
    # A program's tokens are those of each of its candidates: one per test output.
    generated = [
        one for candidates in answers for one in candidates if one.program is None or one.test_index == 0
    ]
    compared = [ranked for candidates in answers for ranked in distinct_by_output(candidates)]
    return {
        "device": device_name(run.device),
        "num_processes": num_processes,
        "device_seconds": seconds,
        "device_seconds_per_task": seconds / len(run.predicted_tasks()),
        "prompt_tokens": sum(len(request.ids) for request in requests if request.ids is not None),
        "generated_tokens": sum(one.num_tokens for one in generated),
        "compared_tokens": sum(one.num_tokens for ranked in compared for one in ranked.likelihoods),
        **more,
        "peak_memory_bytes": spent.peak_memory_bytes,
    }
