"""A folder of the user's beside the package: docs/example_extension, and what happens when it is moved."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arc_experiments import compose, load_run
from arc_experiments.composing.completion import completions
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.composing.from_run import take_from_run
from arc_experiments.composing.help import help_text
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.user_code import folders
from arc_experiments.config.user_code.folders import add_conf, options_of, take_config_dir
from arc_experiments.launching import worker
from arc_experiments.runs.folder import FolderError
from arc_experiments.tasks import Task

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "example_extension"
OPTIONS = ["experiment=mirrors", "tracking=off", "hardware=cpu", "hardware.threads=1"]


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(folders, "_own", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    sys.modules.pop("my_arc", None)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process knows that was started without the folder."""
    monkeypatch.setattr(folders, "_own", [])
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "example" not in path])
    sys.modules.pop("my_arc", None)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example."""
    return shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("__pycache__"))


# Options


def test_the_users_options_are_options_like_ours(example: Path) -> None:
    take_config_dir(["--multirun", "--config-dir", str(example / "conf"), "experiment=mirrors"])
    config = check(compose_config(OPTIONS))
    assert (config.data.name, config.model.name, config.prompt.name) == (
        "mirrors",
        "tiny_rank4",
        "answers_only",
    )
    assert list(config.augmentation) == ["geometry", "two_colours"]
    assert {"arc1", "mirrors"} <= set(options_of("data"))
    assert "two_colours" in help_text()
    with pytest.raises(ConfigError, match=r"Did you mean: data=mirrors"):
        compose_config(["data=mirror"])
    config = check(compose_config([*OPTIONS, "job=audit", "audit.against=[mirrors]"]))
    assert config.audit.against == ["mirrors"]


def test_the_users_options_are_completed(example: Path) -> None:
    words, are_all = completions(f"arc-experiments --config-dir {example}/conf augmentation=[order,tw")
    assert (words, are_all) == (["augmentation=[order,two_colours"], True)


def test_a_folder_that_is_not_there_and_a_name_of_ours_are_refused(example: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        take_config_dir([f"--config-dir={example}/nowhere"])
    (example / "conf" / "data" / "arc1.yaml").write_text("name: mine")
    with pytest.raises(ValueError, match=r"hides yours: rename .*conf/data/arc1\.yaml"):
        take_config_dir(["-cd", str(example / "conf")])


def test_other_flags_name_no_folder() -> None:
    take_config_dir(["-c", "job", "--multirun", "-cn", "config", "data.path=--config-dir"])
    assert folders.own_conf() == []


def test_an_option_of_the_users_class_is_checked_like_ours(example: Path) -> None:
    add_conf(example / "conf")
    with pytest.raises(ConfigError) as raised:
        compose_config([*OPTIONS, "data.source.side=1", "augmentation.two_colours.probability=x"])
    assert f"data.source: {example}/my_arc.py, line 41: ValueError: side=1 is not" in str(raised.value)
    assert "augmentation.two_colours.probability" in str(raised.value)


# Parts


def test_the_stream_draws_the_users_tasks_and_repeats(example: Path, tmp_path: Path) -> None:
    run = compose(OPTIONS, tmp_path / "run", config_dir=example / "conf")
    assert run.corpus.languages == ()
    first, again = (run.stream()[3] for _ in range(2))
    assert isinstance(first.task, Task)
    assert first.encoded.input_ids.tolist() == again.encoded.input_ids.tolist()
    drawn = {step.name for index in range(8) for step in run.stream()[index].steps}
    assert any(name.startswith("colours_") for name in drawn)
    assert run.predicted_tasks().ids == ("mirrored_0", "mirrored_1")


# Found again


def test_a_frozen_run_finds_the_code_where_it_was(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose(OPTIONS, tmp_path / "run", config_dir=example / "conf")
    command = run.folder.read_json("environment.json")["command"]
    assert command[3:5] == [f"--config-dir={example}/conf", "experiment=mirrors"]
    forget(monkeypatch)
    assert load_run(tmp_path / "run").config.inference.selection == "my_arc.largest_first"
    assert "mirrors" in options_of("data")
    assert str(example) in os.environ["PYTHONPATH"], "processes that are started find it, too"


def test_code_that_is_gone_is_named_with_its_file(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = compose(OPTIONS, tmp_path / "run", config_dir=example / "conf")
    (run.folder / "adapter").mkdir()
    shutil.move(example, tmp_path / "moved_example")
    forget(monkeypatch)
    with pytest.raises(FolderError) as raised:
        load_run(run.folder.path)
    assert f"data.source: {example}/my_arc.py\n" in str(raised.value)
    assert "PYTHONPATH=<folder>" in str(raised.value)
    assert worker.main([str(run.folder.path)]) == worker.MISTAKE
    assert "my_arc.py" in run.folder.status["error"]
    config = compose_config(["experiment=smoke", "job=evaluate"])
    config.from_run = str(run.folder)
    with pytest.raises(FolderError, match=r"inference\.selection: .*my_arc\.py"):
        take_from_run(config, ["job=evaluate"])
    take_from_run(config, ["job=evaluate", "data=arc1", "inference=quick"])  # which needs none of it
    monkeypatch.syspath_prepend(tmp_path / "moved_example")
    assert load_run(run.folder.path).config.data.name == "mirrors"


def test_a_rerun_with_a_changed_folder_is_refused(example: Path, tmp_path: Path) -> None:
    add_conf(example / "conf")
    config = compose_config(OPTIONS)
    freeze(config, tmp_path / "run", [])
    file = example / "my_arc.py"
    file.write_text(file.read_text() + "\nchanged = True\n")
    with pytest.raises(FolderError, match=r"optim\.schedule: .*my_arc\.py"):
        freeze(config, tmp_path / "run", [])


def test_weights_are_not_used_with_changed_code_of_tasks(example: Path, tmp_path: Path) -> None:
    add_conf(example / "conf")
    trained = freeze(compose_config(OPTIONS), tmp_path / "trained", [])
    (trained.path / "adapter").mkdir()
    file = example / "my_arc.py"
    file.write_text(file.read_text() + "\nchanged = True\n")
    config = compose_config(["job=evaluate", f"from_run={trained.path}", "tracking=off"])
    with pytest.raises(
        FolderError, match=r"trained with other code(.|\n)*data\.source: .*my_arc\.py"
    ) as raised:
        freeze(config, tmp_path / "evaluated", [])
    assert "inference.selection" not in str(raised.value), "which the weights do not depend on"
    config.inference.force = True
    assert freeze(config, tmp_path / "evaluated", []).path.is_dir()


# All of it


def command(*typed: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = subprocess.run(
        [sys.executable, "-m", *typed], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500
    )
    assert started.returncode == 0, started.stdout + started.stderr
    return started.stdout


@pytest.mark.slow
def test_the_example_trains_resumes_sweeps_and_is_evaluated_elsewhere(example: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    typed = ["arc_experiments", "--config-dir", str(example / "conf"), *OPTIONS]
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    shown = command(*typed, f"hydra.run.dir={whole}", cwd=tmp_path)
    assert "my_arc.largest_first" in shown
    rates = [
        json.loads(line)["learning_rate"]
        for line in (whole / "train_log.jsonl").read_text().splitlines()
        if "learning_rate" in line
    ]
    assert rates == pytest.approx([0, 2.5e-4, 1.25e-4, 6.25e-5])
    for stop in ("optim.stop_after=2", "optim.stop_after=null"):
        command(*typed, stop, f"hydra.run.dir={halved}", cwd=tmp_path)
    adapters = [(folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in (whole, halved)]
    assert adapters[0] == adapters[1], "resumed in the middle of its schedule"
    command(
        "arc_experiments", "job=evaluate", f"from_run={whole}", "tracking=off", "hardware=cpu",
        "hardware.threads=1", "hydra.run.dir=evaluated", cwd=elsewhere,
    )  # fmt: skip
    scores = [
        json.loads((each / "metrics.json").read_text())["score"] for each in (whole, elsewhere / "evaluated")
    ]
    assert scores[0] == scores[1]
    assert "my_arc.largest_first" in scores[0]["by_selection"]
    command("arc_experiments.report", str(whole), cwd=elsewhere)
    shown = command("arc_experiments.reselect", str(whole), cwd=elsewhere)
    assert "my_arc.largest_first" in shown
    swept = ["inference.selection=my_arc.largest_first,majority_vote", "optim.schedule=my_arc.stairs,linear"]
    command(
        typed[0],
        "--multirun",
        *typed[1:],
        *swept,
        "optim.max_steps=2",
        f"hydra.sweep.dir={tmp_path}/sweep",
        cwd=tmp_path,
    )
    states = [json.loads(file.read_text())["state"] for file in (tmp_path / "sweep").glob("*/status.json")]
    assert states == ["done"] * 4
