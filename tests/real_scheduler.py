"""Cases for any real scheduler behind `launch=command`: whatever happens, a run ends as it does here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toy_models import untrained

from arc_experiments.runs.folder import RunFolder

RUN = [  # of a model that is slow enough to be stopped in the middle
    *untrained(128, 384),
    "experiment=smoke", "tracking=off", "data.limit=4", "inference.limit=1", "hardware.threads=1",
    "optim.max_steps=24", "optim.save_steps=8", "optim.log_steps=2", "optim.eval_steps=null",
    "prompt.max_length=1024", "inference.max_new_tokens=64",
]  # fmt: skip
SHORT = ["optim.max_steps=6", "optim.save_steps=6", "inference.limit=0"]
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


def wait_for(what: str, is_there: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_there():
        assert time.monotonic() < deadline, f"{what} has not come in {PATIENCE} s"
        time.sleep(0.3)


def step_of(folder: Path) -> int:
    return int(RunFolder(folder).status.get("step", 0))


def is_done(folder: Path) -> bool:
    return RunFolder(folder).is_done


def status(*folders: Path) -> str:
    command = [sys.executable, "-m", "arc_experiments.status", *map(str, folders)]
    environment = os.environ | {"COLUMNS": "240"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def results(folder: Path) -> list[bytes]:
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    losses = [(line["step"], line.get("loss"), line.get("learning_rate")) for line in lines]
    files = [(folder / name).read_bytes() for name in RESULTS if (folder / name).exists()]
    assert files
    return [*files, json.dumps(losses).encode()]


def check_single_run(real: Real, folder: Path, uninterrupted: Sequence[bytes]) -> None:
    """A run is submitted, shown by `status`, not submitted twice, and equals one here."""
    submit(real, f"hydra.run.dir={folder}")
    (job,) = jobs_of(folder)
    assert "0 to submit" in submit(real, f"hydra.run.dir={folder}")
    assert f"{job} " in status(folder)
    wait_for("the end of the run", lambda: is_done(folder))
    wait_for("an empty queue", lambda: f"{job} " not in status(folder))
    assert "done" in status(folder)
    assert results(folder) == uninterrupted


def check_chain(real: Real, folder: Path, uninterrupted: Sequence[bytes]) -> None:
    """A chain with a killed worker equals one run here, and the jobs that it leaves are cancelled."""
    submit(real, f"hydra.run.dir={folder}", "launch.chain.total_jobs=6", "launch.chain.steps_per_job=8")
    jobs = jobs_of(folder)
    wait_for("step 10", lambda: step_of(folder) >= 10)
    os.kill(RunFolder(folder).status["pid"], signal.SIGKILL)
    wait_for("the end of the run", lambda: is_done(folder))
    wait_for("an empty queue", lambda: not any(f"{job} " in status(folder) for job in jobs))
    assert results(folder) == uninterrupted
    attempts = RunFolder(folder).status["attempt"]
    assert attempts == 4
    assert jobs_of(folder) == jobs[:attempts], "nothing was left for the others"


def check_requeue(real: Real, folder: Path, uninterrupted: Sequence[bytes]) -> None:
    """A job that the scheduler stops and starts again resumes."""
    submit(real, f"hydra.run.dir={folder}")
    (job,) = jobs_of(folder)
    wait_for("step 10", lambda: step_of(folder) >= 10)
    real.requeue(job)
    wait_for("the end of the run", lambda: is_done(folder))
    assert RunFolder(folder).status["attempt"] == 2
    assert results(folder) == uninterrupted


def check_sweep(real: Real, sweep: Path, here: Path) -> None:
    """Six runs, two at a time; one is removed while it waits; the same command submits that alone."""
    overrides = ["--multirun", *SHORT, "seed=1,2,3,4,5,6"]
    arguments = [*overrides, "launch.max_parallel=2", f"hydra.sweep.dir={sweep}"]
    submit(real, *arguments)
    folders = [sweep / f"seed_{seed}" for seed in range(1, 7)]
    (removed,) = jobs_of(folders[3])
    subprocess.run([*real.remove, removed], check=True, capture_output=True)
    most = 0

    def have_ended() -> bool:
        nonlocal most
        states = [RunFolder(folder).state.name for folder in folders]
        most = max(most, states.count("running"))
        return states.count("done") >= 5

    wait_for("the end of five runs", have_ended)
    assert most == 2
    assert [is_done(folder) for folder in folders] == [True, True, True, False, True, True]
    record = RunFolder(folders[3]).read_json("jobs.json")
    RunFolder(folders[3]).write_json("jobs.json", record | {"time": record["time"] - 60})
    assert f"job {removed} is lost" in " ".join(status(folders[3]).split())
    assert "6 runs, 5 finished already, 1 to submit" in submit(real, *arguments)
    wait_for("the end of the sixth", lambda: is_done(folders[3]))
    local = typed(*overrides, "launch.max_parallel=2", f"hydra.sweep.dir={here}")
    assert local.returncode == 0, local.stdout + local.stderr
    for folder in folders:
        assert results(folder) == results(here / folder.name)
