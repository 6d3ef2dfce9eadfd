"""A pipeline's YAML becomes an experiment that composes, or a message that names the key."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from vision_pipeline import ROOT, vision_pipeline

from arc_experiments import import_config
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.import_config import NotImportable, convert, to_yaml
from arc_experiments.runs.folder import RunFolder

OLD = """
dataset: {name: custom_dataset, file: my_data.py:load, test_split: validation, split_ratio: 0.9}
model: {name: Qwen/Qwen2.5-0.5B-Instruct, peft: true, peft_method: lora, checkpoint_dir: runs/a}
training: {batch_size: 8, lr: 1e-4, epochs_per_job: 2, total_jobs: 3, gradient_accumulation: 2}
slurm: {partition: gpu, time: 04:00:00, nodes: 1, gpu_id: 0}
"""


def old(**sections: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "old.yaml"
        file.write_text(OLD)
        return {**import_config.read(file), **sections}


def test_every_key_that_has_a_counterpart_is_carried_over() -> None:
    new = convert(old())
    assert new.defaults == {"data": "custom", "model": "qwen05", "launch": "slurm"}
    assert new.values == {
        "data.file": "my_data.py:load", "data.source.validation_split": "validation",
        "data.source.split_ratio": 0.9,
        "hydra.run.dir": "runs/a", "optim.batch_size": 16, "hardware.per_device_batch_size": 8,
        "optim.learning_rate": 1e-4, "optim.epochs": 6, "launch.chain.total_jobs": 3,
        "launch.slurm.partition": "gpu", "launch.slurm.time": "04:00:00", "launch.slurm.nodes": 1,
        "launch.slurm.gpus_per_node": 1,
    }  # fmt: skip
    assert new.notes == [
        "training.epochs_per_job=2 x total_jobs=3: optim.epochs=6 in all, on one schedule",
        "slurm.gpu_id=0: the cluster chooses which of a node's GPUs a job gets",
    ]


def test_what_has_none_is_named() -> None:
    new = convert(old(training={"lr": 1e-4, "warmup_ratio": 0.1}, wandb={"project": "x"}))
    assert new.notes[:2] == ["wandb: not carried over", "training.warmup_ratio=0.1: not carried over"]


def test_tasks_in_a_file_are_split_by_the_share_that_trains() -> None:
    new = convert(old(dataset={"name": "mine", "file": "tasks.json", "split_ratio": 0.9}))
    assert (new.defaults["data"], new.values["data.path"]) == ("files", "tasks.json")
    assert (new.values["data.partition"], new.values["data.num_validation"]) == ("seeded", 0.1)


def test_without_peft_all_of_an_unknown_model_is_trained() -> None:
    new = convert(old(model={"name": "me/mine", "peft": False}))
    assert (new.defaults["model"], new.values["model.path"]) == ("custom", "me/mine")
    assert new.values["model.lora"] is None


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "llama_vision_11b"),
        ("meta-llama/Llama-3.2-11B-Vision", "custom_vision"),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "custom_vision"),
    ],
)
def test_vision_language_models_become_options_that_load_their_processor(name: str, option: str) -> None:
    new = convert(old(model={"name": name}))
    assert new.defaults["model"] == option
    assert new.values.get("model.path") == (name if option == "custom_vision" else None)


@pytest.mark.parametrize(
    ("arguments", "is_carried"),
    [
        ("dataset_config, processor, split", False),
        ("dataset_config, processor, split, split_ratio=0.9", True),
        ("dataset_config, processor, split, **more", True),
    ],
)
def test_a_split_ratio_is_carried_over_to_functions_that_take_one(
    tmp_path: Path, arguments: str, is_carried: bool
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"raise SystemExit\ndef load({arguments}):\n    return []\n")  # which is not run
    new = convert(old(dataset={"name": "mine", "file": f"{file}:load", "split_ratio": 0.9}))
    assert ("data.source.split_ratio" in new.values) == is_carried
    assert any("no argument split_ratio" in note for note in new.notes) != is_carried


def test_a_chain_by_epochs_needs_no_time_for_its_jobs() -> None:
    new = convert(old(slurm={}))
    assert new.values["launch.chain.total_jobs"] == 3
    assert "launch.chain.seconds_per_job" not in new.values
    by_time = convert(old(slurm={}, training={"total_jobs": 3}))
    assert by_time.values["launch.chain.seconds_per_job"] == 3600.0


def test_on_this_machine_an_experiment_of_a_cluster_is_composed_without_it(tmp_path: Path) -> None:
    name = f"imported_by_a_test_{os.getpid()}"
    (tmp_path / f"{name}.yaml").write_text(OLD)
    (tmp_path / "my_data.py").write_text("def load(dataset_config, processor, split):\n    return []\n")
    experiment = import_config.conf_dir() / "experiment" / f"{name}.yaml"
    typed = [f"experiment={name}", f"data.file={tmp_path / 'my_data.py'}:load"]
    try:
        assert import_config.main([str(tmp_path / f"{name}.yaml")]) == 0
        assert compose_config(typed).launch.slurm.partition == "gpu"
        local = compose_config([*typed, "launch=local"])
        with pytest.raises(ConfigError, match="launch=slurm"):
            compose_config([*typed, "launch=local", "launch.slurm.nodes=2"])
    finally:
        experiment.unlink(missing_ok=True)
    assert (local.launch.name, local.launch.slurm, local.launch.chain.total_jobs) == ("local", None, 3)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {}}, "model.name is missing"),
        (
            {"model": {"name": "a/b", "peft_method": "prefix"}},
            "model.peft_method=prefix: only lora is supported",
        ),
        ({"dataset": {"name": "samsum"}}, "dataset.name=samsum is none of: "),
        ({"slurm": ["gpu"]}, "slurm: must hold keys"),
    ],
)
def test_what_cannot_become_an_experiment_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(NotImportable, match=message):
        convert(old(**sections))


def test_the_text_says_where_it_is_from_and_what_is_missing() -> None:
    text = to_yaml(convert(old(wandb={"project": "x"})), Path("/a/old.yaml"))
    package, origin, _, note, *_ = text.splitlines()
    assert (package, origin) == ("# @package _global_", "# Imported from /a/old.yaml.")
    assert note == "# wandb: not carried over"
    assert OmegaConf.create(text)["defaults"][0] == {"override /data": "custom"}


@pytest.fixture
def own_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(import_config, "conf_dir", lambda: tmp_path)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model").mkdir()
    return tmp_path


def test_a_file_that_is_none_is_answered_in_a_line(
    own_conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("list.yaml", "[1, 2]"), ("torn.yaml", "a: [1,")):
        (tmp_path / name).write_text(text)
        assert import_config.main([str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err
    assert import_config.main([str(tmp_path / "missing.yaml")]) == 2
    assert not list((own_conf / "experiment").iterdir())


@pytest.mark.parametrize("time", ["24:00:00", "04:00:00", "120", "1-12:00"])
def test_a_time_limit_stays_as_it_was_written(tmp_path: Path, time: str) -> None:
    (tmp_path / "old.yaml").write_text(OLD.replace("04:00:00", time))
    assert convert(import_config.read(tmp_path / "old.yaml")).values["launch.slurm.time"] == time


def test_no_experiment_of_ones_own_is_overwritten(
    own_conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.yaml").write_text(OLD)
    file = own_conf / "experiment" / "old.yaml"
    file.write_text("# mine")
    assert import_config.main([str(tmp_path / "old.yaml")]) == 2
    assert "old.yaml is another experiment" in capsys.readouterr().err
    assert file.read_text() == "# mine"


def test_a_file_that_was_edited_is_imported_anew(own_conf: Path, tmp_path: Path) -> None:
    file = own_conf / "experiment" / "old.yaml"
    for rate in ("1e-4", "3e-5"):
        (tmp_path / "old.yaml").write_text(OLD.replace("1e-4", rate))
        for _ in range(2):  # unedited it stays the same
            assert import_config.main([str(tmp_path / "old.yaml")]) == 0
            assert yaml.safe_load(file.read_text())["optim"]["learning_rate"] == float(rate)


def test_a_file_of_the_same_name_elsewhere_is_another_experiment(
    own_conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.yaml").write_text(OLD.replace("runs/a", f"runs/{folder}"))
    assert import_config.main([str(tmp_path / "a" / "old.yaml")]) == 0
    monkeypatch.chdir(tmp_path / "a")
    assert import_config.main(["old.yaml"]) == 0, "the same file, otherwise written"
    capsys.readouterr()
    other = str(tmp_path / "b" / "old.yaml")
    assert import_config.main([other]) == 2
    out, err = capsys.readouterr()
    assert out == "", "no name for train.sh to run"
    assert f"not imported from {other}" in err
    assert import_config.main([other, "--name", "other"]) == 0
    runs = [yaml.safe_load(file.read_text())["hydra"]["run"]["dir"] for file in _experiments(own_conf)]
    assert runs == ["runs/a", "runs/b"]


def _experiments(conf: Path) -> list[Path]:
    return sorted((conf / "experiment").iterdir())


@pytest.mark.parametrize("rate", ["1e-4", "3e-5"])
def test_what_was_changed_by_hand_is_neither_overwritten_nor_run_for_the_file(
    own_conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: str
) -> None:
    (tmp_path / "old.yaml").write_text(OLD)
    file = own_conf / "experiment" / "old.yaml"
    assert import_config.main([str(tmp_path / "old.yaml")]) == 0
    by_hand = file.read_text() + "seed: 3\n"
    file.write_text(by_hand)
    (tmp_path / "old.yaml").write_text(OLD.replace("1e-4", rate))
    capsys.readouterr()
    assert import_config.main([str(tmp_path / "old.yaml")]) == 2
    out, err = capsys.readouterr()
    assert (out, file.read_text()) == ("", by_hand)
    assert "was edited by hand" in err
    assert "old.yaml --force" in err
    assert import_config.main([str(tmp_path / "old.yaml"), "--force"]) == 0
    assert yaml.safe_load(file.read_text())["optim"]["learning_rate"] == float(rate)
    assert "seed" not in file.read_text()


@pytest.mark.slow
def test_train_sh_imports_and_runs_in_one_step(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    pair = {"input": [[1, 0]], "output": [[0, 1]]}
    tasks = {
        f"task_{n}": {"train": [pair, {"input": [[n]], "output": [[n]]}], "test": [pair]} for n in range(10)
    }
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    name = f"imported_by_a_test_{os.getpid()}"
    (tmp_path / f"{name}.yaml").write_text(
        f"""
dataset: {{name: mine, file: {tmp_path}/tasks.json, split_ratio: 0.8}}
model: {{name: package:tiny, checkpoint_dir: {tmp_path}/run}}
training: {{batch_size: 1, lr: 1e-3, epochs_per_job: 1, gradient_accumulation: 2}}
"""
    )
    experiment = root / "conf" / "experiment" / f"{name}.yaml"
    try:
        done = subprocess.run(
            [
                root / "train.sh",
                tmp_path / f"{name}.yaml",
                "tracking=off",
                "inference.limit=1",
                "inference.max_new_tokens=20",
            ],
            capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
    finally:
        experiment.unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["train"]["steps"] == 4, "8 tasks once, two a step"


@pytest.mark.slow
def test_a_vision_pipeline_trains_unchanged_as_a_chain_that_equals_one_run(tmp_path: Path) -> None:
    def run(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    with vision_pipeline(tmp_path) as (name, small):
        said = run(ROOT / "train.sh", f"{name}.yaml", "launch=local", *small)
        whole = ["launch.chain.total_jobs=1", f"hydra.run.dir={tmp_path / 'whole'}"]
        run(sys.executable, "-m", "arc_experiments", f"experiment={name}", "launch=local", *small, *whole)
    assert "launch=local leaves out the experiment's launch.slurm" in said
    assert "Paused at step 14 of 27" in said, "half of two epochs over 27 rows, two a step"
    chain = RunFolder(tmp_path / "runs" / "vision")
    assert (chain.status["attempt"], chain.is_done) == (2, True)
    weights = "adapter/adapter_model.safetensors"
    assert (chain / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    metrics = json.loads((chain / "metrics.json").read_text())
    assert metrics["train"]["steps"] == 27
    validation = metrics["validation"]
    assert validation["loss"]["num_tasks"] == 3
    assert validation["loss"]["token_mean"] < validation["initial_loss"]
