"""Evaluate: views of validation tasks -> answers -> candidates -> attempts -> scores, page, submission."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from arc_experiments.environment import describe, make_repeatable, peak_memory_bytes
from arc_experiments.jobs.display import duration, progress, show_finished, show_plan, show_scores
from arc_experiments.report import write_report
from arc_experiments.run import Run
from arc_experiments.run_folder import RunFolder
from arc_experiments.scoring import check_submission, score, submission
from arc_experiments.selection import Candidate


def main(folder: RunFolder, console: Console) -> None:
    """Score a model as it is, or a run's (`from_run`)."""
    run = Run(folder)
    if (run.folder / "metrics.json").exists():
        show_finished(run, console)
        return
    begin(run)
    model = run.model(trainable=False)
    show_plan(run, model, console)
    warn_of_leaks(run, console)
    start = time.perf_counter()
    loss = run.validation_loss(model)
    seconds = {"validation": time.perf_counter() - start}
    finish(run, model, {"validation": {"loss": vars(loss)}, "seconds": seconds}, console)


def begin(run: Run) -> None:
    """Fix what makes the run repeatable; note what it runs on and what it runs over."""
    make_repeatable(run.config.hardware)
    if run.partition.hash and not (run.folder / "partition.json").exists():
        run.folder.write_json(
            "partition.json",
            {
                "validation": run.partition.validation,
                "train": run.partition.train,
                "hash": run.partition.hash,
            },
        )
    data_hash = run.validation_tasks.hash()
    environment = run.folder.read_json("environment.json")
    run.folder.write_json(
        "environment.json", {**environment, **describe(run.device), "validation_data": data_hash}
    )


def warn_of_leaks(run: Run, console: Console) -> None:
    """Say loudly where the weights have been trained on validation tasks."""
    leaks = run.parent.leaks(run.partition.validation) if run.parent is not None else []
    if leaks:
        console.print(
            f"[bold red]LEAK[/]         {len(leaks)} of {len(run.partition.validation)} validation tasks were "
            f"trained on by these weights: {', '.join(leaks[:5])}{' ...' if len(leaks) > 5 else ''}"
        )


def finish(run: Run, model: Any, metrics: dict[str, Any], console: Console) -> None:
    """From the model to the page: answer, select, score, write everything down, show it."""
    start = time.perf_counter()
    tasks = run.predicted_tasks()
    if len(tasks):
        candidates = _answer(run, model, console)
        metrics["score"] = score(tasks, candidates)
        attempts = submission(tasks, candidates)
        check_submission(attempts, tasks)
        run.folder.write_json("submission.json", attempts)
        run.folder.write("predictions.jsonl", "".join(f"{candidate.to_json()}\n" for candidate in candidates))
        (run.folder / ".predictions.partial").unlink(missing_ok=True)
    metrics["seconds"]["inference"] = time.perf_counter() - start
    metrics["seconds"]["total"] = sum(metrics["seconds"].values())
    metrics["peak_memory_bytes"] = peak_memory_bytes(run.device)
    run.folder.write_json("metrics.json", metrics)
    if len(tasks):
        write_report(run.folder.path, tasks)
    show_scores(metrics, run, console)


def _answer(run: Run, model: Any, console: Console) -> Sequence[Candidate]:
    dropped = sum(request.num_dropped > 0 for request in run.requests)
    too_long = sum(request.ids is None for request in run.requests)
    if dropped or too_long:
        console.print(
            f"[yellow]note[/]         of {len(run.requests)} prompts {dropped} lost demonstrations to fit "
            f"prompt.max_length, {too_long} fit not even with one"
        )
    start = time.perf_counter()
    with progress(console, "answering", len(run.requests)) as bar:

        def show(done: int, total: int) -> None:
            seconds = time.perf_counter() - start
            bar.update(
                done, f"{done / seconds:.1f} prompts/s, {duration(seconds / done * (total - done))} left"
            )

        return run.predict(model, show)
