"""Evaluate: views of validation tasks -> answers -> candidates -> attempts -> scores, page, submission."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from arc_experiments.generation.resuming import spent
from arc_experiments.jobs.cost import cost
from arc_experiments.jobs.display import Bar, duration, progress, show_plan
from arc_experiments.jobs.leak_check import leak_metrics, look_for_leaks, show_leaks
from arc_experiments.jobs.results import answered, show_finished, show_scores
from arc_experiments.jobs.submitted import score_file
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.report.page import write_report
from arc_experiments.run import PARTIAL_PREDICTIONS, Run
from arc_experiments.runs.environment import (
    describe,
    device_name,
    make_repeatable,
    peak_memory_bytes,
    quieten_libraries,
)
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring import selection
from arc_experiments.scoring.by_number import by_num_predictions
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.per_output import solved
from arc_experiments.scoring.selection import Candidate
from arc_experiments.scoring.submission import check_submission, submission
from arc_experiments.training.validation import ValidationLoss

LIKELIHOODS = "likelihoods"  # a folder beside the answers under way


def main(folder: RunFolder, console: Console) -> None:
    """Score a model as it is, or a run's (`from_run`), or answers that are there already (`submission`)."""
    run = Run(folder)
    if run.config.submission is not None:
        score_file(run, Path(run.config.submission), console)
        return
    check_weights(run)
    if is_reported(run):
        show_finished(run, console)
        return
    begin(run)
    leaks = look_for_leaks(run, trains=False)
    tracker = Tracker(run.folder, console, is_main=run.processes.is_main_process)
    model = run.model(trainable=False)
    show_plan(run, model, console)
    show_leaks(leaks, console)
    start = time.perf_counter()
    loss = run.validation_loss(model)
    seconds = {"validation": time.perf_counter() - start}
    metrics = {**validation_metrics(loss), **leak_metrics(leaks), "seconds": seconds}
    finish(run, model, metrics, tracker, console)


def is_reported(run: Run) -> bool:
    """Whether an earlier attempt came to its end: the page is the last thing written, where there is one."""
    if not (run.folder / "metrics.json").exists():
        return False
    has_page = {"score", "answered"} & run.folder.read_json("metrics.json").keys()
    return not has_page or (run.folder / "report.html").exists()


def validation_metrics(loss: ValidationLoss | None, *, initial_loss: float | None = None) -> dict[str, Any]:
    """The `validation` part of metrics.json: none where nothing could be measured."""
    if loss is None:
        return {}
    before = {} if initial_loss is None else {"initial_loss": initial_loss}
    return {"validation": {**before, "loss": asdict(loss)}}


def check_weights(run: Run) -> None:
    """Raises ValueError where an earlier attempt of this run began with other weights."""
    before, now = run.folder.read_json("environment.json").get("began_with", {}), run.weights.fingerprint
    if before.get("weights", now) != now:
        raise ValueError(
            f"{run.folder} began with other weights: those in {run.weights.source} have changed since (trained "
            "further?). Start beside it with resume=false"
        )


def begin(run: Run) -> None:
    """Fix what makes the run repeatable; note what it runs on and what it runs over.

    Raises:
        ValueError: an earlier attempt of this run began with other tasks or another dtype, or the answers cannot be
            constrained as asked.
    """
    quieten_libraries()
    environment = run.folder.read_json("environment.json")
    make_repeatable(run.config.hardware, _threads_before(run, environment))
    if run.config.inference.limit != 0:
        _ = run.engine  # what it refuses is known before anything is trained
    own = {
        "partition": run.partition.hash,
        "data": run.corpus.hash,
        "dtype": str(run.dtype).removeprefix("torch."),
        "weights": run.weights.fingerprint,
    }
    _check_same_data(run, own["data"])
    run.processes.wait_for_everyone()  # all have read what is there before one writes
    here = {"device": device_name(run.device), "num_processes": run.processes.num_processes}
    if run.config.hardware.per_device_batch_size == "auto" and here.items() <= environment.items():
        run.per_device_batch_size = environment["per_device_batch_size"]  # what an earlier attempt found here
    check_weights(run)
    before = {**own, **environment.get("began_with", {})}
    changed = [f"{name}: {before[name]} -> {own[name]}" for name in own if before[name] != own[name]]
    if changed:
        raise ValueError(
            f"{run.folder} began with something else ({', '.join(changed)}); going on would mix the two: "
            "start beside it with resume=false"
        )
    found = {**here, "per_device_batch_size": run.per_device_batch_size}
    run.folder.write_json(
        "environment.json", {**environment, **describe(run.device), **found, "began_with": own}
    )
    _write_partition(run)
    if any(run.corpus.skipped.values()):
        run.folder.write_json("skipped_tasks.json", run.corpus.skipped)


def _threads_before(run: Run, environment: Mapping[str, Any]) -> int | None:
    """What an earlier attempt computed with; None where the processes share the cores otherwise now, or come and go."""
    is_alike = environment.get("num_processes") == int(os.environ.get("WORLD_SIZE", "1"))
    return environment.get("threads") if is_alike and run.config.job.name != "adapt" else None


def _check_same_data(run: Run, data: str) -> None:
    """Raises ValueError where the processes of a run have read different tasks."""
    if run.processes.num_processes > 1:
        from accelerate.utils import gather_object

        if len(set(gather_object([data]))) > 1:
            raise ValueError(
                "the processes of this run have read different data: the files differ between machines, or the function "
                "in data.file does not give the same each time (a set has no fixed order: sort it)"
            )


def _write_partition(run: Run) -> None:
    """Who trains, who validates, and who was left out of training (`data.leaks=drop`) for the sake of whom."""
    partition, dropped = run.partition, run.corpus.dropped
    values = {"validation": partition.validation, "train": partition.train, "hash": partition.hash}
    run.folder.write_json("partition.json", {**values, **({"dropped": dropped} if dropped else {})})


def finish(run: Run, model: Any, metrics: dict[str, Any], tracker: Tracker, console: Console) -> None:
    """From the model to the page: answer, select, score, write everything down, show it."""
    start, num_processes = time.perf_counter(), run.processes.num_processes
    kept = run.folder / PARTIAL_PREDICTIONS
    places = (kept, kept / LIKELIHOODS)
    earlier = spent(*places).seconds / num_processes  # by attempts that were killed
    candidates = list[Candidate]()
    if len(run.predicted_tasks()):
        candidates = _compare(run, model, _answer(run, model, console), console)
    if not run.processes.is_main_process:
        return
    metrics["seconds"]["inference"] = earlier + time.perf_counter() - start
    if candidates:
        metrics["cost"] = cost(run, spent(*places), run.requests, candidates, num_processes=num_processes)
        metrics["peak_memory_bytes"] = metrics["cost"]["peak_memory_bytes"]
    conclude(run, candidates, metrics, tracker, console)


def conclude(
    run: Run,
    candidates: Sequence[Candidate],
    metrics: dict[str, Any],
    tracker: Tracker,
    console: Console,
) -> None:
    """From the answers to the page."""
    tasks = run.predicted_tasks()
    if len(tasks):
        rule = selection_rule(run)
        metrics |= answered(tasks)
        if len(solved(tasks)):
            metrics["score"] = score(tasks, candidates, rule, run.corpus.source_of)
            metrics["score"]["by_num_predictions"] = by_num_predictions(tasks, candidates, rule)
        attempts = submission(tasks, candidates, rule)
        check_submission(attempts, tasks)
        run.folder.write_json("submission.json", attempts)
        run.folder.write("predictions.jsonl", "".join(f"{candidate.to_json()}\n" for candidate in candidates))
    metrics["data"] = {"skipped_tasks": {name: len(skipped) for name, skipped in run.corpus.skipped.items()}}
    metrics["seconds"]["total"] = sum(metrics["seconds"].values())
    metrics["peak_memory_bytes"] = max(metrics.get("peak_memory_bytes", 0), peak_memory_bytes(run.device))
    run.folder.write_json("metrics.json", metrics)
    if len(tasks):
        write_report(run.folder.path, tasks)
        tracker.log_answers(tasks, attempts)
    shutil.rmtree(run.folder / PARTIAL_PREDICTIONS, ignore_errors=True)
    tracker.finish(metrics)
    show_scores(metrics, run, console)


def score_in_training(run: Run, model: Any) -> dict[str, float]:
    """What the finished run would be scored with, for a look during training: `{"pass_at_2": ...}`."""
    scores = score(run.predicted_tasks(), run.predict_in_training(model), selection_rule(run))
    return {"pass_at_2": scores["pass_at_2"]}


def selection_rule(run: Run) -> selection.Rule:
    """The rule by which this run's attempts are chosen."""
    rule: selection.Rule = getattr(selection, run.config.inference.selection)
    return rule


def show_shrunk(run: Run, console: Console) -> None:
    """How many prompts are not whole."""
    dropped = sum(request.num_dropped > 0 for request in run.requests)
    too_long = sum(request.ids is None for request in run.requests)
    if dropped or too_long:
        console.print(
            f"[yellow]note[/]         of {len(run.requests)} prompts {dropped} lost demonstrations to fit "
            f"prompt.max_length, {too_long} fit not even with one"
        )


def _answer(run: Run, model: Any, console: Console) -> Sequence[Candidate]:
    show_shrunk(run, console)
    with progress(console, "answering", len(run.requests)) as bar:
        return run.predict(model, _timed(bar), resume=True)


def _compare(run: Run, model: Any, candidates: Sequence[Candidate], console: Console) -> list[Candidate]:
    """The candidates with their likelihoods, where the composition asks for them."""
    if run.config.inference.scoring_views == 0:
        return list(candidates)
    outputs = {
        (candidate.task_id, candidate.test_index) for candidate in candidates if candidate.grid is not None
    }
    partial = run.folder / PARTIAL_PREDICTIONS / LIKELIHOODS
    with progress(console, "comparing", len(outputs) * run.config.inference.scoring_views) as bar:
        return run.with_likelihoods(model, candidates, partial, _timed(bar))


def _timed(bar: Bar) -> Callable[[int, int], None]:
    """What moves the bar, with the speed of this attempt."""
    start, earlier = time.perf_counter(), None

    def show(done: int, total: int) -> None:
        nonlocal earlier
        if earlier is None:  # by an attempt that was killed
            earlier = done
        if done > earlier:
            speed = (done - earlier) / (time.perf_counter() - start)
            bar.update(done, f"{speed:.1f} prompts/s, {duration((total - done) / speed)} left")

    return show
