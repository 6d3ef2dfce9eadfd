"""job=adapt by the real command: several processes at one folder, killed at any moment; and its purpose."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapt_tools import OPTIONS, lasting_metrics, make_tasks, predictions
from task_files import row_pair, write, write_copying
from toy_models import untrained

from arc_experiments.run import load_run

pytestmark = pytest.mark.slow


def start(folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "arc_experiments", *overrides, f"hydra.run.dir={folder}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """What it printed, once it has ended well."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def wait_for(happens: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    for _ in range(6000):
        if happens() or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    tasks = make_tasks(tmp_path_factory.mktemp("tasks"), 6)
    return [*OPTIONS, *untrained(160, 560), "optim.max_steps=12", f"data.path={tasks}"]


@pytest.fixture(scope="module")
def unkilled(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unkilled") / "run"
    finish(start(folder, *options))
    return folder


def assert_same(folder: Path, other: Path) -> None:
    one, two = load_run(folder), load_run(other)
    assert lasting_metrics(one) == lasting_metrics(two)
    for name in ("predictions.jsonl", "predictions_before.jsonl"):
        assert predictions(one, name) == predictions(two, name)
    assert not (folder / ".adapt").exists()


def test_killed_again_and_again_it_ends_as_if_it_had_not_been(
    options: list[str], unkilled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    moments: list[Callable[[], Any]] = [
        lambda: (folder / "status.json").exists(),
        lambda: list((folder / ".adapt").glob("before-*.json")),
        lambda: list((folder / ".adapt").glob("after-*.lock")),
        lambda: len(list((folder / ".adapt").glob("after-*.json"))) >= 2,
        lambda: (folder / "metrics.json").exists(),
    ]
    for happens in moments:
        process = start(folder, *options)
        wait_for(happens, process)
        kill(process)
    finish(start(folder, *options))
    assert_same(folder, unkilled)


def test_processes_share_out_the_tasks(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # Long enough for the second to have come: each takes as long to start as the first took.
    finish(start(folder, *options, "optim.max_steps=200", "hardware.num_processes=2"))
    units = predictions(load_run(folder), "adaptation.jsonl")
    assert [unit["task_ids"] for unit in units] == [[f"e{number}"] for number in range(6)]
    workers = {unit["worker"] for unit in units}
    assert len(workers) == 2
    for worker in workers:
        assert not Path(f"/proc/{worker.rpartition(':')[2]}").exists(), "all of them have ended"


def test_the_same_command_helps_and_takes_over_when_the_first_one_dies(
    options: list[str], unkilled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first = start(folder, *options)
    wait_for(lambda: (folder / "status.json").exists(), first)
    second = start(folder, *options)
    wait_for(lambda: len(list((folder / ".adapt").glob("after-*.json"))) >= 1, first)
    kill(first)
    printed = finish(second)
    assert f"Helping process {first.pid}" in printed
    assert printed.splitlines()[-1] == str(folder)
    assert_same(folder, unkilled)


def test_groups_of_tasks_are_shared_out_and_survive_a_kill(options: list[str], tmp_path: Path) -> None:
    options, through, folder = [*options, "adapt.together=2"], tmp_path / "through", tmp_path / "run"
    finish(start(through, *options))
    shared = [*options, "hardware.num_processes=2"]
    process = start(folder, *shared)
    wait_for(lambda: list((folder / ".adapt").glob("after-*.json")), process)
    kill(process)
    finish(start(folder, *shared))
    assert_same(folder, through)
    units = predictions(load_run(folder), "adaptation.jsonl")
    assert [unit["task_ids"] for unit in units] == [[f"e{number}"] for number in range(6)]


def test_helpers_end_with_the_process_that_started_them(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, *options, "hardware.num_processes=2")
    wait_for(lambda: (folder / ".adapt").exists(), process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    kill(process)
    for _ in range(100):
        if not Path(f"/proc/{children[0]}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("the helper keeps running alone")


def copying_and_filling(folder: Path) -> Path:
    """Tasks to train on, which copy their input, and tasks to adapt to, which fill it with one colour."""
    rng = np.random.default_rng(0)
    write_copying(folder, rng)
    for number in range(12):
        colour = int(rng.integers(10))
        pairs = [row_pair(rng, colour) for _ in range(5)]
        write(folder, f"evaluation/e{number}.json", {"train": pairs[1:], "test": pairs[:1]})
    return folder


def test_adaptation_solves_tasks_of_a_rule_that_the_model_was_not_trained_on(tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "run"
    here = ["tracking=off", "hardware=cpu", "hardware.threads=1"]
    finish(
        start(
            base, *here, *untrained(160, 560), "optim.learning_rate=2e-3", "data=files",
            f"data.path={copying_and_filling(tmp_path / 'tasks')}", "data.partition=official",
            f"data.path={copying_and_filling(tmp_path / 'tasks')}", "data.partition=official",
            "prompt.max_length=256", "augmentation=[order,colours]", "optim.max_steps=80",
            "optim.batch_size=4", "optim.eval_steps=null", "optim.save_steps=1000", "inference=one_view",
            "inference.max_new_tokens=8",
        )
    )  # fmt: skip
    printed = finish(
        start(
            folder, *here, "job=adapt", f"from_run={base}", "augmentation=[order]", "optim.max_steps=25",
            "optim.learning_rate=3e-4", "adapt.leave_out=[1,2]",
        )
    )  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    trained = json.loads((base / "metrics.json").read_text())
    assert metrics["before"]["score"]["pass_at_2"] == trained["score"]["pass_at_2"]
    gain = metrics["difference"]["pass_at_2"]
    assert gain["difference"] > 0.5, printed
    assert gain["interval"][0] > 0.2
    assert len(metrics["difference"]["won"]) > len(metrics["difference"]["lost"])
    assert metrics["adaptation"]["final_loss"] < metrics["adaptation"]["initial_loss"] / 2
