"""launch=command: the files and commands that a scheduler gets, and what is made of its answers."""

import functools
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from arc_experiments import status
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.schema import Config, Launch
from arc_experiments.launching.schedulers.command import job as command_job
from arc_experiments.launching.schedulers.command.queue_record import LISTED_SECONDS, Submitted
from arc_experiments.launching.schedulers.command.submissions import plan
from arc_experiments.launching.schedulers.known import queued, submit
from arc_experiments.launching.schedulers.scheduler import ClusterError, Queued
from arc_experiments.runs.cores_and_gpus import CORES, share_of_cores
from arc_experiments.runs.folder import RunFolder

TEMPLATE = """#!/bin/bash
#JOB --name={{ name }}
{% if after %}
#JOB --after={{ after }}
{% endif %}
exec {{ script|quote }}
"""
# A scheduler that accepts everything: what it was asked, and what it lists.
PROGRAMS = {
    "fake_submit": 'echo $1 >> {home}/asked; echo "accepted as job $((100 + $(wc -l < {home}/asked)))"',
    "fake_queue": "cat {home}/listed",
    "fake_cancel": 'echo "$@" >> {home}/cancelled',
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a scheduler's commands are on the path, and a template of the user's lies."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text.format(home=tmp_path)}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "listed").touch()
    (tmp_path / "mine.sh.j2").write_text(TEMPLATE)
    return tmp_path


@functools.cache
def composed(option: str) -> DictConfig:
    needed = {"command": ["template=.", "submit=fake_submit"], "skypilot": ["options.bucket=s3://mine"]}
    typed = [f"launch.command.{each}" for each in needed.get(option, [])]
    return compose_config([f"launch={option}", *typed])


def config_of(option: str, *overrides: str) -> Config:
    """A checked composition; the overrides' values are YAML."""
    node = composed(option).copy()
    for key, _, text in (override.partition("=") for override in overrides):
        OmegaConf.update(node, key, yaml.safe_load(text))
    return check(node)


def mine(home: Path, *overrides: str) -> Config:
    return config_of(
        "command", f"launch.command.template={home}/mine.sh.j2",
        'launch.command.submit="fake_submit {{ file }}"', r"launch.command.id=job (\d+)",
        "launch.command.queue=fake_queue", 'launch.command.cancel="fake_cancel {{ job }}"', *overrides,
    )  # fmt: skip


def launch_of(home: Path, *overrides: str) -> Launch:
    return mine(home, *overrides).launch


def make(home: Path, *names: str) -> list[RunFolder]:
    folders = [RunFolder(home / name) for name in names]
    for folder in folders:
        folder.path.mkdir(parents=True)
    return folders


def send(folders: list[RunFolder], home: Path, launch: Launch) -> str:
    shown = io.StringIO()
    assert submit(folders, home, launch, Console(file=shown, width=200, soft_wrap=True)) == 0
    return shown.getvalue()


def asked(home: Path) -> list[str]:
    return (home / "asked").read_text().splitlines() if (home / "asked").exists() else []


def afters(folder: RunFolder) -> list[str]:
    """For which job each submitted job of a run waits."""
    files = sorted((folder / "jobs").glob("submit*"))
    return [file.read_text().partition("--after=")[2].partition("\n")[0] for file in files]


# What is submitted


def test_a_run_is_one_job_whose_script_becomes_the_job(home: Path) -> None:
    (run,) = make(home, "run")
    shown = send(
        [run], run.path, launch_of(home, "launch.command.cpus=3", 'launch.command.setup=["module load x"]')
    )
    assert asked(home) == [f"{run.path}/jobs/submit1.sh"]
    assert "submitted: job 101" in shown
    assert "python -m arc_experiments.status" in shown
    file, script = (run / "jobs/submit1.sh").read_text(), (run / "jobs/job1.sh").read_text()
    assert file == f"#!/bin/bash\n#JOB --name=run\nexec {run.path}/jobs/job1.sh\n"
    assert os.access(run / "jobs/job1.sh", os.X_OK)
    *_, setup, last = script.splitlines()
    assert setup == "module load x"
    assert last.endswith(f" -m arc_experiments.launching.schedulers.command.job {run.path} 1")
    assert f"exec >>{run.path}/jobs/job1.log 2>&1" in script
    assert "export ARC_EXPERIMENTS_CORES=3" in script


def test_the_jobs_of_a_chain_wait_for_each_other(home: Path) -> None:
    (run,) = make(home, "run")
    send([run], run.path, launch_of(home, "launch.chain.total_jobs=3"))
    assert afters(run) == ["", "101", "102"]
    assert Submitted.read(run).jobs == ["101", "102", "103"]


def test_a_sweep_has_as_many_lanes_as_may_run_at_once(home: Path) -> None:
    folders = make(home / "sweep", "a", "b", "c", "d", "e", "f")
    folders[1].end("done")
    shown = send(folders, home / "sweep", launch_of(home, "launch.max_parallel=2"))
    assert "6 runs, 1 finished already, 5 to submit" in shown
    assert [afters(folder) for folder in folders] == [[""], [], [""], ["101"], ["102"], ["103"]]
    assert "--name=sweep-f\n" in (folders[-1] / "jobs/submit1.sh").read_text()


def test_a_sweep_of_chains_runs_one_chain_after_another_in_each_lane(home: Path) -> None:
    folders = make(home / "sweep", "a", "b", "c")
    send(folders, home / "sweep", launch_of(home, "launch.max_parallel=2", "launch.chain.total_jobs=2"))
    assert [afters(folder) for folder in folders] == [["", "101"], ["", "103"], ["102", "105"]]


def test_workers_share_out_one_folder(home: Path) -> None:
    (run,) = make(home, "run")
    send([run], run.path, launch_of(home, "job.name=adapt", "launch.command.workers=3"))
    assert Submitted.read(run).jobs == ["101", "102", "103"]
    assert afters(run) == ["", "", ""]
    with pytest.raises(ClusterError, match=r"launch\.command\.workers=3 share out the tasks of one run"):
        send(make(home, "a", "b"), home, launch_of(home, "job.name=adapt", "launch.command.workers=3"))


def test_a_time_limit_is_told_in_seconds_and_as_a_clock_and_the_run_saves_before_it(home: Path) -> None:
    (run,) = make(home, "run")
    (home / "mine.sh.j2").write_text("{{ seconds }} {{ time }}")
    send([run], run.path, launch_of(home, "launch.command.hours=26.05", "launch.command.pause_seconds=60"))
    assert (run / "jobs/submit1.sh").read_text() == "93780 26:03:00"
    assert (run / "jobs/job1.sh").read_text().endswith(f"{run.path} 1 93720\n")


def test_a_dry_run_shows_every_file_and_command_and_submits_nothing(home: Path) -> None:
    (run,) = make(home, "run")
    shown = send([run], run.path, launch_of(home, "launch.dry_run=true", "launch.chain.total_jobs=2"))
    for name in ("job1.sh", "submit1.sh", "job2.sh"):
        assert f"--- {run.path}/jobs/{name}\n{(run / 'jobs' / name).read_text()}" in shown
    assert "#JOB --after=JOB1\n" in shown
    assert f"fake_submit {run.path}/jobs/submit2.sh" in shown
    assert not asked(home)
    assert not (run / "jobs.json").exists()


def test_paths_with_spaces_stay_whole(home: Path) -> None:
    (run,) = make(home / "my runs", "run")
    send([run], run.path, launch_of(home))
    assert asked(home) == [f"{run.path}/jobs/submit1.sh"]
    done = subprocess.run(["bash", "-n", run / "jobs/job1.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"exec '{run.path}/jobs/job1.sh'" in (run / "jobs/submit1.sh").read_text()


# What is refused, before anything is submitted


@pytest.mark.parametrize(
    ("template", "overrides", "message"),
    [
        (
            "a\n{{ queue }}",
            [],
            r"mine\.sh\.j2, line 2: 'queue' is undefined. There are after, cpus, .*options\.",
        ),
        ("{{ options.queue }}", [], r"line 1: .* has no attribute 'queue'"),
        ("{% if after %}{{ x }}{% endif %}", ["launch.chain.total_jobs=2"], r"line 1: 'x' is undefined"),
        ("\n{% if %}", [], r"mine\.sh\.j2, line 2: Expected an expression"),
        ("{{ cpus + 1 }}", [], r"line 1: TypeError"),
        ("{% include 'other' %}", [], r"there is no template other"),
        ("x", ["launch.command.template=nowhere"], r"launch\.command\.template: .*/nowhere: No such file"),
        (
            "x",
            ['launch.command.submit="fake_submit {{ fil }}"'],
            r"launch\.command\.submit: 'fil' is undefined",
        ),
        ("x", ['launch.command.submit="fake_submit {{"'], r"launch\.command\.submit.*line 1"),
        ("x", ['launch.command.submit="{{ after or 1 }} \'"'], "No closing quotation"),
        ("x", ["launch.chain.total_jobs=2"], r"neither `after` nor `restarts`.*total_jobs=2 must be 1"),
        ("x", ["launch.command.submit=nowhere"], r"there is no nowhere here.*launch\.dry_run=true"),
        (
            "x",
            ['launch.command.submit="bash -c \\"exit 3\\""'],
            "failed with exit code 3: it printed nothing",
        ),
        (
            "x",
            ['launch.command.submit="echo hello"'],
            r"printed no job id that .*'job \(\\d\+\)' finds.*hello",
        ),
    ],
)
def test_a_mistake_says_where_it_is(home: Path, template: str, overrides: list[str], message: str) -> None:
    (home / "mine.sh.j2").write_text(template)
    (run,) = make(home, "run")
    with pytest.raises(ClusterError, match=message):
        send([run], run.path, launch_of(home, *overrides))
    assert not asked(home)
    assert not (run / "jobs.json").exists()


def test_the_documents_name_every_variable(home: Path) -> None:
    (home / "mine.sh.j2").write_text("{{ nothing }}")
    (run,) = make(home, "run")
    with pytest.raises(ClusterError) as raised:
        send([run], run.path, launch_of(home))
    there = str(raised.value).partition("There are ")[2].partition(";")[0].split(", ")
    text = (Path(__file__).parents[1] / "docs/clusters.md").read_text()
    rows = re.findall(r"^\| (`[\w` ]+`) \|", text.partition("| variable | |")[2], flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(there)


def test_a_sweep_that_the_scheduler_cannot_limit_must_be_asked_for(home: Path) -> None:
    (home / "mine.sh.j2").write_text("exec {{ script }}")
    folders = make(home, "a", "b", "c")
    with pytest.raises(ClusterError, match=r"starts all of 3 runs: launch\.max_parallel=3 allows it"):
        send(folders, home, launch_of(home, "launch.max_parallel=2"))
    send(folders, home, launch_of(home, "launch.max_parallel=3"))
    assert len(asked(home)) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['launch.command.id="(("'], "is no regular expression"),
        (['launch.command.id="x"'], "must have one group"),
        (["launch.retries=1"], "launch=command does not go with launch.retries=1"),
        (["launch.command.workers=2"], "it shares out the tasks of job=adapt"),
        (["launch.command.hours=0.01"], "is not longer than launch.command.pause_seconds=120"),
        (["launch.name=slurm", "launch.command=null"], "neither says how jobs are submitted"),
    ],
)
def test_what_cannot_be_meant_is_refused(home: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        mine(home, *overrides)
    assert message in str(raised.value)


def test_the_shipped_options_ask_for_the_gpu_that_the_run_needs() -> None:
    with pytest.raises(ConfigError, match=r"launch\.command\.gpus=0, and hardware\.device=cuda needs one"):
        config_of("htcondor", "hardware.device=cuda")


def test_what_was_submitted_before_a_refusal_is_known(home: Path) -> None:
    refusing = home / "bin/fake_submit"
    refusing.write_text(refusing.read_text() + f"test $(wc -l < {home}/asked) -lt 3\n")
    (run,) = make(home, "run")
    with pytest.raises(ClusterError, match="exit code 1: accepted as job 103"):
        send([run], run.path, launch_of(home, "launch.chain.total_jobs=4"))
    assert Submitted.read(run).jobs == ["101", "102"]


# What is in the queue


def later(folder: RunFolder, seconds: float) -> None:
    """As if so many seconds had passed since the run was submitted, and its worker was last heard."""
    record = json.loads((folder / "jobs.json").read_text())
    folder.write_json("jobs.json", record | {"time": record["time"] - seconds})
    if (folder / "status.json").exists():
        os.utime(folder / "status.json", (time.time() - seconds,) * 2)


def in_queue(*folders: RunFolder) -> list[Queued]:
    return queued(folders, 5.0)


def test_what_is_in_the_queue_is_shown_and_not_submitted_again(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    (run,) = make(home, "run")
    (run / "run.yaml").touch()
    launch = launch_of(home, "launch.chain.total_jobs=2")
    send([run], run.path, launch)
    assert in_queue(run)[0].jobs == {"101": "submitted", "102": "submitted"}, "a scheduler may take a moment"
    later(run, LISTED_SECONDS + 1)
    (home / "listed").write_text("101 running\n102\n99 held by somebody else\n")
    assert "1 run, 0 finished already, 0 to submit" in send([run], run.path, launch)
    assert len(asked(home)) == 2
    status.main([str(run.path)])
    assert "101 running, 102 queued" in capsys.readouterr().out


def test_a_lost_job_is_told_with_the_remedy_and_submitted_again(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (run,) = make(home, "run")
    (run / "run.yaml").touch()
    send([run], run.path, launch_of(home))
    later(run, LISTED_SECONDS + 1)
    status.main([str(run.path)])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "job 101 is lost (the queue does not have it): the same command submits what is left" in said
    assert "1 to submit" in send([run], run.path, launch_of(home))
    assert Submitted.read(run).jobs == ["102"]


def test_without_a_queue_command_silence_says_that_a_job_is_lost(home: Path) -> None:
    (run,) = make(home, "run")
    send([run], run.path, launch_of(home, "launch.command.queue=null", "launch.chain.total_jobs=3"))
    later(run, 23 * 3600)
    assert in_queue(run)[0].jobs == dict.fromkeys(["101", "102", "103"], "submitted")
    later(run, 2 * 3600)
    assert "job 101 is lost (nothing was heard for 25 h 0 min)" in in_queue(run)[0].lost
    run.update_status(attempt=1, state="paused")
    assert in_queue(run)[0].jobs == dict.fromkeys(["102", "103"], "submitted"), "it has just been heard"
    run.update_status(attempt=3, state="failed")
    assert in_queue(run) == [Queued()], "all have begun and ended"
    run.update_status(attempt=1, state="paused")
    later(run, 25 * 3600)
    assert "job 102 is lost" in in_queue(run)[0].lost


def test_a_scheduler_that_does_not_answer_keeps_runs_from_being_submitted_twice(home: Path) -> None:
    (run,) = make(home, "run")
    send([run], run.path, launch_of(home))
    (home / "bin/fake_queue").write_text("#!/bin/bash\necho no contact >&2\nexit 3\n")
    with pytest.raises(
        ClusterError, match=r"launch\.command\.queue: `fake_queue` cannot tell .*: no contact"
    ):
        send([run], run.path, launch_of(home))
    assert len(asked(home)) == 1
    for queue, problem in (
        ("fake_queue '", "No closing quotation"),
        ("sleep 9", "timed out after 0.2 seconds"),
    ):
        run.write_json("jobs.json", run.read_json("jobs.json") | {"queue": queue})
        assert problem in queued([run], 0.2)[0].problem


def test_a_record_of_another_program_is_told(home: Path) -> None:
    one, two = make(home, "one", "two")
    one.write_json("jobs.json", {"workers": 3})
    two.write("jobs.json", "{")
    assert [bool(queue.problem) for queue in in_queue(one, two)] == [True, True]
    with pytest.raises(ClusterError, match=r"one/jobs\.json does not say which jobs there are: remove it"):
        send([one], one.path, launch_of(home))


# The job itself


@pytest.mark.slow
def test_the_jobs_that_a_finished_chain_leaves_are_cancelled(home: Path) -> None:
    (run,) = make(home, "run")
    send([run], run.path, launch_of(home, "launch.chain.total_jobs=4"))
    run.end("done")
    assert command_job.main([str(run.path), "2"]) == 0
    assert (home / "cancelled").read_text().split() == ["103", "104"]
    assert Submitted.read(run).jobs == ["101", "102"]


# What ends like a worker.
WORKER = """
import sys
from pathlib import Path
from arc_experiments.runs.folder import RunFolder

folder, state, code = RunFolder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
folder.update_status(step=3, max_steps=9, state="running")
if state != "running":
    folder.end(state)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("state", "worker", "code"), [("done", 0, 0), ("paused", 130, 75), ("running", 9, 75), ("failed", 2, 1)]
)
def test_the_exit_code_says_whether_another_job_would_resume(
    home: Path, monkeypatch: pytest.MonkeyPatch, state: str, worker: int, code: int
) -> None:
    (run,) = make(home, "run")
    words = [sys.executable, "-c", WORKER, str(run.path), state, str(worker)]
    monkeypatch.setattr(command_job, "worker_command", lambda folder: words)
    assert command_job.main([str(run.path), "1"]) == code
    if state == "running":
        assert command_job.main([str(run.path), "2"]) == 1, "two deaths at one step"


def test_a_run_is_asked_to_pause_before_its_time_is_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = make(home, "run")
    waiting = f"until [ -e {run.path}/.pause ]; do sleep 0.05; done; exit 130"
    monkeypatch.setattr(
        command_job, "worker_command", lambda folder: ["timeout", "20", "bash", "-c", waiting]
    )
    assert command_job.main([str(run.path), "1", "0.2"]) == 75
    assert run.state.name == "paused"


def test_a_job_takes_no_more_cores_than_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setenv(CORES, "4")
    monkeypatch.delenv("ARC_EXPERIMENTS_NUM_PLACES")
    assert share_of_cores() == 4


# The options that are made of a template and a command


def rendered(home: Path, names: list[str], option: str, *overrides: str) -> str:
    """What a shipped option's template makes of a run, or of several."""
    folders = make(home, *names)
    place = folders[0].path if len(folders) == 1 else home
    launch = config_of(option, *overrides, "launch.dry_run=true").launch
    send(folders, place, launch)
    (file,) = (place / "jobs").glob("submit1.*")
    return file.read_text()


def test_pbs_gets_resources_limits_and_dependencies(home: Path) -> None:
    text = rendered(
        home, ["run"], "pbs", "launch.command.hours=2", "launch.command.gpus=1", "launch.command.cpus=8",
        "launch.command.memory_gigabytes=1.5", "launch.chain.total_jobs=2",
        'launch.command.directives=["-q gpu"]',
    )  # fmt: skip
    assert text.startswith("#!/bin/bash\n#PBS -N run\n")
    for line in ("-l select=1:ncpus=8:ngpus=1:mem=1536mb", "-l walltime=02:00:00", "-q gpu", "-r y"):
        assert f"\n#PBS {line}\n" in text
    assert "depend" not in text
    second = (home / "run/jobs/submit2.sh").read_text()
    assert "\n#PBS -W depend=afterany:JOB1\n" in second
    assert second.endswith(f"\nexec {home}/run/jobs/job2.sh\n")


def test_skypilot_gets_a_managed_job_with_the_frozen_run_and_a_bucket(home: Path) -> None:
    text = rendered(
        home, ["run"], "skypilot", "launch.command.gpus=2", "launch.command.hours=2",
        "launch.chain.total_jobs=3", 'launch.command.setup=["echo \\"a: b\\""]', "launch.command.cpus=4",
    )  # fmt: skip
    task = yaml.safe_load(text)
    assert task["resources"] == {
        "accelerators": "L4:2", "cpus": "4+", "use_spot": True, "job_recovery": {"max_restarts_on_errors": 2},
    }  # fmt: skip
    assert task["file_mounts"] == {
        "/frozen/run.yaml": f"{home}/run/run.yaml",
        "/frozen/environment.json": f"{home}/run/environment.json",
        "/runs": {"source": "s3://mine", "mode": "MOUNT_CACHED"},
    }
    assert task["setup"].splitlines()[1] == 'echo "a: b"'
    assert task["run"].splitlines()[-1] == (
        "exec python -m arc_experiments.launching.schedulers.command.job /runs/run 1 7080"
    )
    volume = rendered(home / "2", ["run"], "skypilot", "launch.command.options.volume=disk")
    assert yaml.safe_load(volume)["volumes"] == {"/runs": "disk"}
    with pytest.raises(ConfigError, match=r"launch\.command\.options\.bucket is needed and has no value"):
        compose_config(["launch=skypilot"])


def test_skypilot_has_no_limit_so_a_larger_sweep_must_be_asked_for(home: Path) -> None:
    launch = config_of("skypilot").launch
    with pytest.raises(ClusterError, match=r"launch\.max_parallel=5 allows it"):
        plan(make(home, *"abcde"), launch, {"restarts"})
