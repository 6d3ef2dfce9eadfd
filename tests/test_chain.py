"""Chains: a run as several jobs in a row, what happens when one dies, and how a run is asked to pause."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_models import untrained

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.schema import Chain
from arc_experiments.launching.chain import begin_job, end_job, run_chain
from arc_experiments.launching.worker import FAILED, MISTAKE, STOPPED, TAKEN
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.pausing import Pause
from arc_experiments.training.checkpoints import last_complete

SMALL = [
    *untrained(), "prompt.max_length=600", "experiment=smoke", "tracking=off", "data.limit=4",
    "inference.limit=1", "hardware.threads=1", "optim.save_steps=6", "optim.eval_steps=4",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def acts(folder: RunFolder, *ends: tuple[str, int, int]) -> Callable[[], int]:
    """Workers that end one after another, each in a state, at a step, with an exit code."""
    left = iter(ends)

    def run_once() -> int:
        state, step, code = next(left)
        folder.update_status(state="running", step=step, error=None)
        if state != "dies":
            folder.end(state, "no such thing" if state == "failed" else None)
        return code

    return run_once


def test_a_chain_ends_when_the_run_is_done(folder: RunFolder) -> None:
    run = acts(folder, ("paused", 2, STOPPED), ("paused", 4, STOPPED), ("done", 6, 0))
    assert run_chain(folder, 9, run) == 0
    assert folder.is_done


def test_a_chain_has_no_more_jobs_than_it_is_given(folder: RunFolder) -> None:
    assert run_chain(folder, 2, acts(folder, ("paused", 2, STOPPED), ("paused", 4, STOPPED))) == STOPPED
    assert folder.status["state"] == "paused"


def test_after_a_death_the_next_job_goes_on(folder: RunFolder) -> None:
    run = acts(folder, ("dies", 3, -9), ("failed", 5, FAILED), ("done", 6, 0))
    assert run_chain(folder, 9, run) == 0
    assert folder.status["deaths"] == [3, 5]


@pytest.mark.parametrize(
    ("how", "told"), [("dies", "killed by signal 9 (out of memory?)"), ("failed", "no such thing")]
)
def test_two_deaths_at_one_step_end_the_chain_and_say_so(folder: RunFolder, how: str, told: str) -> None:
    assert run_chain(folder, 9, acts(folder, (how, 3, -9), (how, 4, -9), (how, 3, -9))) == -9
    assert folder.status["state"] == "failed"
    assert folder.status["error"] == f"{told}; 2 times at step 3, so the chain ends here"
    assert run_chain(folder, 9, acts(folder, ("done", 6, 0))) == 0, "the command typed again tries again"


def test_a_mistake_is_not_made_again(folder: RunFolder) -> None:
    assert run_chain(folder, 9, acts(folder, ("failed", 0, MISTAKE))) == MISTAKE
    assert "deaths" not in folder.status


def test_a_folder_that_another_process_has_is_left_to_it(folder: RunFolder) -> None:
    assert run_chain(folder, 9, acts(folder, ("dies", 1, TAKEN))) == TAKEN
    assert "deaths" not in folder.status


def test_a_death_that_nobody_saw_is_counted(folder: RunFolder) -> None:
    folder.update_status(state="running", step=7)
    assert begin_job(folder), "as after a node was lost"
    folder.update_status(state="running", step=7)
    assert not begin_job(folder)
    assert folder.status["error"].startswith("its process has died unseen; 2 times at step 7")


def test_deaths_while_answering_are_not_counted(folder: RunFolder) -> None:
    folder.update_status(step=6, max_steps=6)
    assert run_chain(folder, 9, acts(folder, ("dies", 6, -9), ("dies", 6, -9), ("done", 6, 0))) == 0


def code_of(program: str) -> int:
    return subprocess.run([sys.executable, "-c", program]).returncode


@pytest.mark.slow
def test_a_killed_worker_whose_children_hold_the_folder_for_a_while_has_died(folder: RunFolder) -> None:
    """As the processes that prepare samples do: each has the worker's open lock."""
    worker = f"""
import os, pathlib, signal, time
from arc_experiments.runs.folder import RunFolder
with RunFolder(pathlib.Path({str(folder.path)!r})).worked_on():
    if not os.fork():
        time.sleep(2)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""

    assert run_chain(folder, 2, lambda: code_of(worker)) == -signal.SIGKILL
    assert folder.status["attempt"] == 2, "the chain goes on"
    assert (folder.status["state"], folder.status["error"]) == (
        "failed",
        "killed by signal 9 (out of memory?)",
    )


@pytest.mark.slow
def test_a_killed_start_of_several_processes_has_died_though_they_end_a_moment_later(
    folder: RunFolder,
) -> None:
    start = f"""
import os, pathlib, signal, time
from arc_experiments.runs.folder import RunFolder
folder = RunFolder(pathlib.Path({str(folder.path)!r}))
rank = os.fork()
if not rank:
    with folder.worked_on():
        time.sleep(1)
        os._exit(1)
while folder.status.get("pid") != rank:
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""

    assert run_chain(folder, 2, lambda: code_of(start)) == -signal.SIGKILL
    assert folder.status["attempt"] == 2, "the chain goes on"


@pytest.mark.slow
def test_the_end_of_a_helper_is_not_that_of_the_run(folder: RunFolder) -> None:
    with folder.worked_on():
        assert not end_job(folder, -9)
        assert folder.status["state"] == "running"


def test_a_worker_that_was_ended_before_it_could_say_so_has_paused(folder: RunFolder) -> None:
    assert run_chain(folder, 1, acts(folder, ("dies", 3, STOPPED))) == STOPPED
    assert folder.status["state"] == "paused"


def test_a_run_that_is_still_worked_on_has_not_died(folder: RunFolder) -> None:
    with folder.worked_on():
        assert begin_job(folder)
        assert folder.status["state"] == "running"


# Pausing


def test_a_pause_is_due_when_its_steps_are_done_or_its_time_is_up_or_the_file_is_there(
    tmp_path: Path,
) -> None:
    pause = Pause(tmp_path, Chain(total_jobs=2, steps_per_job=3))
    with pause.listening(first_step=4):
        assert [pause.is_due(step) for step in (5, 6, 7, 8)] == [False, False, True, True]
    pause = Pause(tmp_path, Chain(total_jobs=2, seconds_per_job=0.05))
    assert not pause.is_due(1)
    time.sleep(0.06)
    assert pause.is_due(1)
    pause = Pause(tmp_path, Chain())
    assert not pause.is_due(1)
    pausing.ask(tmp_path)
    assert pause.is_due(1)
    with RunFolder(tmp_path).worked_on():
        pausing.forget_earlier(tmp_path)
        assert pause.is_due(1), "the run at work has yet to see it, whatever is typed meanwhile"
    pausing.forget_earlier(tmp_path)
    assert not pause.is_due(1)


def test_a_signal_asks_who_listens_and_else_stops_at_once(tmp_path: Path) -> None:
    code = f"""
import os, signal, pathlib
from arc_experiments.runs import pausing
from arc_experiments.config.schema import Chain
pausing.watch_signals()
pause = pausing.Pause(pathlib.Path({str(tmp_path)!r}), Chain())
with pause.listening(0):
    os.kill(os.getpid(), signal.SIGTERM)
    assert pause.is_due(1)
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "stopped\n", done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["launch.chain.steps_per_job=10"], "does not go with launch.chain.total_jobs=1"),
        (["launch.chain.total_jobs=2"], "set launch.chain.steps_per_job or launch.chain.seconds_per_job"),
        (
            ["launch.chain.total_jobs=2", "launch.chain.steps_per_job=10", "optim.max_steps=30"],
            "step 30 is not reached by 2 jobs of 10 steps",
        ),
        (
            ["launch.chain.total_jobs=9", "launch.chain.steps_per_job=15", "optim.log_steps=10"],
            "must be a multiple of optim.log_steps=10",
        ),
        (
            ["job=audit", "launch.chain.total_jobs=9", "launch.chain.steps_per_job=15"],
            "it counts training steps; take job=finetune",
        ),
        (["launch.dry_run=true"], "it is for a cluster; take launch=slurm"),
        (["launch=slurm", "launch.slurm.nodes=2"], "a multiple of the nodes"),
        (
            ["launch=slurm", "job=audit", "launch.slurm.nodes=2"],
            "does not go with job=audit: it runs on one node",
        ),
        (["launch=slurm", "hardware=one_gpu"], "launch.slurm.gpus_per_node=0"),
        (["launch=slurm", "launch.slurm.time='86400'"], "launch.slurm.time=86400 would be minutes"),
        (
            ["job=evaluate", "launch.chain.total_jobs=2", "launch.chain.seconds_per_job=9"],
            "it stops trainings only; take job=finetune",
        ),
        (["launch=slurm", "launch.slurm.workers=2"], "it shares out the tasks of job=adapt"),
    ],
)
def test_a_chain_that_could_not_end_well_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check(compose_config(overrides))
    assert message in str(raised.value)


# The real thing


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "arc_experiments", *SMALL, *overrides]


@pytest.mark.slow
def test_a_chain_of_five_jobs_equals_one_run_bit_for_bit(tmp_path: Path) -> None:
    whole, chain = tmp_path / "whole", tmp_path / "chain"
    steps = ["optim.max_steps=10", "optim.save_steps=2"]
    subprocess.run(command(*steps, f"hydra.run.dir={whole}"), check=True, capture_output=True)
    options = ["launch.chain.total_jobs=5", "launch.chain.steps_per_job=2"]
    done = subprocess.run(
        command(*steps, f"hydra.run.dir={chain}", *options), check=True, capture_output=True, text=True
    )
    assert done.stdout.count("Paused at step") == 4
    assert RunFolder(chain).status["attempt"] == 5
    assert_equal(chain, whole)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "file"])
def test_a_run_that_is_asked_to_pause_saves_and_goes_on_exactly(
    tmp_path: Path, how: signal.Signals | str
) -> None:
    whole, paused = tmp_path / "whole", tmp_path / "paused"
    steps = ["optim.max_steps=30", "optim.save_steps=30"]  # no checkpoint but the one that is asked for
    subprocess.run(command(*steps, f"hydra.run.dir={whole}"), check=True, capture_output=True)
    typed = command(*steps, f"hydra.run.dir={paused}")
    run = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while RunFolder(paused).status.get("step", 0) < 3:
        assert run.poll() is None
        time.sleep(0.05)
    if isinstance(how, signal.Signals):
        run.send_signal(how)
    else:
        (paused / ".pause").touch()
    shown, beside = run.communicate(timeout=120)
    assert run.returncode == STOPPED
    assert "Paused at step" in shown
    assert ("Pausing at the end of this step" in beside) == (how == signal.SIGINT), "a person is told at once"
    assert RunFolder(paused).status["state"] == "paused"
    again = subprocess.run(typed, check=True, capture_output=True, text=True)
    assert "Resuming from step" in again.stdout
    assert_equal(paused, whole)


def assert_equal(folder: Path, other: Path) -> None:
    for name in ("adapter/adapter_model.safetensors", "predictions.jsonl", "submission.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    timed = {"samples_per_second", "tokens_per_second", "data_wait_fraction"}
    lines = [
        [
            {key: value for key, value in json.loads(line).items() if key not in timed}
            for line in (path / "train_log.jsonl").read_text().splitlines()
        ]
        for path in (folder, other)
    ]
    assert lines[0] == lines[1]
    checkpoints = [last_complete(path / "checkpoints") for path in (folder, other)]
    assert checkpoints[0] is not None
    assert checkpoints[1] is not None
    assert checkpoints[0].name == checkpoints[1].name
    for name in ("scheduler.pt", "optimizer.pt"):
        assert (checkpoints[0] / name).read_bytes() == (checkpoints[1] / name).read_bytes(), name
