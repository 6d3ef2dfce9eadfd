"""Several processes: the samples, losses and answers of one, and an end that tells what happened."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from toy_models import untrained

from arc_experiments.composing import freezing
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze, frozen_by_the_first
from arc_experiments.config.schema import Hardware
from arc_experiments.runs.cores_and_gpus import count_processes
from arc_experiments.runs.folder import FolderError, RunFolder

SMALL = [
    *untrained(), "experiment=smoke", "optim.learning_rate=2e-3", "tracking=off", "data.limit=6",
    "prompt.max_length=600", "hardware.threads=1", "inference.max_new_tokens=16",
]  # fmt: skip


def start(
    folder: Path, *overrides: str, module: tuple[str, ...] = ("-m", "arc_experiments")
) -> subprocess.Popen[str]:
    command = [sys.executable, *module, *SMALL, f"hydra.run.dir={folder}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_command(
    folder: Path, *overrides: str, module: tuple[str, ...] = ("-m", "arc_experiments")
) -> tuple[int, str]:
    process = start(folder, *overrides, module=module)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def log_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log_lines(folder) if "loss" in line]


def lasting(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["train"] = {name: metrics["train"][name] for name in ("steps", "samples", "tokens", "by_source")}
    return {name: metrics[name] for name in ("train", "validation", "score")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    code, output = run_command(folder)
    assert code == 0, output
    return folder


@pytest.mark.slow
def test_two_processes_train_and_answer_like_one(alone: Path, tmp_path: Path) -> None:
    code, output = run_command(tmp_path / "two", "hardware.num_processes=2")
    assert code == 0, output
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), abs=1e-6)
    one, two = lasting(alone), lasting(tmp_path / "two")
    assert two["train"] == one["train"], "every sample once, in all"
    assert two["score"] == one["score"]
    assert two["validation"]["loss"]["token_mean"] == pytest.approx(
        one["validation"]["loss"]["token_mean"], abs=1e-6
    )
    assert output.count("first sample") == 1, "one process talks"


def test_other_processes_wait_until_the_first_has_frozen_what_they_composed(tmp_path: Path) -> None:
    path, earlier = tmp_path / "run", compose_config(["optim.stop_after=3", "name=mine"])
    freeze(earlier, path, [])
    with ThreadPoolExecutor() as others:
        waiting = others.submit(frozen_by_the_first, compose_config([]), path)
        with pytest.raises(TimeoutError):  # run.yaml is there, but of the start before
            waiting.result(timeout=1)
        freeze(compose_config([]), path, [])
        folder = waiting.result(timeout=60)
    assert folder.read_config().optim.stop_after is None
    assert folder.read_config().name == "mine"


def test_a_folder_that_the_first_makes_meanwhile_is_the_same_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["data=re_arc", "data.source.cache_pairs=9", "data.source.cache_dir=pairs"]
    with ThreadPoolExecutor() as others:
        waiting = others.submit(frozen_by_the_first, compose_config(command), tmp_path / "run")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        freeze(compose_config(command), tmp_path / "run", [])
        (tmp_path / "pairs").mkdir()
        assert waiting.result(timeout=60).read_config().data.source.cache_dir.endswith("pairs")


def test_a_process_started_by_another_command_says_what_it_composed_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(FolderError, match="has not written what this one composed"):
        frozen_by_the_first(compose_config([]), tmp_path / "run")
    freeze(compose_config(["optim.stop_after=3"]), tmp_path / "run", [])
    with pytest.raises(FolderError, match=r"\(optim.stop_after\); are all started by the same command"):
        frozen_by_the_first(compose_config([]), tmp_path / "run")


BATCHES = """
import json, os, sys
from pathlib import Path
from arc_experiments import compose
folder, *overrides = sys.argv[1:]
rank = os.environ.get("RANK", "0")
run = compose(overrides, f"{folder}-{rank}")
loader = iter(run.trainer(run.model(), []).get_train_dataloader())
batches = [next(loader) for _ in range(4 // int(os.environ.get("WORLD_SIZE", "1")))]
rows = [row[mask].tolist() for b in batches for row, mask in zip(b["input_ids"], b["attention_mask"] == 1)]
Path(f"{folder}-{rank}.json").write_text(json.dumps(rows))
"""


@pytest.mark.slow
@pytest.mark.parametrize("exposure", ["indexed", "iterable"])
def test_two_processes_see_disjoint_samples_whose_union_is_the_stream(tmp_path: Path, exposure: str) -> None:
    (tmp_path / "batches.py").write_text(BATCHES)
    options = [
        *SMALL,
        "hardware.per_device_batch_size=2",
        f"data.stream={exposure}",
        "hardware.num_workers=1",
    ]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    for name, start in (("two", torchrun), ("one", [])):
        command = [sys.executable, *start, str(tmp_path / "batches.py"), str(tmp_path / name), *options]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=200)
    first, second, alone = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("two-0", "two-1", "one-0")
    )
    assert [first[:2], second[:2], first[2:], second[2:]] == [alone[n : n + 2] for n in range(0, 8, 2)]
    assert len({tuple(row) for row in alone}) == 8


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two_that_torchrun_started(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    assert run_command(folder, "optim.stop_after=3")[0] == 0
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "arc_experiments")
    code, output = run_command(folder, module=torchrun)
    assert code == 0, output
    assert losses(folder) == pytest.approx(losses(alone), abs=1e-6)


@pytest.mark.slow
def test_a_process_that_dies_ends_all_and_the_same_command_goes_on(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(folder, "hardware.num_processes=2")
    log, deadline = folder / "train_log.jsonl", time.monotonic() + 120
    while (not log.exists() or '"step": 4' not in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = subprocess.run(
        ["pgrep", "-f", f"arc_experiments.launching.worker {folder}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    code, output = run_command(folder, "hardware.num_processes=2")
    assert code == 0, output
    assert "Resuming from step 3" in output
    assert losses(folder) == pytest.approx(losses(alone), abs=1e-6)
    assert lasting(folder)["score"] == lasting(alone)["score"]


@pytest.mark.slow
def test_the_processes_end_with_a_killed_one_that_has_started_them(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(folder, "hardware.num_processes=2", "optim.max_steps=10000", "optim.save_steps=10000")
    deadline = time.monotonic() + 120
    while not (folder / "train_log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = subprocess.run(
        ["pgrep", "-f", f"arc_experiments.launching.worker {folder}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGKILL)  # as a sweep that is told twice, or a benchmark's cell out of time
    try:
        process.communicate(timeout=60)  # until all of them have let go of the output
        with RunFolder(folder).locked() as is_free:
            assert is_free
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)


@pytest.mark.slow
def test_a_mistake_that_only_the_processes_can_see_is_one_message(tmp_path: Path) -> None:
    code, output = run_command(tmp_path / "run", "prompt.max_length=20", "hardware.num_processes=2")
    assert code == 2
    assert output.count("prompt.max_length=20 is too short") == 1
    assert "Traceback" not in output
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_others_processes_are_not_for_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, output = run_command(tmp_path / "run", "resume=false")
    assert code == 2
    assert "hardware.num_processes" in output


def test_as_many_processes_as_gpus_where_no_number_is_named() -> None:
    assert count_processes(Hardware(num_processes=3)) == 3
    assert count_processes(Hardware(num_processes=None, device="cpu")) == 1
    assert count_processes(Hardware(num_processes=None, gpu_ids=[0, 2])) == 2
