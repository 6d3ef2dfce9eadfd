"""The status command: what has become of runs, told at once and without torch."""

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from arc_experiments import status
from arc_experiments.runs import run_state as states
from arc_experiments.runs.folder import FolderTaken, RunFolder, find_runs
from arc_experiments.runs.run_state import STALE_SECONDS, RunState, time_in


def make_run(path: Path, **said: Any) -> RunFolder:
    """A run folder that says so in its status.json; none if nothing is said."""
    path.mkdir(parents=True)
    (path / "run.yaml").touch()
    if said:
        (path / "status.json").write_text(json.dumps(said))
    return RunFolder(path)


def here(**said: Any) -> dict[str, Any]:
    """What a run says that this process works on."""
    return {"state": "running", "pid": os.getpid(), "host": platform.node(), **said}


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_how_a_run_ended_is_what_it_says(tmp_path: Path) -> None:
    assert make_run(tmp_path / "new").state == RunState(name="waiting")
    for name in ("done", "paused"):
        state = make_run(tmp_path / name, state=name, step=50, max_steps=100, loss=1.5).state
        assert state == RunState(name=name, step=50, max_steps=100, loss=1.5)


def test_a_running_one_tells_how_far_it_is_and_how_long_it_takes(tmp_path: Path) -> None:
    expected = (datetime.now(UTC) + timedelta(seconds=90)).isoformat()
    state = make_run(tmp_path / "run", **here(step=10, max_steps=100, expected_end=expected)).state
    assert (state.name, state.step, state.max_steps) == ("running", 10, 100)
    assert state.seconds_left == pytest.approx(90, abs=20)


def test_one_whose_process_is_gone_has_died(tmp_path: Path, gone: int) -> None:
    state = make_run(tmp_path / "run", **here(pid=gone)).state
    assert (state.name, state.error) == ("died", f"process {gone} is gone")


def test_one_that_is_silent_on_another_machine_has_died(tmp_path: Path, gone: int) -> None:
    folder = make_run(tmp_path / "run", **here(pid=gone, host="elsewhere"))
    assert folder.state.name == "running", "its process cannot be looked for from here"
    then = time.time() - STALE_SECONDS - 30
    os.utime(folder / "status.json", (then, then))
    state = folder.state
    assert state.name == "died"
    assert f"no sign of life of process {gone} on elsewhere" in state.error


def test_one_that_is_suspended_lives_while_its_lock_is_held(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", **here(host="elsewhere"))
    then = time.time() - STALE_SECONDS - 30
    os.utime(folder / "status.json", (then, then))
    with folder.locked():
        assert folder.state.name == "running"
    assert folder.state.name == "died"


@pytest.mark.parametrize("text", ["{", "[1]", '{"state": "levitating"}'])
def test_a_status_that_is_not_ours_is_no_traceback(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "status.json").write_text(text)
    assert folder.state.name == "failed"


def test_the_expected_end_is_a_time_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states.time, "time", lambda: 1000.0)
    assert datetime.fromisoformat(time_in(20.0)).timestamp() == 1020


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert status.main(arguments) == code
    return capsys.readouterr().out


def test_the_table_has_a_line_for_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    make_run(tmp_path / "outputs/single", **here(step=3, max_steps=9, attempt=2))
    make_run(tmp_path / "multirun/sweep/seed_1", state="failed", error="no [such] thing\nTraceback")
    (tmp_path / "multirun/sweep/seed_1/output.log").touch()
    make_run(tmp_path / "multirun/sweep/seed_2", **here(pid=gone))
    text = shown(capsys)
    lines = {line.split()[1]: line for line in text.splitlines() if "outputs/" in line or "multirun/" in line}
    assert list(lines) == ["outputs/single", "multirun/sweep/seed_1", "multirun/sweep/seed_2"]
    assert "running, start 2" in lines["outputs/single"], "it has been resumed"
    assert "3/9" in lines["outputs/single"]
    assert "failed" in lines["multirun/sweep/seed_1"]
    assert "no [such] thing (see output.log)" in text
    assert f"process {gone} is gone (see run.log)" in text
    assert "SLURM" not in text


def test_a_long_error_leaves_the_names_whole_in_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    name = "outputs/tiny-learning_rate_5e-4-rank_128"
    make_run(tmp_path / name, state="failed", step=10, max_steps=100, loss=1.2345, error="word " * 100)
    lines = shown(capsys).splitlines()
    assert any(name in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert sum("word" in line for line in lines) <= 4
    assert "run.log" in lines[-2]


def test_runs_sweeps_and_globs_are_found_once(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "sweep/one"), make_run(tmp_path / "sweep/two")
    patterns = [str(two), f"{tmp_path}/swe*", f"{tmp_path}/*/one", str(tmp_path)]
    assert [folder.path for folder in find_runs(patterns)] == [two.path, one.path]


def test_no_runs_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no runs in outputs/* multirun/*" in shown(capsys, code=2)
    assert "no runs in nowhere" in shown(capsys, "nowhere", code=2)


SQUEUE = """#!/bin/sh
echo "$@" > "$(dirname "$0")/asked"
echo "123 PENDING"
echo "124_1 RUNNING"
echo "slurm_load_jobs error: Invalid job id specified" >&2
exit 1
"""


def test_what_slurm_has_of_a_run_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text(SQUEUE)
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    folder = make_run(tmp_path / "run")
    folder.write_json("slurm.json", {"jobs": ["122", "123", "124"]})
    text = shown(capsys, str(folder.path))
    assert "123 PENDING, 124_1 RUNNING" in text
    assert (programs / "asked").read_text().strip() == "-h -r -j 122,123,124 -o %i %T"


def test_without_slurm_or_with_another_file_nothing_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    make_run(tmp_path / "one").write_json("slurm.json", {"jobs": ["1"]})
    make_run(tmp_path / "two").write_json("slurm.json", ["1"])
    assert shown(capsys, str(tmp_path)).count("waiting") == 2


def test_it_needs_no_torch() -> None:
    code = "import sys, arc_experiments.status; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_notebooks_training_shows_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from small_training import small_run
    from transformers import TrainerCallback

    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            seen.append(RunFolder(tmp_path / "run").state)
            if len(seen) == 5:
                raise RuntimeError("the notebook was interrupted")

    run = small_run(tmp_path / "run")
    assert run.folder.state.name == "waiting"
    with pytest.raises(RuntimeError):
        run.trainer(run.model(), [Look()]).resume_or_start()
    assert (seen[-1].name, seen[-1].step, seen[-1].max_steps) == ("running", 4, 8)
    assert seen[-1].loss is not None
    assert run.folder.state.text == "failed (RuntimeError: the notebook was interrupted)"
    run.trainer(run.model(), []).resume_or_start()
    assert "Resuming from step 4" in capsys.readouterr().out
    assert (run.folder.state.name, run.folder.state.step, run.folder.state.attempt) == ("paused", 8, 2)
    assert "paused, start 2" in shown(capsys, str(tmp_path / "run"))
    run.folder.end("done")
    run.trainer(run.model(), []).resume_or_start()
    assert run.folder.is_done, "a finished run stays finished"


def test_two_trainings_of_one_folder_are_refused(tmp_path: Path) -> None:
    from small_training import small_run

    run = small_run(tmp_path / "run")
    with run.folder.locked(), pytest.raises(FolderTaken, match="is being worked on"):
        run.trainer(run.model(), []).resume_or_start()
