"""Launching: a sweep's jobs run each in a process of its own, and one that dies does not take the others along."""

import csv
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from arc_experiments.composing import compose_config
from arc_experiments.config import Hardware
from arc_experiments.freezing import freeze
from arc_experiments.launching import commands, pool
from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.pool import run_sweep
from arc_experiments.places import share_of_cores
from arc_experiments.run_folder import RunFolder
from arc_experiments.worker import STOPPED, show_gpus

# Stands in for the real worker, which takes seconds to import its libraries: ends as its folder's name says.
WORKER = """
import os, pathlib, signal, sys
from arc_experiments.run_folder import FolderError, RunFolder
from arc_experiments.worker import TAKEN
folder = RunFolder(pathlib.Path(sys.argv[1]))
with (folder / "starts").open("a") as starts:
    starts.write("x")
print("a line of output", flush=True)
try:
    with folder.worked_on():
        match folder.path.name:
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "waits":
                import time
                (folder / "pid").write_text(str(os.getpid()))
                time.sleep(60)
            case "exits":
                raise SystemExit(7)
            case "raises":
                raise RuntimeError("no such thing")
            case "fails":
                folder.end("failed", "the loss is not a number\\nat step 3")
                raise SystemExit(1)
        metrics = {"validation": {"loss": {"token_mean": 1.25}}, "score": {"pass_at_2": 0.5}, "seconds": {"total": 3}}
        folder.write_json("metrics.json", metrics)
        folder.end("done")
except FolderError as error:
    print(error)
    raise SystemExit(TAKEN)
"""


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pool, "worker_command", lambda folder: [sys.executable, "-c", WORKER, str(folder.path)]
    )


def make_folders(sweep: Path, *names: str) -> list[RunFolder]:
    folders = [RunFolder(sweep / name) for name in names]
    for folder in folders:
        folder.path.mkdir(parents=True, exist_ok=True)
    return folders


def sweep(path: Path, *names: str, max_parallel: int = 1) -> tuple[int, str, dict[str, dict[str, str]]]:
    """Exit code, what was shown, and the table's rows by job."""
    shown = io.StringIO()
    console = Console(file=shown, width=200, soft_wrap=True, highlight=False)
    code = run_sweep(make_folders(path, *names), path, max_parallel=max_parallel, console=console)
    with (path / "sweep.csv").open(newline="") as table:
        return code, shown.getvalue(), {row["job"]: row for row in csv.DictReader(table)}


def num_starts(folder: Path) -> int:
    return len((folder / "starts").read_text())


def test_a_job_that_dies_in_any_way_does_not_stop_the_others(tmp_path: Path) -> None:
    names = ["first", "killed", "exits", "raises", "fails", "last"]
    code, shown, rows = sweep(tmp_path, *names, max_parallel=2)
    assert code == 1
    assert list(rows) == names, "the order of the sweep, not of the ends"
    assert {name: row["state"] for name, row in rows.items()} == {
        "first": "done", "killed": "failed", "exits": "failed", "raises": "failed", "fails": "failed", "last": "done",
    }  # fmt: skip
    assert rows["killed"]["error"] == "killed by signal 9"
    assert rows["exits"]["error"] == "ended with exit code 7"
    assert rows["raises"]["error"] == "ended with exit code 1"
    assert rows["fails"]["error"] == "the loss is not a number\nat step 3", "a worker's own words stay"
    assert "not finished: fails: failed (the loss is not a number); see " in shown
    output = (tmp_path / "raises" / "output.log").read_text()
    assert "a line of output" in output
    assert "no such thing" in output


def test_the_table_holds_the_metrics_and_the_folders(tmp_path: Path) -> None:
    code, shown, rows = sweep(tmp_path, "seed_1", "seed_2")
    assert code == 0
    assert rows["seed_1"] == {
        "job": "seed_1", "state": "done", "loss": "1.25", "pass@1": "", "pass@2": "0.5", "pass@n": "",
        "seconds": "3", "error": "", "folder": str(tmp_path / "seed_1"),
    }  # fmt: skip
    assert shown.startswith("2 jobs, 0 finished already, 1 at a time: ")
    assert "1.25" in shown
    assert shown.rstrip().endswith("sweep.csv")


def test_the_same_sweep_again_runs_only_what_is_missing(tmp_path: Path) -> None:
    sweep(tmp_path, "done", "killed")
    code, shown, rows = sweep(tmp_path, "done", "killed", "new")
    assert code == 1
    assert "3 jobs, 1 finished already" in shown
    assert [num_starts(tmp_path / name) for name in rows] == [1, 2, 1]
    assert [row["state"] for row in rows.values()] == ["done", "failed", "done"]
    assert RunFolder(tmp_path / "killed").status["attempt"] == 2


def test_a_finished_sweep_starts_nothing_and_shows_its_table(tmp_path: Path) -> None:
    _, _, rows = sweep(tmp_path, "a", "b")
    code, _, again = sweep(tmp_path, "a", "b")
    assert (code, again) == (0, rows)
    assert num_starts(tmp_path / "a") == 1


def test_a_job_that_another_process_runs_is_left_to_it(tmp_path: Path) -> None:
    (folder,) = make_folders(tmp_path, "elsewhere")
    with folder.worked_on():
        before = folder.status
        code, shown, rows = sweep(tmp_path, "elsewhere", "here")
        assert folder.status == before, "it is not entered as dead"
    assert code == 1
    assert [row["state"] for row in rows.values()] == ["running", "done"]
    assert "not finished: elsewhere: running" in shown
    assert "being worked on by process" in (folder / "output.log").read_text()


def test_a_worker_that_never_got_going_is_entered_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "worker_command", lambda folder: [sys.executable, "-c", "import nowhere"])
    code, _, rows = sweep(tmp_path, "a")
    assert code == 1
    assert (rows["a"]["state"], rows["a"]["error"]) == ("failed", "ended with exit code 1")


@pytest.mark.parametrize(
    ("overrides", "module"),
    [
        ([], "worker"),
        (["hardware.num_processes=2"], "ranks"),
        (["hardware.num_processes=2", "job=benchmark"], "worker"),
        (["hardware.num_processes=2", "job=adapt"], "worker"),
    ],
)
def test_a_job_of_several_processes_is_begun_by_what_starts_them(
    overrides: list[str], module: str, tmp_path: Path
) -> None:
    folder = freeze(compose_config(overrides), tmp_path / "r", [])
    assert worker_command(folder) == [sys.executable, "-m", f"arc_experiments.{module}", str(folder.path)]


def test_jobs_at_the_same_time_share_out_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    taken = []
    for place in range(4):
        for name, value in worker_environment(place=place, num_places=4).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
        show_gpus(Hardware())
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
        assert share_of_cores() == 3
    assert taken == ["2", "5", "7", "2"]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert share_of_cores() == 1


def test_a_sweep_that_is_told_to_stop_stops_its_jobs(tmp_path: Path) -> None:
    folders = make_folders(tmp_path, "waits", "later")
    code = (
        "import sys; from pathlib import Path; from rich.console import Console; import arc_experiments.launching.pool as l;"
        f"from arc_experiments.run_folder import RunFolder; l.worker_command = lambda f: [sys.executable, '-c', {WORKER!r}, str(f.path)];"
        f"sys.exit(l.run_sweep([RunFolder(Path(p)) for p in {[str(f.path) for f in folders]}], Path({str(tmp_path)!r}), max_parallel=1, console=Console()))"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    pid = tmp_path / "waits" / "pid"
    for _ in range(300):
        if pid.exists() and pid.read_text():
            break
        time.sleep(0.05)
    starter.terminate()
    assert starter.wait(timeout=20) == STOPPED
    assert not Path(f"/proc/{pid.read_text()}").exists(), "the job has ended, too"
    assert not (tmp_path / "later" / "starts").exists()
    assert (tmp_path / "sweep.csv").exists()


def test_the_worker_finds_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(commands.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert worker_environment()["PYTHONPATH"].split(os.pathsep) == [root, "mine"]
    monkeypatch.delenv("PYTHONPATH")
    assert worker_environment()["PYTHONPATH"] == root
