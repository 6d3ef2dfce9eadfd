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
import os, pathlib, re, sys
from arc_experiments.runs.folder import FolderError, RunFolder
folder = RunFolder(pathlib.Path(sys.argv[1]))
try:
    with folder.worked_on():
        seed = int(re.search(r"^seed: (\\d+)$", (folder / "run.yaml").read_text(), re.MULTILINE)[1])
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
    sys.exit(3)  # taken
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


@pytest.mark.slow
def test_of_five_jobs_three_end_badly_and_only_these_run_again(tmp_path: Path) -> None:
    sweep = ("seed=1,2,90,91,92", "launch.max_parallel=2")
    code, shown = run(*sweep, cwd=tmp_path)
    assert code == 1
    folder = only(tmp_path / "multirun")
    states = {path.name: state(path)["state"] for path in folder.glob("seed_*")}
    assert sorted(name for name, each in states.items() if each == "failed") == [
        "seed_90",
        "seed_91",
        "seed_92",
    ]
    assert sum(each == "done" for each in states.values()) == 2
    for seed, why in {
        90: "ended with exit code 1",
        91: "ended with exit code 0",
        92: "killed by signal 9",
    }.items():
        assert re.search(rf"not finished: seed_{seed}: failed \({why}.*; see .*seed_{seed}/output.log", shown)
    code, shown = run(*sweep, cwd=tmp_path)
    assert code == 0
    assert "5 jobs, 2 finished already" in shown
    assert [state(folder / f"seed_{seed}")["attempt"] for seed in (1, 2, 90, 91, 92)] == [1, 1, 2, 2, 2]


@pytest.mark.slow
def test_one_more_seed_costs_one_job_and_a_folder_of_another_version_is_told(tmp_path: Path) -> None:
    run("seed=1,2", cwd=tmp_path)
    code, shown = run("seed=1,2,90", "launch.retries=1", cwd=tmp_path)
    assert code == 0, "the new job has failed once, and needs no second command"
    assert "3 jobs, 2 finished already" in shown
    folder = only(tmp_path / "multirun")
    # The same sweep holds a folder of another version now.
    older = (folder / "seed_1" / "run.yaml").read_text() + "once_there_was: 1\n"
    (folder / "seed_1" / "run.yaml").write_text(older)
    code, shown = run("seed=1,2", cwd=tmp_path)
    assert code == 2
    assert "seed_1/run.yaml was written by another version of arc_experiments" in shown
    assert "Traceback" not in shown
    assert (folder / "seed_1" / "run.yaml").read_text() == older, "it is left as it is"


@pytest.mark.slow
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


@pytest.mark.slow
def test_sweeps_at_once_do_every_job_whether_they_are_the_same_or_others(tmp_path: Path) -> None:
    commands = [("seed=1,2",), ("seed=1,2",), ("seed=1,2", "optim.max_steps=9")]
    started = [start(*command, cwd=tmp_path) for command in commands]
    shown = [process.communicate(timeout=100)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], shown
    folders = list((tmp_path / "multirun").iterdir())
    states = [state(folder / f"seed_{seed}")["state"] for folder in folders for seed in (1, 2)]
    assert states == ["done"] * 4


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told(small_disk: Path) -> None:
    run("seed=1", cwd=small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, shown = run("seed=1,2", cwd=small_disk)
    assert code != 0
    assert "Read-only file system" in shown
    assert "Traceback" not in shown
