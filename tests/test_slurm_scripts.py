"""What would be submitted to a cluster: scripts and dependencies, without one."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.config.schema import Launch
from arc_experiments.launching.schedulers.known import submit
from arc_experiments.launching.schedulers.scheduler import ClusterError
from arc_experiments.launching.schedulers.slurm import job
from arc_experiments.launching.schedulers.slurm import submitting as slurm
from arc_experiments.launching.schedulers.slurm.submitting import script_text
from arc_experiments.runs.folder import RunFolder


def launch_of(*overrides: str) -> Launch:
    return check(compose_config(["launch=slurm", *overrides])).launch


def make(home: Path, *names: str) -> list[RunFolder]:
    folders = [RunFolder(home / name) for name in names]
    for folder in folders:
        folder.path.mkdir(parents=True)
    return folders


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What sbatch is called with."""
    calls: list[list[str]] = []

    def sbatch(arguments: list[str]) -> str:
        calls.append([argument for argument in arguments if argument.startswith("--")])
        return str(100 + len(calls))

    monkeypatch.setattr(slurm, "sbatch", sbatch)
    return calls


def send(folders: list[RunFolder], home: Path, launch: Launch) -> str:
    shown = io.StringIO()
    assert submit(folders, home, launch, Console(file=shown, width=200)) == 0
    return shown.getvalue()


def jobs(folder: RunFolder) -> list[str]:
    return list(json.loads((folder / "slurm.json").read_text())["jobs"])


@pytest.mark.parametrize(
    ("state", "signalled", "waits"), [("paused", True, 1), ("paused", False, 0), ("failed", True, 0)]
)
def test_only_a_job_that_has_paused_at_a_signal_waits_to_be_requeued(
    state: str, signalled: bool, waits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = make(tmp_path, "run")
    folder.update_status(state=state, signalled=signalled)
    waited: list[float] = []
    monkeypatch.setattr(job.time, "sleep", waited.append)
    monkeypatch.setattr(job, "run_job", lambda *_: True)  # the chain has another job
    job.main([str(folder.path)])
    assert len(waited) == waits


def test_every_key_becomes_a_directive(tmp_path: Path) -> None:
    launch = launch_of(
        "launch.slurm.partition=gpu", "launch.slurm.time=04:00:00", "launch.slurm.gpus_per_node=2",
        "launch.slurm.cpus_per_task=8", "launch.slurm.memory=64G", "launch.slurm.account=me",
        "launch.slurm.constraint=a100", 'launch.slurm.directives=["--qos=long"]',
        'launch.slurm.setup=["module load cuda"]', "launch.slurm.signal_seconds=60",
    )  # fmt: skip
    text = script_text(tmp_path, launch, "mine", [RunFolder(Path("/runs/a"))])
    for line in (
        "--job-name=mine", "--partition=gpu", "--time=04:00:00", "--gres=gpu:2", "--cpus-per-task=8",
        "--mem=64G",
        "--account=me", "--constraint=a100", "--qos=long", "--signal=B:USR1@60", "--nodes=1", "--requeue",
    ):  # fmt: skip
        assert f"\n#SBATCH {line}\n" in text
    *_, setup, folders, last = text.strip().splitlines()
    assert (setup, folders) == ("module load cuda", "folders=(/runs/a)")
    assert last.startswith("exec ")
    assert last.endswith(' -m arc_experiments.launching.schedulers.slurm.job "${folders[0]}"')


def test_the_jobs_of_a_chain_wait_for_each_other(tmp_path: Path, submitted: list[list[str]]) -> None:
    (run,) = make(tmp_path, "run")
    shown = send([run], run.path, launch_of("launch.chain.total_jobs=3"))
    assert submitted == [
        ["--dependency=singleton"],
        ["--dependency=afterany:101,singleton"],
        ["--dependency=afterany:102,singleton"],
    ]
    assert jobs(run) == ["101", "102", "103"]
    assert "python -m arc_experiments.status" in shown


def test_a_sweep_is_an_array(tmp_path: Path, submitted: list[list[str]]) -> None:
    folders = make(tmp_path, "a", "b", "c")
    folders[1].end("done")
    send(folders, tmp_path, launch_of("launch.max_parallel=7"))
    assert submitted == [["--array=0-1%7"]]
    assert jobs(folders[2]) == ["101_1"]
    text = (tmp_path / "slurm.sh").read_text()
    assert f"folders=({tmp_path}/a {tmp_path}/c)" in text, "in the script, which the cluster keeps as it is"
    assert 'arc_experiments.launching.schedulers.slurm.job "${folders[$SLURM_ARRAY_TASK_ID]}"' in text


def test_a_sweep_of_chains_has_as_many_lanes_as_may_run_at_once(
    tmp_path: Path, submitted: list[list[str]]
) -> None:
    folders = make(tmp_path / "sweep", "a", "b", "c")
    send(folders, tmp_path / "sweep", launch_of("launch.max_parallel=2", "launch.chain.total_jobs=2"))
    assert [call[0].partition(":")[0] for call in submitted] == [
        "--dependency=singleton", "--dependency=afterany",
    ] * 3  # fmt: skip
    names = [(folder / "slurm.sh").read_text().partition("--job-name=")[2].split()[0] for folder in folders]
    assert names == ["sweep-lane0", "sweep-lane1", "sweep-lane0"]


def test_workers_share_out_one_folder(tmp_path: Path, submitted: list[list[str]]) -> None:
    (run,) = make(tmp_path, "run")
    launch = launch_of("job=adapt", "launch.slurm.workers=3")
    send([run], run.path, launch)
    assert submitted == [["--array=0-2"]]
    assert jobs(run) == ["101_0", "101_1", "101_2"]


def test_a_dry_run_writes_the_script_and_says_the_command(tmp_path: Path) -> None:
    (run,) = make(tmp_path, "run")
    shown = send([run], run.path, launch_of("launch.dry_run=true", "launch.chain.total_jobs=2"))
    assert shown.count("sbatch --dependency") == 2
    assert (run / "slurm.sh").read_text().startswith("#!/bin/bash\n")
    assert not (run / "slurm.json").exists()


def test_without_a_cluster_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (run,) = make(tmp_path, "run")
    with pytest.raises(ClusterError, match=r"no sbatch here.*launch\.dry_run=true"):
        send([run], run.path, launch_of())


def test_what_the_cluster_has_taken_before_it_refuses_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = make(tmp_path, "run")
    left = iter(["101", "102"])

    def sbatch(arguments: list[str]) -> str:
        job = next(left, None)
        if job is None:
            raise ClusterError("too many jobs")
        return job

    monkeypatch.setattr(slurm, "sbatch", sbatch)
    with pytest.raises(ClusterError, match="too many"):
        send([run], run.path, launch_of("launch.chain.total_jobs=3"))
    assert jobs(run) == ["101", "102"]


def test_workers_of_a_sweep_are_refused(tmp_path: Path, submitted: list[list[str]]) -> None:
    folders = make(tmp_path, "a", "b")
    with pytest.raises(ClusterError, match=r"launch\.slurm\.workers=3 share out the tasks of one run"):
        send(folders, tmp_path, launch_of("job=adapt", "launch.slurm.workers=3"))
    assert not submitted


TEMPLATE = """#!/bin/bash -l
{{ directives }}
#SBATCH --comment={{ name }}
{{ body }}
"""


def test_a_template_of_the_users_makes_the_script(tmp_path: Path, submitted: list[list[str]]) -> None:
    (tmp_path / "mine.sh.j2").write_text(TEMPLATE)
    folders = make(tmp_path / "sweep", "a", "b")
    overrides = [f"launch.slurm.template={tmp_path}/mine.sh.j2", "launch.slurm.partition=gpu"]
    send(folders, tmp_path / "sweep", launch_of(*overrides))
    ours = script_text(tmp_path / "sweep", launch_of("launch.slurm.partition=gpu"), "sweep", folders)
    first, *lines = ours.splitlines()
    signal = next(number for number, line in enumerate(lines) if not line.startswith("#SBATCH"))
    lines.insert(signal, "#SBATCH --comment=sweep")
    assert (tmp_path / "sweep" / "slurm.sh").read_text().splitlines() == [f"{first} -l", *lines]
    assert submitted == [["--array=0-1%4"]]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("#!/bin/bash\n{{ directives }}\n", r"mine\.sh\.j2 leaves out \{\{ body \}\}"),
        ("{{ directives }}\n{{ body }}\n{{ queue }}", r"mine\.sh\.j2, line 3: 'queue' is undefined"),
    ],
)
def test_a_template_that_would_not_run_the_job_is_refused(
    tmp_path: Path, submitted: list[list[str]], template: str, message: str
) -> None:
    (tmp_path / "mine.sh.j2").write_text(template)
    (run,) = make(tmp_path, "run")
    with pytest.raises(ClusterError, match=f"launch.slurm.template: .*{message}"):
        send([run], run.path, launch_of(f"launch.slurm.template={tmp_path}/mine.sh.j2"))
    assert not submitted


def test_a_dry_run_shows_the_script(tmp_path: Path) -> None:
    (run,) = make(tmp_path, "run")
    shown = send([run], run.path, launch_of("launch.dry_run=true"))
    assert f"--- {run / 'slurm.sh'}\n{(run / 'slurm.sh').read_text()}" in shown
