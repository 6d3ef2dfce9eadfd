"""The real command in real processes: what a user types and finds."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from toy_models import make_base, untrained

from arc_experiments import compose
from arc_experiments.jobs import evaluate

SMALL = [
    *untrained(),
    "experiment=smoke", "tracking=off", "data.limit=4", "prompt.max_length=600", "optim.learning_rate=2e-3",
]  # fmt: skip
# What may differ between two runs of one composition: times and memory.
VARYING = ("seconds", "peak_memory_bytes", "cost")
VARYING_TRAINING = ("samples_per_second", "tokens_per_second", "data_wait_fraction")


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "arc_experiments", *overrides]


def run_command(
    *overrides: str, cwd: Path | None = None, hash_seed: str = "0"
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        command(*overrides),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=cwd,
        env=environment,
    )


def lasting_metrics(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in VARYING:
        del metrics[name]
    for name in VARYING_TRAINING:
        del metrics["train"][name]
    return metrics


def adapter_bytes(folder: Path) -> dict[str, bytes]:
    files = {file.name: file.read_bytes() for file in (folder / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "ancestry.json"} <= files.keys()
    return files


def losses(folder: Path) -> list[tuple]:
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    return [
        (line["step"], line.get("loss"), line.get("grad_norm"), line.get("validation_loss")) for line in lines
    ]


def evaluated_again(folder: Path, to: Path) -> tuple[dict, dict]:
    """The metrics of a run, and those of `job=evaluate` on its weights."""
    done = run_command("job=evaluate", f"from_run={folder}", "tracking=off", f"hydra.run.dir={to}")
    assert done.returncode == 0, done.stdout + done.stderr
    trained, evaluated = (json.loads((path / "metrics.json").read_text()) for path in (folder, to))
    return trained, evaluated


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run through the real command, and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run_command(*SMALL, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "library noise belongs into run.log"
    return folder, done.stdout


def test_a_run_leaves_everything_in_its_folder(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    expected = {
        "run.yaml", "environment.json", "status.json", "partition.json", "metrics.json", "predictions.jsonl",
        "submission.json", "train_log.jsonl", "report.html", "run.log", "adapter", "checkpoints",
    }  # fmt: skip
    assert expected <= {file.name for file in folder.iterdir()}
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["step"], status["max_steps"], status["attempt"]) == ("done", 6, 6, 1)
    candidates = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(candidates) == 2 * 2, "every test output of two tasks under two views"
    assert "<svg" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_run_whose_output_nobody_reads_any_more_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(command(*SMALL, f"hydra.run.dir={tmp_path}"), stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.stdout.close()  # as `| head -1` does
        assert run.wait() == 0, (tmp_path / "run.log").read_text()
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "done"
    assert "nobody reads the output any more" in (tmp_path / "run.log").read_text()


def test_the_terminal_ends_with_the_scores_and_the_folder(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    lines = printed.splitlines()
    assert lines[-1] == str(folder)
    assert any("estimate" in line for line in lines)
    assert any("pass@2" in line for line in lines)
    assert "Warning" not in printed, "library noise belongs into run.log"


def test_the_training_loss_falls(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    values = [loss for _, loss, _, _ in losses(folder) if loss is not None]
    assert len(values) == 6
    assert values[-1] < values[0] - 0.3
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["validation"]["loss"]["token_mean"] < metrics["validation"]["initial_loss"] - 0.3


@pytest.mark.slow
def test_the_same_command_again_shows_the_scores_at_once_as_a_chain_too(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = (folder / "metrics.json").stat().st_mtime_ns
    chain = ["launch.chain.total_jobs=2", "launch.chain.steps_per_job=5"]
    again = run_command(*SMALL, *chain, f"hydra.run.dir={folder}")
    assert again.returncode == 0
    assert "pass@2" in again.stdout
    assert again.stdout.splitlines()[-1] == str(folder)
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_another_composition_in_the_same_folder_is_refused(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    refused = run_command(*SMALL, "seed=5", f"hydra.run.dir={folder}")
    assert refused.returncode == 2
    assert "seed: 1 -> 5" in refused.stderr
    assert "resume=false" in refused.stderr


@pytest.mark.slow
def test_a_finished_run_is_evaluated_again_from_its_folder(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = finished
    torch.set_num_threads(1)
    run = compose(["job=evaluate", f"from_run={folder}", "tracking=off"], tmp_path / "e")
    evaluate.main(run, Console(file=io.StringIO()))
    trained = json.loads((folder / "metrics.json").read_text())
    assert run.metrics["validation"]["loss"] == trained["validation"]["loss"]
    assert run.metrics["score"] == trained["score"]


def test_an_evaluation_from_a_run_takes_no_other_model(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    done = run_command(
        "job=evaluate", f"from_run={folder}", "model=qwen05", f"hydra.run.dir={tmp_path / 'e'}"
    )
    assert done.returncode == 2
    assert "from_run takes that run's model" in done.stderr


@pytest.mark.slow  # the hub's client tries again and again
def test_a_hub_model_out_of_reach_is_one_message(tmp_path: Path) -> None:
    done = run_command("model=qwen05", "tracking=off", f"hydra.run.dir={tmp_path / 'q'}")
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "model.path=Qwen/Qwen2.5-0.5B-Instruct could not be loaded" in done.stdout
    assert "model=tiny" in done.stdout


@pytest.mark.slow
def test_two_folders_and_two_hash_seeds_give_the_same_bytes(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = finished
    done = run_command(*SMALL, f"hydra.run.dir={tmp_path / 'other'}", hash_seed="7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert adapter_bytes(tmp_path / "other") == adapter_bytes(folder)
    assert lasting_metrics(tmp_path / "other") == lasting_metrics(folder)
    assert losses(tmp_path / "other") == losses(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["training", "answering"])
def test_killed_in_the_middle_and_repeated_gives_the_same(
    finished: tuple[Path, str], tmp_path: Path, moment: str
) -> None:
    folder, killed = finished[0], tmp_path / "killed"
    process = subprocess.Popen(command(*SMALL, f"hydra.run.dir={killed}"), stdout=subprocess.DEVNULL)
    waited_for = {
        "training": lambda: (killed / "checkpoints" / "checkpoint-3" / "complete").exists(),
        "answering": lambda: (killed / ".trained.json").exists(),
    }[moment]
    deadline = time.monotonic() + 150
    while not waited_for():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((killed / "status.json").read_text())["state"] == "running", (
        "nobody could say that it died"
    )
    again = run_command(*SMALL, f"hydra.run.dir={killed}", hash_seed="3")
    assert again.returncode == 0, again.stdout + again.stderr
    resumed = {"training": "Resuming from step", "answering": "resuming the evaluation"}[moment]
    assert resumed in again.stdout
    assert adapter_bytes(killed) == adapter_bytes(folder)
    assert lasting_metrics(killed) == lasting_metrics(folder)
    assert losses(killed) == losses(folder)


@pytest.mark.slow
def test_a_sweep_gives_each_job_a_folder_and_survives_a_failing_one(tmp_path: Path) -> None:
    sweep = [
        *SMALL,
        "--multirun",
        "prompt.max_length=600,20",
        f"hydra.sweep.dir={tmp_path}",
    ]
    done = run_command(*sweep)
    assert done.returncode == 1, done.stdout + done.stderr
    table = (tmp_path / "sweep.csv").read_text().splitlines()
    assert len(table) == 3
    assert sum(",done," in line for line in table) == 1
    assert sum(",failed," in line and "max_length" in line for line in table) == 1
    again = run_command(*sweep)
    assert "2 jobs, 1 finished already" in again.stdout


@pytest.mark.slow
def test_a_local_instruct_model_trains_in_bfloat16_with_its_chat_template(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    folder = tmp_path / "run"
    done = run_command(
        "experiment=smoke", "model=custom", f"model.path={tmp_path / 'base'}", "model.dtype=bfloat16",
        "tracking=off", "prompt.max_length=1500", "data.limit=4", f"hydra.run.dir={folder}",
        "optim.learning_rate=1e-2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<|im_start|>system" in done.stdout, "the first sample is shown in the chat template"
    assert "bfloat16" in done.stdout
    ancestry = json.loads((folder / "adapter" / "ancestry.json").read_text())
    assert (ancestry["base"], ancestry["dtype"]) == (str(tmp_path / "base"), "bfloat16")
    values = [loss for _, loss, _, _ in losses(folder) if loss is not None]
    assert values[-1] < values[0]
    trained, evaluated = evaluated_again(folder, tmp_path / "e")
    assert evaluated["validation"]["loss"] == trained["validation"]["loss"]


@pytest.mark.slow
def test_a_run_told_to_stop_early_and_then_to_go_on_equals_one_that_was_not(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder, halved = finished[0], tmp_path / "halved"
    first = run_command(*SMALL, "optim.stop_after=3", f"hydra.run.dir={halved}")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Stopped at step 3 of 6, as asked." in first.stdout
    assert json.loads((halved / "metrics.json").read_text())["train"]["steps"] == 3
    second = run_command(*SMALL, f"hydra.run.dir={halved}")
    assert second.returncode == 0, second.stdout + second.stderr
    assert adapter_bytes(halved) == adapter_bytes(folder)
    assert lasting_metrics(halved) == lasting_metrics(folder)


@pytest.mark.slow
def test_the_examples_of_the_notebook_page_run(finished: tuple[Path, str], tmp_path: Path) -> None:
    root, (folder, _) = Path(__file__).parent.parent, finished
    page = (root / "docs" / "notebook.md").read_text()
    first, own_tasks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    def printed(code: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert 0 <= float(printed(first)[-1]) <= 1, "the pass@2 that the example ends with"
    lines = printed(own_tasks.replace("outputs/arc1-tiny-1f0c2a9e", str(folder)))
    assert any(line.startswith("mirror 0 ") for line in lines)
    assert "mirror" in (tmp_path / "outputs" / "mine.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--multirun", "resume=false"])
def test_what_several_processes_cannot_agree_on_is_refused_where_others_start_them(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    done = run_command(*SMALL, option, f"hydra.run.dir={tmp_path / 'r'}", f"hydra.sweep.dir={tmp_path / 'r'}")
    assert done.returncode == 2
    assert "need the plain command, with hardware.num_processes=" in done.stderr
    assert not list(tmp_path.rglob("run.yaml"))


@pytest.mark.slow
def test_an_evaluation_from_a_run_without_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_command("job=evaluate", f"from_run={tmp_path / 'empty'}", f"hydra.run.dir={tmp_path / 'e'}")
    assert done.returncode == 2
    assert "is not a run folder" in done.stderr
