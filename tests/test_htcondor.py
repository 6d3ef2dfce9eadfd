"""launch=htcondor: HTCondor's own parser makes jobs of its submit files; there is no pool to run them on."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from test_command_launch import config_of, in_queue, later, make, rendered, send

from arc_experiments.launching.schedulers.command.job import UNFINISHED

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that this version of the bindings is the last of its kind
    htcondor = pytest.importorskip("htcondor", reason="HTCondor's Python package is not installed")
    classad = pytest.importorskip("classad", reason="HTCondor's Python package is not installed")


def jobs_in(text: str) -> list[Any]:
    """The jobs that condor_submit would make, as ClassAds."""
    return list(htcondor.Submit(text).jobs(clusterid=12))


def test_a_run_is_a_job_that_runs_its_script_and_asks_for_what_it_needs(tmp_path: Path) -> None:
    text = rendered(
        tmp_path / "my runs", ["run"], "htcondor", "launch.command.cpus=4", "launch.command.gpus=2",
        "launch.command.memory_gigabytes=24", "launch.command.disk_gigabytes=10", "launch.command.hours=8",
        "launch.command.pause_seconds=90",
        """launch.command.directives=['requirements = Name != "old"', '+Group = "arc"']""",
    )  # fmt: skip
    (job,) = jobs_in(text)
    base = tmp_path / "my runs/run/jobs/job1"
    assert (job["Cmd"], job["Arguments"]) == ("/bin/bash", f"{base}.sh".replace(" ", "' '"))
    assert (job["Out"], job["Err"]) == (f"{base}.out", f"{base}.err")
    assert job["UserLog"] == str(base.parent / "htcondor.log")
    assert (job["RequestCpus"], job["RequestGPUs"]) == (4, 2)
    assert (job["RequestMemory"], job["RequestDisk"]) == (24 * 1024, 10 * 1024**2)
    assert (job["AllowedExecuteDuration"], job["JobMaxVacateTime"]) == (8 * 3600, 90)
    assert job["ShouldTransferFiles"] == "NO"
    assert job["Group"] == "arc"
    assert 'Name != "old"' in str(job["Requirements"])
    assert job["JobBatchName"] == "run"
    assert "JobMaxRetries" not in job


@pytest.mark.parametrize(
    ("ended", "completions", "is_removed"),
    [
        ({"ExitBySignal": False, "ExitCode": 0}, 1, True),
        ({"ExitBySignal": False, "ExitCode": UNFINISHED}, 1, False),
        ({"ExitBySignal": True, "ExitSignal": 9}, 1, False),
        ({"ExitBySignal": False, "ExitCode": 1}, 1, True),
        ({"ExitBySignal": False, "ExitCode": UNFINISHED}, 5, False),
        ({"ExitBySignal": False, "ExitCode": UNFINISHED}, 6, True),
    ],
)
def test_a_chain_starts_again_until_nothing_is_left_or_its_jobs_are_used_up(
    tmp_path: Path, ended: dict[str, Any], completions: int, is_removed: bool
) -> None:
    (job,) = jobs_in(rendered(tmp_path, ["run"], "htcondor", "launch.chain.total_jobs=6"))
    job.update(classad.ClassAd({**ended, "NumJobCompletions": completions}))
    assert job.eval("OnExitRemove") is is_removed


def test_a_sweep_is_one_cluster_with_a_job_for_each_run(tmp_path: Path) -> None:
    names = ["seed_1", "seed_2", "seed_3"]
    text = rendered(tmp_path, names, "htcondor", "launch.max_parallel=2", "launch.chain.total_jobs=3")
    jobs = jobs_in(text)
    assert [job["Arguments"] for job in jobs] == [f"{tmp_path / name}/jobs/job1.sh" for name in names]
    assert [job["ProcId"] for job in jobs] == [0, 1, 2]
    assert htcondor.Submit(text)["max_materialize"] == "2"
    assert {job["JobMaxRetries"] for job in jobs} == {2}
    assert all((tmp_path / name / "jobs/job1.sh").exists() for name in names)


def test_condor_q_is_asked_for_states_by_name() -> None:
    command = config_of("htcondor").launch.command
    assert command is not None
    assert command.queue is not None
    states = classad.ExprTree(command.queue.partition("'")[2].rstrip("'"))
    assert states.eval(classad.ClassAd({"JobStatus": 2})) == "running"
    assert states.eval(classad.ClassAd({"JobStatus": 5})) == "held"


def test_each_run_of_a_sweep_knows_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("condor_submit", "echo 12.0 - 12.2"),
        ("condor_q", "printf '12.0 running\\n12.1 idle\\n'"),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    folders = make(tmp_path, "a", "b", "c")
    send(folders, tmp_path, config_of("htcondor", "launch.max_parallel=2").launch)
    for folder in folders:
        later(folder, 3600)
    assert [queue.jobs for queue in in_queue(*folders)] == [
        {"12.0": "running"},
        {"12.1": "idle"},
        {"12.2": "submitted"},  # HTCondor makes a job of it later
    ]
