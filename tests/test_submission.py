"""Submission files written elsewhere: scored by the task list, whatever they lack."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from task_files import write

from arc_experiments import compose
from arc_experiments.config.check import ConfigError
from arc_experiments.jobs import answering, evaluate
from arc_experiments.run import Run
from arc_experiments.scoring.candidates import Candidate

RIGHT, WRONG = [[1, 2]], [[0, 0]]
ENTRY = {"attempt_1": WRONG, "attempt_2": RIGHT}


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Five validation tasks a to e, the last with two test outputs; RIGHT is the solution of all."""
    pair = {"input": [[2, 1]], "output": RIGHT}
    write(tmp_path, "tasks/training/t.json", {"train": [pair, pair], "test": [pair]})
    for name in "abcde":
        tests = [pair] * (2 if name == "e" else 1)
        write(tmp_path, f"tasks/evaluation/{name}.json", {"train": [pair, pair], "test": tests})
    return [
        "job=evaluate",
        "data=files",
        f"data.path={tmp_path}/tasks",
        "data.partition=official",
        "tracking=off",
    ]


def scored(
    folder: Path, options: list[str], submission: object, *more: str
) -> tuple[Run, dict[str, Any], str]:
    """The run, its metrics, and what was printed."""
    file = write(folder.parent, f"{folder.name}.json", submission)
    run, printed = compose([*options, f"submission={file}", *more], folder), io.StringIO()
    evaluate.main(run, Console(file=printed, width=200))
    return run, run.folder.read_json("metrics.json"), printed.getvalue()


def test_a_whole_submission_is_scored_as_kaggle_does(tmp_path: Path, options: list[str]) -> None:
    both, neither = {"attempt_1": RIGHT, "attempt_2": RIGHT}, {"attempt_1": WRONG, "attempt_2": [[0]]}
    submission = {"a": [ENTRY], "b": [both], "c": [neither], "d": [neither], "e": [both, neither]}
    run, metrics, printed = scored(tmp_path / "run", options, submission)
    score = metrics["score"]
    assert (score["num_tasks"], score["num_test_outputs"]) == (5, 6)
    assert (score["pass_at_1"], score["pass_at_2"]) == (pytest.approx(1.5 / 5), 2.5 / 5)
    assert score["by_rule"] == {"task_fraction": 2.5 / 5, "test_output": 3 / 6, "task_strict": 2 / 5}
    assert score["unanswered"] == 0
    assert set(score["interval"]) == {"pass_at_1", "pass_at_2"}
    assert not {"vote_1", "pass_at_n", "by_selection", "by_num_predictions"} & score.keys()
    assert score["by_group"]["output_cells"]["1-9"]["num_test_outputs"] == 6
    assert (metrics["submission"]["mistakes"], metrics["submission"]["details"]) == ({}, [])
    assert "It answers every test output" in printed
    assert "cost" not in metrics
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<article") == 5
    assert "model.name" not in page.split("The whole composition")[0]
    assert "log-prob." not in page
    _, again, printed = scored(tmp_path / "run", options, submission)
    assert again == metrics
    assert "This run is finished" in printed


def test_whole_floats_count_as_the_integers_they_are(tmp_path: Path, options: list[str]) -> None:
    entries = {"a": [[1.0, 2.0]], "b": [[1, 2.0]], "c": [[1.5, 2.0]], "d": [[True, 2.0]], "e": [[1.0, None]]}
    submission = {name: [{"attempt_1": cells, "attempt_2": WRONG}] for name, cells in entries.items()}
    _, metrics, printed = scored(tmp_path / "run", [*options, "data.tasks=[a,b,c,d]"], submission)
    assert metrics["score"]["pass_at_1"] == 2 / 4
    assert metrics["submission"]["mistakes"] == {"attempt not a grid": 2, "unknown task": 1}
    assert "c[0]: attempt_1 is not a grid: its cells are decimals (1.5), not whole numbers" in printed


def test_what_is_missing_or_no_grid_is_told_and_counts_as_wrong(tmp_path: Path, options: list[str]) -> None:
    submission = {
        "a": [{"attempt_1": [[11]], "attempt_2": RIGHT}],
        "b": [{"attempt_1": RIGHT}],
        "c": {"attempt_1": RIGHT, "attempt_2": RIGHT},
        "e": [ENTRY],
        "z": [ENTRY],
    }
    _, metrics, printed = scored(tmp_path / "run", options, submission)
    score = metrics["score"]
    assert (score["num_tasks"], score["num_test_outputs"]) == (5, 6)
    assert (score["pass_at_1"], score["pass_at_2"]) == (1 / 5, pytest.approx(2.5 / 5))
    assert score["unanswered"] == 3 / 6
    assert score["invalid"] == {"missing": 1, "not_a_grid": 1}
    assert metrics["submission"]["mistakes"] == {
        "attempt missing": 1, "attempt not a grid": 1, "task malformed": 1, "task missing": 1,
        "test output missing": 1, "unknown task": 1,
    }  # fmt: skip
    for text in (
        "d: the task is missing",
        "z: no such task",
        "a[0]: attempt_1 is not a grid: it has the cell 11",
    ):
        assert text in printed
        assert any(text in detail for detail in metrics["submission"]["details"])
    assert "counts as wrong" in printed


def test_too_many_entries_and_attempts_are_told_and_not_read(tmp_path: Path, options: list[str]) -> None:
    wrong = {"attempt_1": WRONG, "attempt_2": WRONG, "attempt_3": RIGHT}
    submission = {name: [wrong] * (2 if name == "e" else 1) for name in "abcde"} | {"a": [wrong, ENTRY]}
    _, metrics, _ = scored(tmp_path / "run", options, submission)
    assert metrics["score"]["pass_at_2"] == 0
    assert metrics["submission"]["mistakes"] == {"attempt too many": 6, "test output too many": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON in UTF-8"),
        ("[]", "maps task ids to lists of attempts, this is a list"),
        ('{"a": [], "a": []}', "the key 'a' occurs twice"),
    ],
)
def test_a_file_that_is_no_submission_is_refused(
    tmp_path: Path, options: list[str], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scored(tmp_path / "run", options, text)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_an_empty_submission_answers_nothing(tmp_path: Path, options: list[str]) -> None:
    _, metrics, _ = scored(tmp_path / "run", options, {})
    assert (metrics["score"]["pass_at_2"], metrics["score"]["unanswered"]) == (0, 1)
    assert metrics["submission"]["mistakes"] == {"task missing": 5}


def test_another_file_under_the_same_name_is_another_run(tmp_path: Path, options: list[str]) -> None:
    scored(tmp_path / "run", options, {})
    with pytest.raises(ValueError, match=r"scored something else \(submission: .*resume=false"):
        scored(tmp_path / "run", options, {"a": [ENTRY]})


def test_a_submission_needs_solutions_to_be_scored_by(tmp_path: Path, options: list[str]) -> None:
    for file in (tmp_path / "tasks" / "evaluation").iterdir():
        task = json.loads(file.read_text())
        write(file.parent, file.name, task | {"test": [{"input": [[1]]}]})
    with pytest.raises(ValueError, match="none of 5 validation tasks of data=files has solutions"):
        scored(tmp_path / "run", options, {})


def test_a_submission_is_named_with_the_job_that_scores_it(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json does not exist"):
        compose([*options, "submission=nowhere.json"], tmp_path / "run")
    file = write(tmp_path, "s.json", {})
    with pytest.raises(ConfigError, match=r"job=finetune: a file is scored by job=evaluate"):
        compose([*options[1:], f"submission={file}"], tmp_path / "run")


def test_no_model_is_looked_at_and_no_limit_of_its_answers(tmp_path: Path, options: list[str]) -> None:
    _, metrics, _ = scored(tmp_path / "run", options, {"a": [ENTRY]}, "model=qwen05", "inference.limit=1")
    assert (metrics["score"]["pass_at_2"], metrics["score"]["num_tasks"]) == (1 / 5, 5)
    _, metrics, _ = scored(tmp_path / "fewer", options, {"a": [ENTRY]}, "data.limit=2")
    assert (metrics["score"]["pass_at_2"], metrics["score"]["num_tasks"]) == (1 / 2, 2)


def answers_of_all_kinds(run: Run, *_: Any) -> list[Candidate]:
    """Right answers to the first task, one right one to the second, and nothing readable to the third."""
    wrong = np.zeros((1, 1), np.uint8)
    given = []
    for task, right in zip(run.predicted_tasks(), ([1, 1], [0, 1], []), strict=True):
        for view, is_right in enumerate(right or [0]):
            solution = task.test[0].output
            assert solution is not None
            grid = (solution if is_right else wrong) if right else None
            given.append(
                Candidate(
                    task_id=task.id, test_index=0, view=view, transforms="", text="", num_tokens=1,
                    log_probability=-1.0 - view, grid=grid, reason=None if right else "no_grid",
                )
            )  # fmt: skip
    return given


@pytest.mark.slow
def test_what_a_run_has_written_scores_as_the_run_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "_answer", answers_of_all_kinds)
    own = [
        "experiment=smoke", "job=evaluate", "tracking=off", "hardware=cpu", "hardware.threads=1",
        "data.limit=3", "inference.limit=3", "inference.max_new_tokens=8", "inference.num_views=2",
    ]  # fmt: skip
    run = compose(own, tmp_path / "own")
    evaluate.main(run, Console(file=io.StringIO()))
    again = compose([*own, f"submission={run.folder}/submission.json"], tmp_path / "again")
    evaluate.main(again, Console(file=io.StringIO()))
    first, second = (one.folder.read_json("metrics.json") for one in (run, again))
    assert 0 < first["score"]["pass_at_1"] < first["score"]["pass_at_2"] < 1
    assert second["submission"]["mistakes"] == {}
    for name in ("pass_at_1", "pass_at_2", "by_rule", "num_tasks", "num_test_outputs"):
        assert first["score"][name] == second["score"][name]
