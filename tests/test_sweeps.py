"""The real command with --multirun in real processes: trouble ends in a clear message, or does no harm."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What a sweep's jobs run instead of the real worker, which takes seconds to import its libraries.
QUICK_WORKER = """
import json, os, pathlib, sys
from arc_experiments.runs.folder import FolderError, RunFolder
from arc_experiments.launching.worker import DONE, MISTAKE, TAKEN
folder = RunFolder(pathlib.Path(sys.argv[1]))
try:
    with folder.worked_on():
        seed = int(folder.read_config().seed)
        if seed >= 90 and folder.status["attempt"] == 1:
            match seed:
                case 90: raise RuntimeError("raised")
                case 91: raise SystemExit(0)
                case 92: os.kill(os.getpid(), 9)
        if not (folder / "metrics.json").exists():
            folder.write_json("metrics.json", {"validation": {"loss": {"token_mean": seed}}})
        folder.end("done")
except FolderError as error:
    print(error)
    sys.exit(TAKEN)
"""
COMMAND = """
import sys
from arc_experiments import __main__
from arc_experiments.launching import pool
worker = sys.argv.pop(1)
pool.worker_command = lambda folder: [sys.executable, "-c", worker, str(folder.path)]
sys.exit(__main__.main())
"""
BASE = ("experiment=smoke", "tracking=off")


def start(*overrides: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, QUICK_WORKER, "--multirun", *BASE, *overrides]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(
        command, cwd=cwd, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, **pipes
    )


def run(*overrides: str, cwd: Path) -> tuple[int, str]:
    process = start(*overrides, cwd=cwd)
    shown, _ = process.communicate(timeout=100)
    return process.returncode, shown


def state(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def only(folder: Path) -> Path:
    (inner,) = folder.iterdir()
    return inner


def test_of_nine_jobs_three_end_badly_and_only_these_run_again(tmp_path: Path) -> None:
    sweep = ("seed=1,2,3,4,5,6,90,91,92", "launch.max_parallel=2")
    code, shown = run(*sweep, cwd=tmp_path)
    assert code == 1
    folder = only(tmp_path / "multirun")
    states = {path.name: state(path)["state"] for path in folder.glob("seed_*")}
    assert sorted(name for name, each in states.items() if each == "failed") == [
        "seed_90",
        "seed_91",
        "seed_92",
    ]
    assert sum(each == "done" for each in states.values()) == 6
    for seed, why in {
        90: "ended with exit code 1",
        91: "ended with exit code 0",
        92: "killed by signal 9",
    }.items():
        assert re.search(rf"not finished: seed_{seed}: failed \({why}.*; see .*seed_{seed}/output.log", shown)
    code, shown = run(*sweep, cwd=tmp_path)
    assert code == 0
    assert "9 jobs, 6 finished already" in shown
    assert [state(folder / f"seed_{seed}")["attempt"] for seed in (1, 6, 90, 91, 92)] == [1, 1, 2, 2, 2]


def test_with_retries_they_need_no_second_command(tmp_path: Path) -> None:
    code, shown = run("seed=1,90,92", "launch.retries=1", "launch.max_parallel=3", cwd=tmp_path)
    assert code == 0, shown


def test_one_more_seed_costs_one_job(tmp_path: Path) -> None:
    run("seed=1,2", cwd=tmp_path)
    code, shown = run("seed=1,2,3", cwd=tmp_path)
    assert code == 0
    assert "3 jobs, 2 finished already" in shown
    assert len(list((tmp_path / "multirun").iterdir())) == 1


def test_a_job_that_is_named_twice_runs_once_and_is_noted(tmp_path: Path) -> None:
    code, shown = run("seed=1,2,1", cwd=tmp_path)
    assert code == 0, shown
    assert shown.count("note: named more than once, runs once: seed_1 (resume=false") == 1
    assert "2 jobs, 0 finished already" in shown
    assert shown.count("seed_1: started") == 1
    assert "another process" not in shown
    code, shown = run("seed=3,3", "resume=false", cwd=tmp_path)
    assert (code, "named more than once" in shown) == (0, False)
    assert {path.name for path in only(tmp_path / "multirun").glob("seed_3*")} == {"seed_3", "seed_3-2"}


def test_two_sweeps_started_in_the_same_second_do_not_meet(tmp_path: Path) -> None:
    both = [start("seed=1,2", f"optim.max_steps={steps}", cwd=tmp_path) for steps in (6, 9)]
    shown = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], shown
    assert len(list((tmp_path / "multirun").iterdir())) == 2


def test_the_same_command_twice_at_once_does_every_job_once(tmp_path: Path) -> None:
    both = [start("seed=1,2,3,4", cwd=tmp_path) for _ in range(2)]
    shown = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], shown
    folder = only(tmp_path / "multirun")
    assert [state(folder / f"seed_{seed}")["state"] for seed in (1, 2, 3, 4)] == ["done"] * 4


def test_a_run_folder_of_another_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    run("seed=1,2", cwd=tmp_path)
    folder = only(tmp_path / "multirun") / "seed_1"
    older = (folder / "run.yaml").read_text() + "once_there_was: 1\n"
    (folder / "run.yaml").write_text(older)
    code, shown = run("seed=1,2,3", cwd=tmp_path)
    assert code == 2
    assert "seed_1/run.yaml was written by another version of arc_experiments" in shown
    assert "Traceback" not in shown
    assert (folder / "run.yaml").read_text() == older


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of two megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a disk here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_is_told_and_what_is_finished_stays(tmp_path: Path, small_disk: Path) -> None:
    run("seed=1,2", cwd=small_disk)
    folder = only(small_disk / "multirun")
    before = {path: path.read_bytes() for path in folder.glob("*/*.json")}
    filler = fill(small_disk)
    code, shown = run("seed=1,2,3", cwd=small_disk)
    assert code != 0
    assert "No space left on device" in shown
    assert "Traceback" not in shown
    assert {path: path.read_bytes() for path in before} == before
    filler.unlink()
    assert run("seed=1,2,3", cwd=small_disk)[0] == 0


def test_a_folder_that_cannot_be_written_is_told(small_disk: Path) -> None:
    run("seed=1", cwd=small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, shown = run("seed=1,2", cwd=small_disk)
    assert code != 0
    assert "Read-only file system" in shown
    assert "Traceback" not in shown
