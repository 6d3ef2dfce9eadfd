"""Scoring of answers that are there already: a submission file, written by whatever; no model is loaded.

What is missing or no grid is told and counts as wrong, so that the denominator is that of the task list.
"""

import hashlib
import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from arc_experiments.jobs.results import answered, show_finished, show_scores
from arc_experiments.report.page import write_report
from arc_experiments.run import Run
from arc_experiments.runs.environment import describe, peak_memory_bytes
from arc_experiments.scoring.per_output import solved
from arc_experiments.scoring.submission import attempted, find_mistakes, read_submission, score_attempts


def score_file(run: Run, file: Path, console: Console) -> None:
    """Score the attempts of a file, and make the page.

    Raises:
        ValueError: the file cannot be read or is no submission, none of the tasks has solutions, or an earlier attempt
            of this run scored another file or other tasks.
    """
    start = time.perf_counter()
    submission = read_submission(file)
    began_with = {
        "data": run.corpus.hash,
        "submission": hashlib.sha256(file.expanduser().read_bytes()).hexdigest()[:16],
    }
    _begin(run, began_with)
    if (run.folder / "metrics.json").exists() and (run.folder / "report.html").exists():
        show_finished(run, console)
        return
    tasks = run.predicted_tasks()
    # Tasks of another set can be many; what counts as wrong is told first.
    mistakes = sorted(find_mistakes(submission, tasks), key=lambda mistake: mistake.kind == "unknown task")
    candidates = attempted(submission, tasks)
    if not len(solved(tasks)):
        raise ValueError(
            f"submission={file}: none of the {len(tasks)} validation tasks of data={run.config.data.name} has solutions, so "
            "there is nothing to score it by: name tasks that have them (data=..., data.path=...)"
        )
    metrics = {
        **answered(tasks),
        "submission": {
            "path": str(file),
            "mistakes": dict(sorted(Counter(mistake.kind for mistake in mistakes).items())),
            "details": [mistake.text for mistake in mistakes],
        },
        "score": score_attempts(tasks, candidates, run.corpus.source_of),
    }
    run.folder.write("predictions.jsonl", "".join(f"{candidate.to_json()}\n" for candidate in candidates))
    seconds = time.perf_counter() - start
    metrics["seconds"] = {"scoring": seconds, "total": seconds}
    metrics["peak_memory_bytes"] = peak_memory_bytes(run.device)
    run.folder.write_json("metrics.json", metrics)
    write_report(run.folder.path, tasks)
    show_scores(metrics, run, console)


def _begin(run: Run, began_with: dict[str, str]) -> None:
    environment = run.folder.read_json("environment.json")
    before = environment.get("began_with", began_with)
    changed = [
        f"{name}: {before.get(name)} -> {value}"
        for name, value in began_with.items()
        if before.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{run.folder} scored something else ({', '.join(changed)}): start beside it with resume=false"
        )
    run.folder.write_json(
        "environment.json", {**environment, **describe(run.device), "began_with": began_with}
    )
    partition = run.partition
    values = {"validation": partition.validation, "train": partition.train, "hash": partition.hash}
    run.folder.write_json("partition.json", values)
