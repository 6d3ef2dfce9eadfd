"""The run object: one composition as things, and what it refuses."""

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from toy_models import make_base, untrained

from arc_experiments import compose, load_run
from arc_experiments import run as run_module
from arc_experiments.config.check import ConfigError
from arc_experiments.generation.requests import make_requests
from arc_experiments.jobs import evaluate
from arc_experiments.jobs.beginning import begin
from arc_experiments.jobs.terminal import show_shrunk
from arc_experiments.launching import worker
from arc_experiments.runs.folder import RunFolder

PAIR = {"input": [[1, 0]], "output": [[0, 1]]}


def write_task(folder: Path, name: str, colour: int) -> None:
    pair = {"input": [[colour, 0]], "output": [[0, colour]]}
    (folder / f"{name}.json").write_text(json.dumps({"train": [pair, pair], "test": [pair]}))


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    for number in range(8):
        write_task(folder, f"task{number}", 1 + number)
    return folder


def test_a_folder_of_tasks_is_split_and_never_shares_one(tasks: Path, tmp_path: Path) -> None:
    run = compose(["data=files", f"data.path={tasks}", "data.num_validation=0.25"], tmp_path / "run")
    assert (len(run.partition.train), len(run.partition.validation)) == (6, 2)
    assert not set(run.partition.train) & set(run.partition.validation)
    drawn = {run.stream()[index].task.id for index in range(6)}
    assert drawn == set(run.partition.train)


def test_a_run_goes_on_only_with_the_tasks_that_it_began_with(tasks: Path, tmp_path: Path) -> None:
    run = compose(["data=files", f"data.path={tasks}"], tmp_path / "run")
    begin(run)
    begin(load_run(tmp_path / "run"))
    write_task(tasks, "task9", 9)
    with pytest.raises(ValueError, match=r"began with other tasks: .* 7 trained.*now 8 train.*resume=false"):
        begin(load_run(tmp_path / "run"))
    (tasks / "task9.json").unlink()
    begin(load_run(tmp_path / "run"))


def test_tasks_that_are_left_out_are_shown_listed_and_counted(tasks: Path, tmp_path: Path) -> None:
    for name in ("torn", "torn_too", "torn_three"):
        (tasks / f"{name}.json").write_text("{")
    data = ["data=files", f"data.path={tasks}", "data.on_bad_task=skip"]
    run = compose(
        [*data, "job=evaluate", "inference.limit=0", "tracking=off", "hardware=cpu"], tmp_path / "run"
    )
    printed = io.StringIO()
    evaluate.main(run, Console(file=printed, width=1000))
    [line] = [line for line in printed.getvalue().splitlines() if line.startswith("skipped")]
    assert "3 tasks or rows left out (skipped_tasks.json):" in line
    assert line.endswith(" ... and 2 more")
    assert "torn.json: not JSON in UTF-8" in line
    messages = run.folder.read_json("skipped_tasks.json")["files"]
    assert messages[0] in line
    assert run.folder.read_json("metrics.json")["data"]["skipped_tasks"] == {"files": 3}
    assert "torn" not in run.partition.train + run.partition.validation


def test_tasks_without_solutions_cannot_train(tasks: Path, tmp_path: Path) -> None:
    pair = {"input": [[1]], "output": [[2]]}
    (tasks / "open.json").write_text(json.dumps({"train": [pair, pair], "test": [{"input": [[1]]}]}))
    options = ["data=files", f"data.path={tasks}"]
    others = compose([*options, "data.train_tasks=leave_out"], tmp_path / "others")
    assert "open_leave_1" in others.partition.train
    run = compose(options, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"cannot train, for some test outputs are missing: open.*train_tasks=leave_out"
    ):
        _ = run.partition


def test_questions_to_the_model_are_the_same_without_solutions(tmp_path: Path) -> None:
    run = compose(["experiment=smoke"], tmp_path / "run")
    blind = make_requests(run.predicted_tasks().without_solutions(), run.prompt, num_views=2, seed=1)
    assert [request.key for request in blind] == [request.key for request in run.requests]
    for ours, theirs in zip(run.requests, blind, strict=True):
        assert (ours.ids is None) == (theirs.ids is None)
        assert ours.ids is None or np.array_equal(ours.ids, theirs.ids)


def test_a_source_of_a_mixture_can_have_a_prompt_of_its_own(tmp_path: Path) -> None:
    own = ["+prompt@data.sources.re_arc.prompt=compact", "data.sources.re_arc.prompt.loss_on=test_output"]
    run = compose(["data=mix", "data.sources.arc1.limit=5", *own], tmp_path / "run")
    stream = run.stream()
    for index in range(8):
        sample = stream[index]
        num_answer = len(sample.encoded) - sample.encoded.num_prompt
        num_labels = int((sample.encoded.labels >= 0).sum())
        if stream.parts[sample.part].name == "re_arc":
            assert num_labels == num_answer  # the test output alone
        else:  # the demonstrations' too, from the second on
            assert (num_labels > num_answer) == (len(sample.task.train) > 1)


@pytest.mark.slow
def test_the_cut_vocabulary_holds_the_tokens_of_every_sources_prompt(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    mixed = ["data=mix", "data.sources.arc1.limit=5", "model=custom", f"model.path={base}", "prompt=arc24"]
    other = [
        "+prompt@data.sources.re_arc.prompt=arc24",
        "data.sources.re_arc.prompt.system=Quite another role.",
    ]
    cut = ["model.vocabulary=arc", "model.dtype=float32"]
    one = compose([*mixed, *cut], tmp_path / "one")
    two = compose([*mixed, *other, *cut], tmp_path / "two")
    assert one.vocabulary is not None
    assert two.vocabulary is not None
    assert set(one.vocabulary.kept) < set(two.vocabulary.kept)
    parts = {name: [] for name in ("arc1", "re_arc")}
    stream = two.stream()
    for index in range(8):
        sample = stream[index]
        parts[stream.parts[sample.part].name].append(two.prompt.decode(sample.encoded.input_ids))
    assert all("Quite another role." in text for text in parts["re_arc"])
    assert not any("Quite another role." in text for text in parts["arc1"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.sources.re_arc.prompt.answer=grid"],
            "data.sources.re_arc.prompt.answer must hold {output} once",
        ),
        (
            ["data.sources.re_arc.prompt.max_length=4096", "optim.pack_length=2048"],
            "re_arc.prompt.max_length=4096",
        ),
        (["data.sources.re_arc.prompt.grid.colour=1"], "data.sources.re_arc.prompt.grid.colour"),
    ],
)
def test_a_sources_prompt_is_checked_like_the_runs(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose(["data=mix", "+prompt@data.sources.re_arc.prompt=compact", *overrides])
    assert message in str(raised.value)


def test_a_notebook_gets_the_same_mistakes_as_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.max_steps=0 is too small"):
        compose(["optim.max_steps=0"], tmp_path / "run")


def test_a_compact_model_refuses_a_prompt_that_it_cannot_write(tmp_path: Path) -> None:
    run = compose(["prompt=arc24"], tmp_path / "run")
    with pytest.raises(ValueError, match=r"cannot write this prompt.*prompt=compact"):
        _ = run.prompt


def test_a_worker_reads_and_checks_its_composition_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["job=inspect", "data.limit=2", "inspect.num_counted=2", "inspect.num_samples=1"]
    folder, calls = compose(small, tmp_path / "run").folder, list[str]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: calls.append(name) or function(*arguments)

    monkeypatch.setattr(RunFolder, "read_config", counted("read", RunFolder.read_config))
    for module in (worker, run_module):
        monkeypatch.setattr(module, "check", counted("check", module.check))
    for name, value in {**worker.ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}.items():
        monkeypatch.setenv(name, os.environ.get(name, value))  # and put back what the worker makes of it
    for owner, name in ((worker, "_log_to_file"), (worker.pausing, "watch_signals")):  # for the whole process
        monkeypatch.setattr(owner, name, lambda *_: None)
    assert worker.main([str(folder.path)]) == worker.DONE
    assert calls == ["read", "check"]


def test_a_length_that_no_validation_task_fits_into_is_refused_with_one_that_would_do(
    tasks: Path, tmp_path: Path
) -> None:
    (tasks / "alone.json").write_text(
        json.dumps({"train": [PAIR] * 3, "test": [PAIR, {"input": [[1] * 30]}]})
    )
    base = [*untrained(), "data=files", f"data.path={tasks}", "data.num_validation=0.5", "hardware=cpu"]
    short = compose([*base, "prompt.max_length=16"], tmp_path / "short")
    with pytest.raises(
        ValueError, match=r"prompt\.max_length=16 is too short: no validation task fits"
    ) as told:
        short.validation_loss(None)
    length = re.search(
        r"The shortest needs (\d+) tokens: set prompt\.max_length=\1 or more$", str(told.value)
    )
    assert length is not None
    for more, num_records in ((0, 1), (-1, 0)):
        named = compose([*base, f"prompt.max_length={int(length[1]) + more}"], tmp_path / f"run{more}")
        assert bool(named.validation_records[0]) == bool(num_records)


def test_prompts_that_do_not_fit_are_told_with_the_length_that_the_longest_takes(
    tasks: Path, tmp_path: Path
) -> None:
    base = [*untrained(), "data=files", f"data.path={tasks}", "inference.num_views=2", "hardware=cpu"]
    shown = io.StringIO()
    run = compose([*base, "prompt.max_length=16"], tmp_path / "short")
    show_shrunk(run, Console(file=shown, width=200))
    longest = re.search(
        r"1 cannot be asked, .* even with a single one \(up to (\d+) tokens\)", shown.getvalue()
    )
    assert longest is not None
    fits = compose([*base, f"prompt.max_length={longest[1]}"], tmp_path / "fits")
    assert all(request.ids is not None for request in fits.requests)
