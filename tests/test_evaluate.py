"""Evaluation of tasks whose solutions are not known, and what answers have cost, kills included."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_tools import lasting_metrics, outcomes
from quick_compose import compose
from rich.console import Console
from task_files import write

from arc_experiments import load_run
from arc_experiments.generation import batching
from arc_experiments.generation.resuming import Spent, spent
from arc_experiments.jobs import adapt, evaluate, finetune
from arc_experiments.reselect import select_again
from arc_experiments.run import Run
from arc_experiments.tasks import TaskSet

OPTIONS = [
    "data=kaggle", "prompt=compact", "tracking=off", "hardware=cpu", "hardware.threads=1",
    "prompt.max_length=256",
    "inference=one_view", "inference.num_views=2", "inference.max_new_tokens=8", "model.lora.rank=4",
    "optim.max_steps=2", "optim.batch_size=2", "optim.warmup=0",
]  # fmt: skip


def kaggle(folder: Path, num_training: int = 3, num_test: int = 3) -> Path:
    """Kaggle's files: a training set with solutions, a test set without, its last task with two inputs."""
    rng = np.random.default_rng(0)

    def pair() -> dict[str, Any]:
        row = rng.integers(0, 10, 3).tolist()
        return {"input": [row], "output": [row[::-1]]}

    for name, count in (("training", num_training), ("test", num_test)):
        tasks, solutions = {}, {}
        for number in range(count):
            tests = [pair() for _ in range(1 + (number == count - 1))]
            task_id = f"{name}{number}"
            tasks[task_id] = {
                "train": [pair() for _ in range(3)],
                "test": [{"input": one["input"]} for one in tests],
            }
            solutions[task_id] = [one["output"] for one in tests]
        write(folder, f"arc-agi_{name}_challenges.json", tasks)
        if name == "training":
            write(folder, f"arc-agi_{name}_solutions.json", solutions)
    return folder


def run_job(main: Callable[..., None], folder: Path, *overrides: str) -> tuple[Run, str]:
    torch.set_num_threads(1)
    run, printed = compose([*OPTIONS, *overrides], folder), io.StringIO()
    main(run, Console(file=printed, width=200))
    return run, printed.getvalue()


def check_answered(run: Run, printed: str) -> dict[str, Any]:
    """A submission of all, no score, and all of it said."""
    metrics: dict[str, Any] = run.folder.read_json("metrics.json")
    attempts = run.folder.read_json("submission.json")
    assert {name: len(entries) for name, entries in attempts.items()} == {"test0": 1, "test1": 1, "test2": 2}
    assert metrics["answered"] == {
        "num_tasks": 3, "num_test_outputs": 4, "num_tasks_without_solutions": 3, "num_validation_tasks": 3,
    }  # fmt: skip
    assert not {"score", "validation", "difference", "before"} & metrics.keys()
    assert "no score: none of the 3 tasks has solutions" in printed
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "none of the 3 tasks has solutions" in page
    assert "Nothing was scored" not in page
    return metrics


def test_a_test_set_without_solutions_is_answered_and_not_scored(tmp_path: Path) -> None:
    data = ["job=evaluate", f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[test]"]
    run, printed = run_job(evaluate.main, tmp_path / "run", *data, "data.partition=official")
    metrics = check_answered(run, printed)
    assert "no validation loss: no validation task has solutions" in printed
    assert "0 tasks train, 3 tasks validate (4 test outputs)" in printed
    assert "package:tiny as they are: from_run=<run folder> evaluates what a run has trained" in printed
    assert len((run.folder / "predictions.jsonl").read_text().splitlines()) == 8
    assert metrics["cost"]["device_seconds_per_task"] > 0
    _, again = run_job(evaluate.main, tmp_path / "run", *data)
    assert "This run is finished" in again


def test_answers_to_tasks_that_are_no_longer_asked_are_not_selected_from(tmp_path: Path) -> None:
    data = [f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[training]", "data.partition=all"]
    run, _ = run_job(evaluate.main, tmp_path / "run", "job=evaluate", *data, "inference.limit=2")
    asked, other = run.corpus.asked(3).ids[0], run.corpus.asked(3).ids[2]
    text = (run.folder / "predictions.jsonl").read_text()
    (run.folder / "predictions.jsonl").write_text(text.replace(asked, other))
    with pytest.raises(ValueError, match=rf"answered tasks that its settings no longer ask \({other}\)"):
        select_again(run.folder.path, None, None, Console(file=io.StringIO()))


@pytest.mark.parametrize("limit", [2, 3])
def test_scores_of_a_part_say_so_wherever_they_are_shown(tmp_path: Path, limit: int) -> None:
    data = [f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[training]", "data.partition=all"]
    run, printed = run_job(evaluate.main, tmp_path / "run", "job=evaluate", *data, f"inference.limit={limit}")
    _, again = run_job(evaluate.main, tmp_path / "run", "job=evaluate", *data, f"inference.limit={limit}")
    reselected = io.StringIO()
    select_again(run.folder.path, None, None, Console(file=reselected, width=200))
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    shown = [line for line in printed.splitlines() if "of 3 tasks asked" in line]
    if limit == 3:
        assert not shown
        assert "tasks asked" not in page + again + reselected.getvalue()
        return
    assert "3 tasks validate (4 test outputs); 2 tasks are asked (inference.limit)" in printed
    for title in ("2 tasks, 2 test outputs", "by Kaggle's and ARC Prize's rule", "pass@2 by", "two attempts"):
        assert any(title in line and "(2 of 3 tasks asked)" in line for line in shown), title
    assert "validation loss per token: " in printed, "the loss is over all of them"
    assert "2 tasks, 2 test outputs (2 of 3 tasks asked)" in again
    assert "(2 of 3 tasks asked)" in reselected.getvalue()
    intervals = [line for line in printed.splitlines() if re.match("│ (pass|vote)@", line)]
    assert len(intervals) == 5
    assert all(re.search("[0-9]\N{EN DASH}[0-9]", line) for line in intervals)
    assert intervals == [line for line in reselected.getvalue().splitlines() if line in intervals]
    assert page.count("2 of 3 tasks asked") >= 4, "tiles, scores, kinds of task, number of predictions"


@pytest.mark.slow
def test_a_training_ends_with_a_submission_for_tasks_without_solutions(tmp_path: Path) -> None:
    data = [f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[training,test]"]
    run, printed = run_job(finetune.main, tmp_path / "run", *data, "optim.eval_steps=1")
    metrics = check_answered(run, printed)
    assert metrics["train"]["steps"] == 2
    assert run.partition.train == ("training0", "training1", "training2")


def test_a_training_cannot_be_judged_by_tasks_without_solutions(tmp_path: Path) -> None:
    data = [f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[training,test]"]
    for by in ("validation_loss", "pass_at_2"):
        with pytest.raises(ValueError, match=f"optim.best_by={by} needs validation tasks with solutions"):
            run_job(finetune.main, tmp_path / by, *data, f"optim.best_by={by}", "optim.eval_steps=1")


def test_a_training_needs_tasks_to_train_on(tmp_path: Path) -> None:
    data = [f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[test]"]
    with pytest.raises(ValueError, match="no task is left to train on"):
        run_job(finetune.main, tmp_path / "run", *data)


@pytest.mark.slow
def test_adaptation_answers_tasks_without_solutions(tmp_path: Path) -> None:
    data = ["job=adapt", f"data.path={kaggle(tmp_path / 'data')}", "data.source.splits=[test]"]
    run, printed = run_job(adapt.main, tmp_path / "run", *data)
    metrics = check_answered(run, printed)
    assert outcomes(run) == {"whole": 3}
    assert "3 tasks trained to the end" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert metrics["cost"]["training_tokens"] == metrics["adaptation"]["tokens"] > 0
    once = sum(len(request.ids) for request in run.requests)
    assert metrics["cost"]["prompt_tokens"] == 2 * once


def test_tasks_with_solutions_are_scored_beside_those_without(tmp_path: Path) -> None:
    folder = kaggle(tmp_path / "data")
    partition = {"validation": ["test0", "training0", "test2"], "train": ["training1"]}
    write(tmp_path, "partition.json", partition)
    data = [
        f"data.path={folder}", "data.source.splits=[training,test]", "data.partition=file",
        f"data.partition_file={tmp_path}/partition.json",
    ]  # fmt: skip
    run, printed = run_job(evaluate.main, tmp_path / "run", "job=evaluate", *data)
    metrics = run.folder.read_json("metrics.json")
    assert (metrics["score"]["num_tasks"], metrics["score"]["num_tasks_without_solutions"]) == (1, 2)
    assert list(metrics["score"]["by_task"]) == ["training0"]
    assert metrics["validation"]["loss"]["num_tasks"] == 1
    assert list(run.folder.read_json("submission.json")) == partition["validation"]
    words = "2 of 3 tasks have no solutions: their answers are in submission.json, "
    words += "and the scores are over the other 1"
    assert words in printed
    assert words in (run.folder / "report.html").read_text(encoding="utf-8")
    assert "not those that were scored" not in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_cost_of_a_killed_evaluation_is_that_of_all_its_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["job=evaluate", f"data.path={kaggle(tmp_path / 'data', 2, 4)}", "data.source.splits=[test]"]
    few += ["data.partition=official", "inference.batch_tokens=1", "inference.scoring_views=2"]
    whole, _ = run_job(evaluate.main, tmp_path / "whole", *few)

    answer, calls = batching.PromptBatch.answer, []

    def killed_at_the_fifth(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(batching.PromptBatch, "answer", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run_job(evaluate.main, tmp_path / "run", *few)
    kept = tmp_path / "run" / ".predictions"
    first = spent(kept)
    assert first.seconds > 0
    assert first.peak_memory_bytes > 10**7
    text = (kept / "0.jsonl").read_text()
    slow = [json.loads(line) | {"cost": [1000.0, 10**15]} for line in text.splitlines() if line]
    (kept / "0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in slow) + '{"key": ["torn')
    run, printed = run_job(evaluate.main, tmp_path / "run", *few)
    cost = run.folder.read_json("metrics.json")["cost"]
    assert 4000 < cost["device_seconds"] < 4500
    assert cost["device_seconds_per_task"] == cost["device_seconds"] / 4
    assert cost["peak_memory_bytes"] == 10**15 == run.folder.read_json("metrics.json")["peak_memory_bytes"]
    assert 4000 < run.folder.read_json("metrics.json")["seconds"]["inference"] < 4500
    assert "s a task on cpu, 1 thread (1 h 6 min in all attempts and processes)" in printed
    assert lasting_metrics(run) == lasting_metrics(load_run(whole.folder.path))
    varying = ("device_seconds", "device_seconds_per_task", "peak_memory_bytes")
    unkilled = whole.folder.read_json("metrics.json")["cost"]
    assert {k: v for k, v in cost.items() if k not in varying} == {
        k: v for k, v in unkilled.items() if k not in varying
    }
    assert not kept.exists()


def test_work_that_was_kept_without_its_cost_counts_nothing(tmp_path: Path) -> None:
    write(
        tmp_path,
        "0.jsonl",
        '{"key": ["a", 0, 0], "records": []}\n{"key": ["b", 0, 0], "records": [], "cost": [2, 7]}\n',
    )
    write(tmp_path, "1.jsonl", '{"key": ["b", 0, 0], "records": [], "cost": [3, 5]}\n')
    assert spent(tmp_path, tmp_path / "nowhere") == Spent(seconds=3, peak_memory_bytes=5)


def test_token_counts_are_those_of_prompts_and_answers(tmp_path: Path) -> None:
    run, _ = run_job(
        evaluate.main, tmp_path / "run", "job=evaluate", f"data.path={kaggle(tmp_path / 'data')}",
        "data.source.splits=[test]",
    )  # fmt: skip
    cost = run.folder.read_json("metrics.json")["cost"]
    lines = [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text().splitlines()]
    assert cost["generated_tokens"] == sum(line["num_tokens"] for line in lines)
    assert cost["prompt_tokens"] == sum(len(request.ids) for request in run.requests)
    assert isinstance(run.predicted_tasks(), TaskSet)


def evaluated(trained: Path, folder: Path) -> str:
    """What is shown by an evaluation of a run."""
    options = ["job=evaluate", f"from_run={trained}", "tracking=off", "hardware=cpu", "hardware.threads=1"]
    printed = io.StringIO()
    evaluate.main(compose(options, folder), Console(file=printed, width=300))
    return printed.getvalue()


@pytest.mark.slow
def test_a_finished_run_and_its_evaluation_say_that_the_tasks_have_changed_or_are_gone(
    tmp_path: Path,
) -> None:
    tasks = kaggle(tmp_path / "data", num_training=4)
    data = [
        f"data.path={tasks}",
        "data.source.splits=[training]",
        "data.partition=seeded",
        "data.num_validation=1",
    ]
    job = [*data, "inference.limit=0"]
    _, printed = run_job(finetune.main, tmp_path / "run", *job)
    _, again = run_job(finetune.main, tmp_path / "run", *job)
    assert "This run is finished" in again
    assert "tasks have changed" not in printed + again
    same = evaluated(tmp_path / "run", tmp_path / "same")
    kaggle(tasks, num_training=5)
    other = evaluated(tmp_path / "run", tmp_path / "other")
    assert "warning" not in same
    assert "now 4 train and 1 are held out. So it may have trained on tasks that are asked here" in other
    _, changed = run_job(finetune.main, tmp_path / "run", *job)
    assert (
        "3 trained and 1 were held out, now 4 train and 1 are held out. These scores are of the old"
        in changed
    )
    assert changed.splitlines()[2:] == again.splitlines()[1:], "its table stays"
    (tasks / "arc-agi_training_challenges.json").write_text("{")
    _, torn = run_job(finetune.main, tmp_path / "run", *job)
    assert "the tasks cannot be read any more: " in torn
    assert torn.splitlines()[-1] == again.splitlines()[-1]
