"""Cases for any real scheduler behind `launch=command`: whatever happens, a run ends as it does here."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_models import untrained

from arc_experiments.runs.folder import RunFolder

RUN = [  # of a model that is slow enough to be stopped in the middle
    *untrained(160, 560),
    "experiment=smoke", "tracking=off", "data.limit=4", "inference.limit=1", "hardware.threads=1",
    "optim.max_steps=12", "optim.save_steps=4", "optim.log_steps=1", "optim.eval_steps=null",
    "prompt.max_length=1024", "inference.max_new_tokens=64", "optim.batch_size=2",
]  # fmt: skip
SHORT = ["optim.max_steps=2", "optim.save_steps=2", "inference.limit=0"]
RESULTS = ("adapter/adapter_model.safetensors", "predictions.jsonl", "submission.json")
PATIENCE = 900  # seconds, on a busy machine


@dataclass(frozen=True, kw_only=True)
class Real:
    """A scheduler that runs.

    Attributes:
        launch: overrides that submit to it.
        remove: a command that removes a job.
        requeue: stops a job so that the scheduler starts it again.
    """

    launch: tuple[str, ...]
    remove: tuple[str, ...]
    requeue: Callable[[str], object]


def typed(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arc_experiments", *RUN, *overrides], capture_output=True, text=True
    )


def submit(real: Real, *overrides: str) -> str:
    done = typed(*real.launch, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jobs_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "jobs.json").read_text())["jobs"])


def wait_for(what: str, is_there: Callable[[], object], *, every: float = 0.05) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_there():
        assert time.monotonic() < deadline, f"{what} has not come in {PATIENCE} s"
        time.sleep(every)


def step_of(folder: Path) -> int:
    return int(RunFolder(folder).status.get("step", 0))


def is_done(folder: Path) -> bool:
    return RunFolder(folder).is_done


def status(*folders: Path) -> str:
    command = [sys.executable, "-m", "arc_experiments.status", *map(str, folders)]
    environment = os.environ | {"COLUMNS": "240"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def is_listed(job: str, folder: Path) -> bool:
    """Whether `status` shows a job of a run with a state: `12 RUNNING`."""
    return re.search(rf"(?<!\S){job} [A-Za-z]", status(folder)) is not None


def results(folder: Path) -> list[bytes]:
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    losses = [(line["step"], line.get("loss"), line.get("learning_rate")) for line in lines]
    files = [(folder / name).read_bytes() for name in RESULTS if (folder / name).exists()]
    assert files
    return [*files, json.dumps(losses).encode()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("here") / "run"
    done = typed(f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return results(folder)


class OnARealScheduler:
    """The cases; a class of tests inherits them and has the fixture `real`."""

    def test_a_run_is_shown_by_status_not_submitted_twice_and_equals_one_here(
        self, real: Real, tmp_path: Path, uninterrupted: list[bytes]
    ) -> None:
        folder = tmp_path / "run"
        submit(real, f"hydra.run.dir={folder}")
        (job,) = jobs_of(folder)
        assert "0 to submit" in submit(real, f"hydra.run.dir={folder}")
        assert is_listed(job, folder)
        wait_for("the end of the run", lambda: is_done(folder))
        wait_for("an empty queue", lambda: not is_listed(job, folder), every=1)
        assert "done" in status(folder)
        assert results(folder) == uninterrupted

    def test_a_chain_with_a_killed_worker_equals_one_run_here_and_cancels_what_it_leaves(
        self, real: Real, tmp_path: Path, uninterrupted: list[bytes]
    ) -> None:
        folder = tmp_path / "run"
        submit(real, f"hydra.run.dir={folder}", "launch.chain.total_jobs=6", "launch.chain.steps_per_job=4")
        jobs = jobs_of(folder)
        wait_for("step 5", lambda: step_of(folder) >= 5)
        os.kill(RunFolder(folder).status["pid"], signal.SIGKILL)
        wait_for("the end of the run", lambda: is_done(folder))
        wait_for("an empty queue", lambda: not any(is_listed(job, folder) for job in jobs), every=1)
        assert results(folder) == uninterrupted
        attempts = RunFolder(folder).status["attempt"]
        assert attempts == 4
        assert jobs_of(folder) == jobs[:attempts], "nothing was left for the others"

    def test_a_requeued_job_resumes(self, real: Real, tmp_path: Path, uninterrupted: list[bytes]) -> None:
        folder = tmp_path / "run"
        submit(real, f"hydra.run.dir={folder}")
        (job,) = jobs_of(folder)
        wait_for("step 5", lambda: step_of(folder) >= 5)
        os.kill(RunFolder(folder).status["pid"], signal.SIGSTOP)  # so that it cannot end before it is stopped
        real.requeue(job)
        wait_for("the end of the run", lambda: is_done(folder))
        assert RunFolder(folder).status["attempt"] == 2
        assert results(folder) == uninterrupted

    def test_a_sweep_keeps_its_limit_and_a_removed_job_is_lost_and_submitted_again(
        self, real: Real, tmp_path: Path
    ) -> None:
        sweep, here = tmp_path / "sweep", tmp_path / "here"
        overrides = ["--multirun", *SHORT, "seed=1,2,3,4,5,6"]
        arguments = [*overrides, "launch.max_parallel=2", f"hydra.sweep.dir={sweep}"]
        submit(real, *arguments)
        folders = [sweep / f"seed_{seed}" for seed in range(1, 7)]
        (removed,) = jobs_of(folders[5])
        subprocess.run([*real.remove, removed], check=True, capture_output=True)
        most = 0

        def have_ended() -> bool:
            nonlocal most
            states = [RunFolder(folder).state.name for folder in folders]
            most = max(most, states.count("running"))
            return states.count("done") >= 5

        wait_for("the end of five runs", have_ended)
        assert most == 2
        assert [is_done(folder) for folder in folders] == [True, True, True, True, True, False]
        record = RunFolder(folders[5]).read_json("jobs.json")
        RunFolder(folders[5]).write_json("jobs.json", record | {"time": record["time"] - 60})
        assert f"job {removed} is lost" in " ".join(status(folders[5]).split())
        assert "6 runs, 5 finished already, 1 to submit" in submit(real, *arguments)
        wait_for("the end of the sixth", lambda: is_done(folders[5]))
        local = typed(*overrides, "launch.max_parallel=2", f"hydra.sweep.dir={here}")
        assert local.returncode == 0, local.stdout + local.stderr
        for folder in folders:
            assert results(folder) == results(here / folder.name)
