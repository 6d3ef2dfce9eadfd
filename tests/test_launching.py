"""Launching: each job of a sweep runs in its own process, and one that dies does not end the others."""

import csv
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.schema import Hardware
from arc_experiments.launching import commands
from arc_experiments.launching import pool as sweep_pool
from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.pool import Pool, run_sweep
from arc_experiments.launching.worker import STOPPED
from arc_experiments.runs import cores_and_gpus, pausing
from arc_experiments.runs.cores_and_gpus import share_of_cores, show_gpus
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.locks import SharedLock
from arc_experiments.runs.pausing import SAME_SIGNAL
from arc_experiments.runs.run_state import LOCK

# Stands in for the real worker, which takes seconds to import its libraries: ends as its folder's name says.
WORKER = """
import os, pathlib, signal, sys, time
from arc_experiments.runs.folder import FolderError, RunFolder
from arc_experiments.launching.worker import TAKEN
folder = RunFolder(pathlib.Path(sys.argv[1]))
with (folder / "starts").open("a") as starts:
    starts.write("x")
print("a line of output", flush=True)
try:
    with folder.worked_on():
        if (folder / "metrics.json").exists():  # by another since the pool looked
            folder.end("done")
            raise SystemExit(0)
        with (folder / "works").open("a") as works:
            works.write("x")
        match folder.path.name:
            case "leaves a child":
                if not os.fork():  # as a loader's process, it has the lock, too
                    time.sleep(3)
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed":
                folder.update_status(step=3)
                os.kill(os.getpid(), signal.SIGKILL)
            case "waits":
                signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
                (folder / "pid").write_text(str(os.getpid()))
                time.sleep(60)
            case "exits":
                raise SystemExit(7)
            case "raises":
                raise RuntimeError("no such thing")
            case "breaks once":
                if folder.status["attempt"] == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            case "pauses" if len((folder / "starts").read_text()) < 3:
                raise KeyboardInterrupt
            case "mistaken":
                folder.end("failed", "data.path is needed")
                raise SystemExit(2)
            case "fails":
                folder.end("failed", "the loss is not a number\\nat step 3")
                raise SystemExit(1)
        metrics = {"validation": {"loss": {"token_mean": 1.25}}, "seconds": {"total": 3}}
        metrics["score"] = {"pass_at_2": 0.5}
        folder.write_json("metrics.json", metrics)
        folder.end("done")
except KeyboardInterrupt:
    folder.end("paused")
    raise SystemExit(130)
except FolderError as error:
    print(error)
    raise SystemExit(TAKEN)
"""


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sweep_pool, "worker_command", lambda folder: [sys.executable, "-c", WORKER, str(folder.path)]
    )


def make_folders(sweep: Path, *names: str) -> list[RunFolder]:
    folders = [RunFolder(sweep / name) for name in names]
    for folder in folders:
        folder.path.mkdir(parents=True, exist_ok=True)
    return folders


def sweep(path: Path, *names: str, **settings: Any) -> tuple[int, str, dict[str, dict[str, str]]]:
    """Exit code, what was shown, and the table's rows by job."""
    shown = io.StringIO()
    console = Console(file=shown, width=200, soft_wrap=True, highlight=False)
    pool = Pool(**{"max_parallel": 1, **settings}, console=console)
    code = run_sweep(make_folders(path, *names), path, pool, console)
    with (path / "sweep.csv").open(newline="") as table:
        return code, shown.getvalue(), {row["job"]: row for row in csv.DictReader(table)}


def num_starts(folder: Path) -> int:
    return len((folder / "starts").read_text())


def test_a_request_to_pause_that_an_earlier_start_left_does_not_pause_a_job(tmp_path: Path) -> None:
    (folder,) = make_folders(tmp_path, "other")
    pausing.ask(folder.path)
    assert sweep(tmp_path, "other")[0] == 0
    assert not (folder / pausing.FILE).exists()


def test_each_job_of_a_sweep_can_be_a_chain(tmp_path: Path) -> None:
    code, _, rows = sweep(tmp_path, "pauses", "killed", "other", total_jobs=4)
    assert code == 1
    assert {name: row["state"] for name, row in rows.items()} == {
        "pauses": "done", "killed": "failed", "other": "done",
    }  # fmt: skip
    assert [num_starts(tmp_path / name) for name in rows] == [3, 2, 1]
    assert (
        rows["killed"]["error"]
        == "killed by signal 9 (out of memory?); 2 times at step 3, so the chain ends here"
    )


def test_a_job_that_dies_in_any_way_does_not_stop_the_others(tmp_path: Path) -> None:
    names = ["first", "killed", "exits", "raises", "fails", "last"]
    code, shown, rows = sweep(tmp_path, *names, max_parallel=2)
    assert code == 1
    assert list(rows) == names, "the order of the sweep, not of the ends"
    assert {name: row["state"] for name, row in rows.items()} == {
        "first": "done", "killed": "failed", "exits": "failed", "raises": "failed", "fails": "failed",
        "last": "done",
    }  # fmt: skip
    assert rows["killed"]["error"] == "killed by signal 9 (out of memory?)"
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
        "job": "seed_1", "state": "done", "validation loss per token": "1.25", "pass@1": "",
        "pass@2": "0.5", "pass@n": "",
        "seconds": "3", "asked": "", "error": "", "folder": str(tmp_path / "seed_1"),
    }  # fmt: skip
    assert shown.startswith("2 jobs, 0 finished already, 1 at a time: ")
    assert "1.2500" in shown
    assert "50.0%" in shown
    assert "3.0" in shown
    assert shown.rstrip().endswith("sweep.csv")


def test_the_table_says_which_scores_are_those_of_a_part(tmp_path: Path) -> None:
    _, whole, _ = sweep(tmp_path, "all", "part")
    metrics = RunFolder(tmp_path / "part").read_json("metrics.json")
    counts = {"num_tasks": 16, "num_validation_tasks": 100}
    RunFolder(tmp_path / "part").write_json("metrics.json", {**metrics, "answered": counts})
    _, shown, rows = sweep(tmp_path, "all", "part")
    assert "asked" not in whole
    assert re.search(r"│ part +│ done .* 16 of 100 tasks │", shown)
    assert {name: row["asked"] for name, row in rows.items()} == {"all": "", "part": "16 of 100 tasks"}


def test_the_same_sweep_again_runs_only_what_is_missing(tmp_path: Path) -> None:
    sweep(tmp_path, "done", "killed")
    code, shown, rows = sweep(tmp_path, "done", "killed", "new")
    assert code == 1
    assert "3 jobs, 1 finished already" in shown
    assert [num_starts(tmp_path / name) for name in rows] == [1, 2, 1]
    assert [row["state"] for row in rows.values()] == ["done", "failed", "done"]
    assert RunFolder(tmp_path / "killed").status["attempt"] == 2
    assert sweep(tmp_path, "done", "new")[2] == {name: rows[name] for name in ("done", "new")}
    assert num_starts(tmp_path / "new") == 1, "a finished sweep starts nothing and shows its table"


@contextmanager
def elsewhere(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Something else is at work meanwhile, and has begun (as it says) before what stands within."""
    is_begun = threading.Event()
    other = threading.Thread(target=work, args=(is_begun,))
    other.start()
    is_begun.wait()
    yield
    other.join()


@pytest.mark.slow
def test_a_job_that_another_process_runs_is_waited_for(tmp_path: Path) -> None:
    folder, _ = make_folders(tmp_path, "elsewhere", "here")

    def work(is_begun: threading.Event) -> None:
        with folder.worked_on():
            is_begun.set()
            while not (tmp_path / "here" / "metrics.json").exists():
                time.sleep(0.05)
            time.sleep(1)
            folder.end("done")

    with SharedLock(tmp_path / LOCK), elsewhere(work):  # as the same sweep, started twice
        code, shown, rows = sweep(tmp_path, "elsewhere", "here")
    assert (code, [row["state"] for row in rows.values()]) == (0, ["done", "done"])
    assert "elsewhere: another process runs it (see its output.log); its end is waited for" in shown
    assert "elsewhere: started" not in shown
    assert "being worked on by process" in (folder / "output.log").read_text()
    assert "elsewhere: done, run by another process" in shown
    assert folder.status["attempt"] == 1, "nothing was done twice"


@pytest.mark.slow
@pytest.mark.parametrize("order", [["elsewhere", "here"], ["here", "elsewhere"]])
def test_a_job_that_outlives_its_killed_launcher_keeps_its_place(tmp_path: Path, order: list[str]) -> None:
    """No other launcher holds the sweep's lock: the job is an orphan, and uses the cores of a place."""
    folder, last = make_folders(tmp_path, "elsewhere", "here")
    is_beside = []

    def work(is_begun: threading.Event) -> None:
        with folder.worked_on():
            is_begun.set()
            log = folder / "output.log"
            while not (log.exists() and "being worked on" in log.read_text()):
                time.sleep(0.05)
            time.sleep(2)
            is_beside.append((last / "starts").exists())
            folder.end("done")

    with elsewhere(work):
        code, shown, rows = sweep(tmp_path, *order)
    assert (code, [row["state"] for row in rows.values()]) == (0, ["done", "done"])
    assert list(rows) == order, "the waited-for job has its line in the table"
    assert is_beside == [False]
    assert shown.index("elsewhere: done, run by another process") < shown.index("  here: started")


@pytest.mark.slow
def test_what_another_process_leaves_undone_is_gone_on_with(tmp_path: Path) -> None:
    (folder,) = make_folders(tmp_path, "elsewhere")

    def work(is_begun: threading.Event) -> None:
        with folder.worked_on():
            is_begun.set()
            while not (folder / "output.log").exists():
                time.sleep(0.05)
            time.sleep(1.5)
            folder.end("paused")

    with elsewhere(work):
        code, _, rows = sweep(tmp_path, "elsewhere")
    assert (code, rows["elsewhere"]["state"]) == (0, "done")


def test_a_folder_that_is_removed_while_it_is_waited_for_ends_alone(tmp_path: Path) -> None:
    folder, last = make_folders(tmp_path, "elsewhere", "last")

    def hold_and_remove(is_begun: threading.Event) -> None:
        with folder.locked():
            is_begun.set()
            while not (last / "metrics.json").exists():
                time.sleep(0.05)
            shutil.rmtree(folder.path)

    with SharedLock(tmp_path / LOCK), elsewhere(hold_and_remove):
        code, _, rows = sweep(tmp_path, "elsewhere", "last")
    assert (code, [row["state"] for row in rows.values()]) == (1, ["failed", "done"])
    assert "No such file or directory" in rows["elsewhere"]["error"]


def test_a_job_that_died_or_failed_is_started_again_up_to_so_often(tmp_path: Path) -> None:
    code, shown, rows = sweep(tmp_path, "breaks once", "fails", "mistaken", retries=2)
    assert code == 1
    assert [num_starts(tmp_path / name) for name in rows] == [2, 3, 1], (
        "a user's mistake does not go away by itself"
    )
    assert [row["state"] for row in rows.values()] == ["done", "failed", "failed"]
    assert "breaks once: failed (killed by signal 9 (out of memory?)) after" in shown
    assert "breaks once: started again (1 of 2 retries)" in shown
    assert "fails: started again (2 of 2 retries)" in shown
    assert shown.count("fails: started, ") == 1


def test_with_fail_fast_the_first_failure_for_good_stops_the_others(tmp_path: Path) -> None:
    settings = {"max_parallel": 2, "fail_fast": True, "retries": 1}
    code, shown, rows = sweep(tmp_path, "waits", "fails", "later", **settings)
    assert code == 1
    assert [row["state"] for row in rows.values()] == ["paused", "failed", "waiting"]
    assert num_starts(tmp_path / "fails") == 2, "retries come first"
    assert "fails has failed: the others stop (launch.fail_fast)" in shown


def test_a_job_whose_folder_is_full_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def enter(folder: RunFolder, name: str, value: Any) -> None:
        if folder.path.name == "killed" and value.get("state") == "failed":
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / name))
        own(folder, name, value)

    own = RunFolder.write_json
    monkeypatch.setattr(RunFolder, "write_json", enter)
    code, shown, rows = sweep(tmp_path, "killed", "last", retries=2)
    assert (code, rows["last"]["state"]) == (1, "done")
    assert "No space left on device" in rows["killed"]["error"]
    assert "not finished: killed: failed ([Errno 28] No space left on device" in shown
    assert num_starts(tmp_path / "killed") == 1, "once more would not help"


def test_a_table_that_cannot_be_written_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(tmp_path, "one")

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "sweep.csv")

    monkeypatch.setattr(RunFolder, "write", refuse)
    code, shown, _ = sweep(tmp_path, "one")
    assert code == 0
    assert "the table could not be written: [Errno 30] Read-only file system" in shown


def test_a_terminal_shows_a_table_and_a_log_does_not(tmp_path: Path) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120, height=20, highlight=False)
    pool = Pool(max_parallel=2, console=console)
    assert run_sweep(make_folders(tmp_path, "one", "two", "fails"), tmp_path, pool, console) == 1
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    assert "3 jobs: " in text
    assert "one: started" not in text, "the table tells"
    assert "fails: failed (the loss is not a number)" in text


def test_a_worker_that_never_got_going_is_entered_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_pool, "worker_command", lambda folder: [sys.executable, "-c", "import nowhere"])
    code, _, rows = sweep(tmp_path, "a")
    assert code == 1
    assert (rows["a"]["state"], rows["a"]["error"]) == ("failed", "ended with exit code 1")


@pytest.mark.parametrize(
    ("overrides", "module"),
    [
        ([], "worker"),
        (["hardware.num_processes=2"], "torchrun"),
        (["hardware.num_processes=2", "job=benchmark"], "worker"),
        (["hardware.num_processes=2", "job=adapt"], "worker"),
    ],
)
def test_a_job_of_several_processes_is_begun_by_what_starts_them(
    overrides: list[str], module: str, tmp_path: Path
) -> None:
    folder = freeze(compose_config(overrides), tmp_path / "r", [])
    assert worker_command(folder) == [
        sys.executable,
        "-m",
        f"arc_experiments.launching.{module}",
        str(folder.path),
    ]


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


def test_a_job_alone_has_the_place_of_the_process_that_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cores_and_gpus.PLACE, "1")
    monkeypatch.setenv(cores_and_gpus.NUM_PLACES, "3")
    environment = worker_environment()
    assert (environment[cores_and_gpus.PLACE], environment[cores_and_gpus.NUM_PLACES]) == ("1", "3")
    environment = worker_environment(place=0, num_places=2)
    assert (environment[cores_and_gpus.PLACE], environment[cores_and_gpus.NUM_PLACES]) == ("0", "2")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What CUDA sees in a job at a place, of the GPUs that are visible."""
    for name in ("RANK", "SLURM_JOB_ID", cores_and_gpus.HELPS):
        monkeypatch.delenv(name, raising=False)

    def show(hardware: Hardware, visible: str, place: int = 0, num_places: int = 1) -> str:
        for name, value in cores_and_gpus.environment(place, num_places).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        show_gpus(hardware)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    return show


def test_one_gpu_is_each_jobs_own(shown: Callable[..., str]) -> None:
    hardware = check(compose_config(["hardware=one_gpu"])).hardware
    assert [shown(hardware, "2,5", place, 3) for place in range(3)] == ["2", "5", "2"]
    assert shown(hardware, "2,5") == "2", "also alone it takes no more than one"
    assert shown(Hardware(gpu_ids=[7]), "2,5", 1, 2) == "7", "unless it is named"


def test_jobs_of_several_processes_take_so_many_gpus_each(shown: Callable[..., str]) -> None:
    def taken(hardware: Hardware, num_places: int) -> list[str]:
        return [shown(hardware, "0,1,2,3", place, num_places) for place in range(num_places)]

    two, each, split = Hardware(num_processes=2), Hardware(num_processes=None), Hardware(parallelism="split")
    assert taken(two, 3) == ["0,1", "2,3", "0,1"]
    assert taken(Hardware(num_processes=3), 2) == ["0,1,2", "3,0,1"]
    assert taken(each, 2) == taken(split, 2) == ["0,1", "2,3"]
    assert taken(each, 1) == taken(split, 1) == taken(two, 1) == ["0,1,2,3"]
    assert shown(two, "4", 1, 2) == "4", "what is not there is not asked for"


@pytest.mark.parametrize("started_by_us", ["RANK", cores_and_gpus.HELPS])
def test_what_a_job_has_taken_is_not_shared_out_again(
    started_by_us: str, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(started_by_us, "1")
    assert shown(Hardware(num_processes=2), "2,3", 1, 2) == "2,3"


def test_in_a_clusters_job_a_parallel_sweep_takes_the_given_gpus_in_turn(
    shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    for hardware in (Hardware(), Hardware(gpu_ids=[0])):
        assert [shown(hardware, "4,6", place, 2) for place in range(2)] == ["4", "6"]
        assert shown(hardware, "4,6") == "4", "one process trains on one, whatever the cluster gives"
    assert shown(Hardware(num_processes=None), "4,6") == "4,6"


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_are_hidden_stay_hidden(hidden: str, shown: Callable[..., str]) -> None:
    for hardware in (Hardware(), Hardware(num_processes=2)):
        assert [shown(hardware, hidden, place, 2) for place in range(2)] == [hidden, hidden]
    assert shown(Hardware(), hidden) == hidden


STARTER = """
import sys
from pathlib import Path
from arc_experiments.launching import pool as sweep_pool
from arc_experiments.launching.lasting_output import lasting_console
from arc_experiments.launching.pool import Pool, run_sweep
from arc_experiments.runs.folder import RunFolder
sweep, worker, *names = sys.argv[1:]
sweep_pool.worker_command = lambda folder: [sys.executable, "-c", worker, str(folder.path)]
console = lasting_console()
pool = Pool(max_parallel=1, console=console)
sys.exit(run_sweep([RunFolder(Path(sweep) / name) for name in names], Path(sweep), pool, console))
"""


def start_sweep(path: Path, *names: str, output: int = subprocess.PIPE) -> tuple[subprocess.Popen[str], Path]:
    """A sweep in a process of its own, and the process of its job that waits."""
    make_folders(path, *names)
    command = [sys.executable, "-c", STARTER, str(path), WORKER, *names]
    starter = subprocess.Popen(command, stdout=output, text=True)
    pid = path / "waits" / "pid"
    for _ in range(300):
        if pid.exists() and pid.read_text():
            break
        time.sleep(0.05)
    return starter, Path(f"/proc/{pid.read_text()}")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, "a closed terminal"])
def test_a_sweep_that_is_told_to_stop_stops_its_jobs(tmp_path: Path, how: signal.Signals | str) -> None:
    terminal, end = os.openpty()
    output = subprocess.PIPE if isinstance(how, signal.Signals) else end
    starter, process = start_sweep(tmp_path, "waits", "later", output=output)
    os.close(end)
    os.close(terminal)
    starter.send_signal(how if isinstance(how, signal.Signals) else signal.SIGHUP)
    shown, _ = starter.communicate(timeout=60)
    assert starter.returncode == STOPPED
    assert not process.exists(), "the job has ended, too"
    assert RunFolder(tmp_path / "waits").status["state"] == "paused"
    assert not (tmp_path / "later" / "starts").exists()
    assert (tmp_path / "sweep.csv").exists()
    assert shown is None or "The same command resumes the sweep." in shown


@pytest.mark.parametrize("output", ["a full disk", "a closed pipe"])
def test_what_a_sweep_cannot_say_stops_nothing(tmp_path: Path, output: str) -> None:
    if output == "a full disk":
        file = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, file = os.pipe()
        os.close(reader)
    names = ["first", "fails", "last"]
    make_folders(tmp_path, *names)
    command = [sys.executable, "-c", STARTER, str(tmp_path), WORKER, *names]
    assert subprocess.run(command, stdout=file, timeout=60).returncode == 1
    os.close(file)
    with (tmp_path / "sweep.csv").open(newline="") as table:
        assert [row["state"] for row in csv.DictReader(table)] == ["done", "failed", "done"]


def test_a_sweep_that_breaks_off_leaves_the_jobs_that_have_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(pool: Pool) -> None:
        raise MemoryError

    monkeypatch.setattr(Pool, "_heed_signals", break_off)
    with pytest.raises(MemoryError):
        sweep(tmp_path, "waits", "later")
    assert not (tmp_path / "later" / "starts").exists()


@pytest.mark.slow
def test_told_twice_it_kills_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = WORKER.replace("lambda *_: signal.raise_signal(signal.SIGINT)", "signal.SIG_IGN")
    monkeypatch.setattr(sys.modules[__name__], "WORKER", deaf)
    starter, process = start_sweep(tmp_path, "waits")
    starter.send_signal(signal.SIGINT)
    time.sleep(SAME_SIGNAL + 0.5)
    assert process.exists()
    starter.send_signal(signal.SIGINT)
    assert starter.wait(timeout=20) == STOPPED
    assert not process.exists()


def test_a_job_that_was_seen_done_stays_done_though_another_sweep_opens_it_again(tmp_path: Path) -> None:
    (folder,) = make_folders(tmp_path, "one")
    pool = Pool(max_parallel=1, console=Console(file=io.StringIO()))
    pool.run([folder], tmp_path)
    with folder.worked_on():
        assert folder.state.name == "running"
        assert sweep_pool.exit_code([folder], pool) == 0


def test_the_same_sweep_twice_at_once_does_everything_once(tmp_path: Path) -> None:
    names = [f"seed_{number}" for number in range(4)]
    make_folders(tmp_path, *names)
    command = [sys.executable, "-c", STARTER, str(tmp_path), WORKER, *names]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [starter.wait(timeout=60) for starter in both] == [0, 0]
    assert [(tmp_path / name / "works").read_text() for name in names] == ["x"] * 4


def test_a_job_that_another_process_has_taken_on_meanwhile_has_not_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = []

    def work(folder: RunFolder, is_taken: threading.Event) -> None:
        with folder.worked_on():
            is_taken.set()
            time.sleep(0.5)
            folder.end("done")

    def run_and_lose(workers: sweep_pool.Workers, folder: RunFolder, **_: int) -> int:
        with folder.worked_on():
            folder.end("done")
        is_taken = threading.Event()
        others.append(threading.Thread(target=work, args=(folder, is_taken)))
        others[-1].start()
        is_taken.wait()
        return 0

    monkeypatch.setattr(sweep_pool.Workers, "run", run_and_lose)
    code, shown, rows = sweep(tmp_path, "one")
    for other in others:
        other.join()
    assert (code, rows["one"]["state"], rows["one"]["error"]) == (0, "done", "")
    assert len(others) == 1
    assert "ended with exit code" not in shown


@pytest.mark.slow
def test_a_killed_job_whose_children_live_on_for_a_while_has_died_all_the_same(tmp_path: Path) -> None:
    code, shown, rows = sweep(tmp_path, "leaves a child", retries=1)
    assert (code, rows["leaves a child"]["state"]) == (1, "failed")
    assert rows["leaves a child"]["error"] == "killed by signal 9 (out of memory?)"
    assert num_starts(tmp_path / "leaves a child") == 2
    assert "another process" not in shown


def test_the_worker_finds_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(commands.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert worker_environment()["PYTHONPATH"].split(os.pathsep) == [root, "mine"]
    monkeypatch.delenv("PYTHONPATH")
    assert worker_environment()["PYTHONPATH"] == root


@pytest.mark.parametrize("override", ["launch.retries=1", "launch.fail_fast=true"])
def test_a_cluster_does_not_read_what_the_pool_does(override: str) -> None:
    with pytest.raises(ConfigError, match=rf"launch=slurm does not go with {override}"):
        compose_config(["launch=slurm", override])
