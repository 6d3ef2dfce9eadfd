"""`data.leaks`: what a run does if it, or its weights before, trained on a validation task."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from leak_tools import changed, random_task, turned, write_task
from rich.console import Console

from arc_experiments import compose
from arc_experiments.corpus.leaks import keys_to_keep
from arc_experiments.jobs.beginning import find_leaks, leak_metrics
from arc_experiments.jobs.terminal import show_leaks
from arc_experiments.launching import worker
from arc_experiments.models.ancestry import Ancestry
from arc_experiments.run import Run

QUIET = ["tracking=off", "hardware=cpu"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Validation task `held` stands, turned, in training task `copy`; `free` and `other` are alone."""
    held = random_task("held", 1)
    copy = changed(held, "copy", lambda pair: turned(pair, "rot90"))
    made = {"evaluation": [held, random_task("free", 2)], "training": [copy, random_task("other", 3)]}
    for split, tasks in made.items():
        for task in tasks:
            write_task(tmp_path / "tasks" / split / f"{task.id}.json", task)
    return tmp_path


def run_of(folder: Path, policy: str, *overrides: str) -> Run:
    data = ["data=files", f"data.path={folder}/tasks", "data.partition=official", f"data.leaks={policy}"]
    return compose([*QUIET, *data, *overrides], folder / f"run-{policy}")


def shown(found: dict[str, Any]) -> str:
    text = io.StringIO()
    show_leaks(found, Console(file=text, width=300))
    return text.getvalue()


def test_by_default_it_is_told_calmly_with_what_to_do(folder: Path) -> None:
    run = run_of(folder, "warn")
    found = find_leaks(run, trains=True)
    assert set(run.partition.train) == {"copy", "other"}
    text = shown(found)
    assert "Of 2 validation tasks, 1 is also in the training tasks: 1 wholly; with the answers of 1." in text
    assert "held ~ copy (turned or reflected)" in text
    assert "data.leaks=drop would leave 1 task out of training" in text
    metrics = leak_metrics(found)
    assert metrics["leaked_tasks"] == ["held"]
    assert metrics["leaks"]["training"]["whole"] == 1
    assert json.loads((run.folder / "leaks.json").read_text()) == json.loads(json.dumps(found))


def test_drop_leaves_the_tasks_out_of_training_and_tells(folder: Path) -> None:
    run, before = run_of(folder, "drop"), run_of(folder, "warn")
    assert run.partition.train == ("other",)
    assert run.partition.hash != before.partition.hash
    assert run.corpus.hash != before.corpus.hash
    assert [share.task_ids for share in run.corpus.shares] == [("other",)]
    assert run.corpus.dropped == {"copy": ["held"]}
    found = find_leaks(run, trains=True)
    assert "Left out of training: 1 task that hold" in shown(found)
    assert "data.leaks=drop" not in shown(found)
    metrics = leak_metrics(found)
    assert (metrics["leaked_tasks"], metrics["leaks"]["training"]["dropped"]) == ([], 1)


def test_refuse_ends_with_what_was_found(folder: Path) -> None:
    run = run_of(folder, "refuse")
    with pytest.raises(
        ValueError, match=r"(?s)data\.leaks=refuse: .*held ~ copy.*data\.leaks=drop would leave"
    ):
        find_leaks(run, trains=True)
    assert (run.folder / "leaks.json").exists()


def test_a_worker_that_is_refused_ends_with_exit_code_2_and_trains_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(folder, "refuse")
    assert worker.main([str(run.folder)]) == 2
    refusal = "data.leaks=refuse: Of 2 validation tasks, 1 is also in the training tasks"
    assert refusal in capsys.readouterr().out
    assert not (run.folder / "checkpoints").exists()


def test_ignore_looks_at_nothing(folder: Path) -> None:
    run = run_of(folder, "ignore")
    found = find_leaks(run, trains=True)
    assert (found, shown(found)) == ({"policy": "ignore"}, "")
    assert leak_metrics(found) == {"leaked_tasks": [], "leaks": {}}


def test_where_nothing_is_found_nothing_is_said(folder: Path) -> None:
    (folder / "tasks" / "training" / "copy.json").unlink()
    found = find_leaks(run_of(folder, "refuse"), trains=True)
    assert shown(found) == ""
    assert leak_metrics(found)["leaks"]["training"]["leaks"] == 0


def test_with_every_training_task_dropped_there_is_one_message(folder: Path) -> None:
    (folder / "tasks" / "training" / "other.json").unlink()
    with pytest.raises(ValueError, match=r"data: no task is left to train on"):
        run_of(folder, "drop").corpus.check_trains()


@pytest.mark.parametrize(("policy", "is_refused"), [("warn", False), ("drop", False), ("refuse", True)])
def test_what_weights_were_trained_on_cannot_be_dropped(folder: Path, policy: str, is_refused: bool) -> None:
    before = run_of(folder, "ignore")
    pairs, by_id = keys_to_keep(before.corpus.shares)
    adapter = folder / "adapter"
    adapter.mkdir()
    Ancestry(
        base="package:tiny", dtype="float32", prompt={}, trained_on=("elsewhere",), pairs=pairs, by_id=by_id
    ).save(adapter)
    (adapter / "adapter_config.json").write_text('{"r": 16, "lora_alpha": 32.0, "lora_dropout": 0.0}')
    run = run_of(folder, policy, f"model.adapter={adapter}")
    if is_refused:
        with pytest.raises(ValueError, match=r"is also in what these weights were trained on"):
            find_leaks(run, trains=False)
        return
    found = find_leaks(run, trains=False)
    text = shown(found)
    assert "1 is also in what these weights were trained on: 1 wholly; with the answers of 1. held" in text
    assert "what weights were trained on stays in them" in text
    assert "training" not in found, "this run trains nothing"
    assert leak_metrics(found)["leaked_tasks"] == ["held"]
