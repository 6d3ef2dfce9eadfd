"""On a real SLURM cluster (tests/slurm/up.sh): whatever happens to its jobs, a run ends as it does here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from adapt_tools import OPTIONS, lasting_metrics, make_tasks, predictions
from toy_models import untrained
from vision_pipeline import vision_pipeline

from arc_experiments.run import load_run
from arc_experiments.runs.folder import RunFolder

pytestmark = pytest.mark.slurm

RUN = [  # of a model that is slow enough to be stopped in the middle
    *untrained(160, 560),
    "experiment=smoke", "tracking=off", "data.limit=4", "inference.limit=1", "hardware.threads=1",
    "optim.max_steps=40", "optim.save_steps=10", "optim.eval_steps=null",
    "prompt.max_length=1024", "inference.max_new_tokens=64",
]  # fmt: skip
RESULTS = ("adapter/adapter_model.safetensors", "predictions.jsonl", "submission.json")
PATIENCE = 600  # seconds; a job that reaches its limit has run for more than a minute


def command(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arc_experiments", *RUN, *overrides], capture_output=True, text=True
    )


def submit(folder: Path, *overrides: str) -> list[str]:
    """Submits one run, and gives its jobs."""
    done = command("launch=slurm", f"hydra.run.dir={folder}", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs: list[str] = json.loads((folder / "slurm.json").read_text())["jobs"]
    return jobs


def wait_for(what: str, is_there: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_there():
        assert time.monotonic() < deadline, f"{what} has not come in {PATIENCE} s"
        time.sleep(0.3)


def states(jobs: list[str]) -> list[str]:
    shown = [
        subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True).stdout
        for job in jobs
    ]
    return [text.partition("JobState=")[2].split()[0] for text in shown]


def wait_for_jobs(jobs: list[str]) -> None:
    wait_for("the end of the jobs", lambda: not {"PENDING", "RUNNING", "COMPLETING"} & set(states(jobs)))


def step_of(folder: Path) -> int:
    return int(RunFolder(folder).status.get("step", 0))


def results(folder: Path) -> list[bytes]:
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    losses = [(line["step"], line.get("loss"), line.get("learning_rate")) for line in lines]
    return [*((folder / name).read_bytes() for name in RESULTS), json.dumps(losses).encode()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("here") / "run"
    done = command(f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout
    return results(folder)


def test_a_chain_whose_job_is_killed_equals_an_uninterrupted_run_here(
    tmp_path: Path, uninterrupted: list[bytes]
) -> None:
    folder = tmp_path / "run"
    jobs = submit(folder, "launch.chain.total_jobs=6", "launch.chain.steps_per_job=10")
    wait_for("step 13", lambda: step_of(folder) >= 13)
    os.kill(RunFolder(folder).status["pid"], signal.SIGKILL)
    wait_for_jobs(jobs)
    assert RunFolder(folder).is_done
    assert results(folder) == uninterrupted
    ended = states(jobs)
    assert ended[:5] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED", "COMPLETED"]
    assert ended[-1] == "CANCELLED", "nothing was left for it"
    assert not subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout


def test_a_job_that_reaches_its_limit_saves_and_the_next_goes_on(tmp_path: Path) -> None:
    longer = ["optim.max_steps=100", "optim.save_steps=100"]  # no checkpoint but the one at the signal
    folder = tmp_path / "run"
    jobs = submit(
        folder,
        *longer,
        "launch.chain.total_jobs=14",
        "launch.slurm.time=00:01:00",
        "launch.slurm.signal_seconds=30",
    )
    wait_for_jobs(jobs)
    assert RunFolder(folder).is_done
    assert RunFolder(folder).status["attempt"] > 1
    here = tmp_path / "here"
    assert command(*longer, f"hydra.run.dir={here}").returncode == 0
    assert results(folder) == results(here)


def test_a_preempted_job_saves_is_requeued_and_goes_on(tmp_path: Path, uninterrupted: list[bytes]) -> None:
    folder = tmp_path / "run"
    (job,) = submit(
        folder, "launch.slurm.partition=main", 'launch.slurm.directives=["--exclusive","--nodelist=n1"]'
    )
    wait_for("step 1", lambda: step_of(folder) >= 1)
    subprocess.run(["srun", "-p", "high", "-w", "n1", "-n", "4", "--exclusive", "true"], check=True)
    wait_for_jobs([job])
    assert RunFolder(folder).is_done
    assert RunFolder(folder).status["attempt"] == 2
    assert results(folder) == uninterrupted


def test_in_a_sweep_one_job_is_cancelled_and_one_killed_and_the_others_finish(
    tmp_path: Path, uninterrupted: list[bytes]
) -> None:
    sweep = tmp_path / "sweep"
    typed = ["--multirun", "launch=slurm", "launch.max_parallel=2", "seed=1,2,3", f"hydra.sweep.dir={sweep}"]
    assert command(*typed).returncode == 0
    folders = [sweep / f"seed_{seed}" for seed in (1, 2, 3)]
    jobs = [json.loads((folder / "slurm.json").read_text())["jobs"][0] for folder in folders]
    wait_for("step 1 of two", lambda: step_of(folders[0]) and step_of(folders[1]))
    assert not (folders[2] / "status.json").exists(), "two at a time"
    again = command(*typed)
    assert "3 runs, 0 finished already, 0 to submit" in again.stdout, "they are in the queue"
    subprocess.run(["scancel", jobs[1]], check=True)
    wait_for("step 1 of the third", lambda: step_of(folders[2]))
    os.kill(RunFolder(folders[2]).status["pid"], signal.SIGKILL)
    wait_for_jobs(jobs)
    assert [RunFolder(folder).is_done for folder in folders] == [True, False, False]
    assert (
        "killed by" in RunFolder(folders[2]).status["error"]
        or "exit code" in RunFolder(folders[2]).status["error"]
    )
    assert "3 runs, 1 finished already, 2 to submit" in command(*typed).stdout
    jobs = [json.loads((folder / "slurm.json").read_text())["jobs"][0] for folder in folders]
    wait_for_jobs(jobs)
    assert all(RunFolder(folder).is_done for folder in folders)
    assert results(folders[0]) == uninterrupted


def test_a_run_over_two_nodes_equals_one_of_two_processes_here(tmp_path: Path) -> None:
    two = ["hardware.num_processes=2"]
    folder, here = tmp_path / "run", tmp_path / "here"
    wait_for_jobs(submit(folder, *two, "launch.slurm.nodes=2"))
    assert RunFolder(folder).is_done, (folder / "run.log").read_text()[-2000:]
    assert command(*two, f"hydra.run.dir={here}").returncode == 0
    assert results(folder) == results(here)


def test_what_the_cluster_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    done = command("launch=slurm", "launch.slurm.partition=nowhere", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "launch=slurm: the cluster refused: " in done.stderr
    assert "invalid partition" in done.stderr


def test_an_imported_vision_pipeline_is_a_chain_that_equals_one_run_here(tmp_path: Path) -> None:
    def run(*arguments: str) -> None:
        typed = [sys.executable, "-m", *arguments]
        done = subprocess.run(typed, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    folder, here = tmp_path / "runs" / "vision", tmp_path / "here"
    with vision_pipeline(tmp_path) as (name, small):
        run("arc_experiments.import_config", f"{name}.yaml")
        run("arc_experiments", f"experiment={name}", *small, "launch.chain.steps_per_job=14")
        jobs = json.loads((folder / "slurm.json").read_text())["jobs"]
        assert len(jobs) == 2
        wait_for_jobs(jobs)
        assert RunFolder(folder).is_done, (folder / "run.log").read_text()[-2000:]
        whole = ["launch=local", "launch.chain.total_jobs=1", f"hydra.run.dir={here}"]
        run("arc_experiments", f"experiment={name}", *small, *whole)
    assert states(jobs) == ["COMPLETED", "COMPLETED"]
    assert RunFolder(folder).status["attempt"] == 2
    weights = "adapter/adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (here / weights).read_bytes()


# What a sweep's jobs read: a file whose function dies as it is told to, until it is cured.
DATA = """
import os, pathlib, signal

def get_custom_dataset(dataset_config, processor, split):
    how = dataset_config.how
    if not pathlib.Path(__file__).with_name("cured").exists():
        if how == "raises":
            raise RuntimeError("no such thing")
        if how == "exits":
            raise SystemExit(7)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    number = 1 if split == "train" else 2
    pair = {"input": [[number]], "output": [[number, 3]]}
    return {f"{split}_task": {"train": [pair, {"input": [[0, number]], "output": [[5]]}], "test": [pair]}}
"""


def test_of_nine_jobs_three_die_and_six_finish_and_the_same_command_runs_the_three(tmp_path: Path) -> None:
    file, sweep = tmp_path / "data.py", tmp_path / "sweep"
    file.write_text(DATA)
    hows = ["a", "raises", "b", "c", "exits", "d", "e", "killed", "f"]
    typed = [
        sys.executable, "-m", "arc_experiments", "--multirun", "job=audit", "data=custom",
        f"data.file={file}",
        f"+data.source.options.how={','.join(hows)}", "launch=slurm", "launch.max_parallel=4",
        f"hydra.sweep.dir={sweep}",
    ]  # fmt: skip
    first = subprocess.run(typed, capture_output=True, text=True)
    assert "9 runs, 0 finished already, 9 to submit" in first.stdout, first.stderr
    folders = {how: sweep / f"how_{how}" for how in hows}

    def jobs() -> list[str]:
        return [json.loads((folder / "slurm.json").read_text())["jobs"][0] for folder in folders.values()]

    wait_for_jobs(jobs())
    assert [how for how, folder in folders.items() if not RunFolder(folder).is_done] == [
        "raises",
        "exits",
        "killed",
    ]
    ended = dict(zip(hows, states(jobs()), strict=True))
    assert {how for how, state in ended.items() if state != "COMPLETED"} == {"raises", "exits", "killed"}
    assert "no such thing" in RunFolder(folders["raises"]).status["error"]
    (tmp_path / "cured").touch()
    again = subprocess.run(typed, capture_output=True, text=True)
    assert "9 runs, 6 finished already, 3 to submit" in again.stdout
    wait_for_jobs(jobs())
    assert all(RunFolder(folder).is_done for folder in folders.values())
    assert [RunFolder(folder).status["attempt"] for folder in folders.values()] == [1, 2, 1, 1, 2, 1, 1, 2, 1]


def test_workers_share_out_an_adaptation_with_the_results_of_one_process_here(tmp_path: Path) -> None:
    tasks = make_tasks(tmp_path / "tasks", 6)
    adapt = [*OPTIONS, "optim.max_steps=12", f"data.path={tasks}"]
    shared, here = tmp_path / "shared", tmp_path / "here"

    def run(*more: str) -> None:
        typed = [sys.executable, "-m", "arc_experiments", *adapt, *more]
        done = subprocess.run(typed, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    run(f"hydra.run.dir={shared}", "launch=slurm", "launch.slurm.workers=2")
    jobs = json.loads((shared / "slurm.json").read_text())["jobs"]
    assert len(jobs) == 2
    wait_for_jobs(jobs)
    run(f"hydra.run.dir={here}")
    assert RunFolder(shared).is_done, (shared / "run.log").read_text()[-2000:]
    assert "FAILED" not in states(jobs)
    assert predictions(load_run(shared)) == predictions(load_run(here))
    assert lasting_metrics(load_run(shared)) == lasting_metrics(load_run(here))
