"""Whole runs on models that see pictures: all jobs, several processes, kills."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small_vision import make_tasks, options, vision_run
from toy_vision import TRAINED

from arc_experiments import compose
from arc_experiments.jobs import adapt, evaluate, finetune
from arc_experiments.run import Run

pytestmark = pytest.mark.slow
families = pytest.mark.parametrize("family", TRAINED)
LIKELIHOODS = [
    "inference.num_views=2", "inference.scoring_views=2", "inference.selection=full_probmul_3",
    "inference.num_samples=2", "inference.temperature=1.0", "inference.constrain=grid",
    "inference.max_new_tokens=null", "optim.max_steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tasks(tmp_path_factory.mktemp("tasks"))


def run_job(main: Callable[..., None], folder: Path, *overrides: str) -> Run:
    torch.set_num_threads(1)
    run = compose(list(overrides), folder)
    main(run, Console(file=io.StringIO(), width=150))
    return run


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def losses(folder: Path) -> list[float]:
    lines = (folder / "train_log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@families
def test_views_samples_and_likelihoods_are_the_same_when_the_run_is_evaluated_again(
    family: str, tasks: Path, tmp_path: Path
) -> None:
    first = run_job(finetune.main, tmp_path / "a", *options(family, tasks, *LIKELIHOODS))
    again = ["job=evaluate", f"from_run={tmp_path / 'a'}", "tracking=off", "hardware=cpu"]
    run_job(evaluate.main, tmp_path / "b", *again, "hardware.threads=1")
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]
        for name in "ab"
    )
    assert len(one) == 4 * 2 * 2, "tasks, views, samples"
    assert one == two
    valid = [candidate for candidate in one if candidate["valid"]]
    assert valid, "the constraint allows nothing but grids"
    assert all(len(candidate["likelihoods"]) == 2 for candidate in valid)
    assert metrics(tmp_path / "a")["score"] == metrics(tmp_path / "b")["score"]
    assert first.config.prompt.name == "picture_compact"


@families
def test_a_model_that_sees_pictures_is_adapted_to_a_task(family: str, tasks: Path, tmp_path: Path) -> None:
    run_job(adapt.main, tmp_path, *options(family, tasks, "job=adapt", "optim.max_steps=2", "data.limit=3"))
    adapted = metrics(tmp_path)["adaptation"]
    assert adapted["steps"] == 2 * 2, "the third task has one demonstration only"
    assert adapted["final_loss"] < adapted["initial_loss"]
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 3


@families
def test_an_iterable_and_loader_workers_give_the_same_rows(family: str, tasks: Path, tmp_path: Path) -> None:
    found = []
    for number, more in enumerate(
        ([], ["hardware.num_workers=2"], ["data.stream=iterable", "hardware.num_workers=2"])
    ):
        run = vision_run(family, tasks, tmp_path / str(number), *more)
        loader = iter(run.trainer(run.model(), []).get_train_dataloader())
        found.append([next(loader) for _ in range(4)])
    for others in found[1:]:
        for batch, other in zip(found[0], others, strict=True):
            assert batch.keys() == other.keys()
            assert all(
                torch.equal(torch.as_tensor(batch[name]), torch.as_tensor(other[name])) for name in batch
            )


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "arc_experiments", f"hydra.run.dir={folder}", *overrides]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@families
def test_the_command_survives_a_kill_and_two_processes_train_like_one(
    family: str, tasks: Path, tmp_path: Path
) -> None:
    chosen = options(family, tasks, "optim.save_steps=1", "hardware.per_device_batch_size=1")
    finish(start(tmp_path / "one", *chosen))
    finish(start(tmp_path / "two", *chosen, "hardware.num_processes=2"))
    process = start(tmp_path / "killed", *chosen)
    log, deadline = tmp_path / "killed" / "train_log.jsonl", time.monotonic() + 200
    while (not log.exists() or '"step": 2' not in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    finish(start(tmp_path / "killed", *chosen))

    one, two, killed = (metrics(tmp_path / name) for name in ("one", "two", "killed"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "one")
    assert killed["validation"] == one["validation"]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert two["train"]["tokens"] == one["train"]["tokens"], "every sample once, in all"
    assert two["validation"]["loss"]["token_mean"] == pytest.approx(
        one["validation"]["loss"]["token_mean"], abs=1e-5
    )
