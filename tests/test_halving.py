"""Successive halving: survivors are chosen once, by the mean over seeds, whenever the command was stopped."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.config.check import ConfigError
from arc_experiments.config.rules import rung_steps
from arc_experiments.config.schema import Halving, Optim
from arc_experiments.halving.ranking import RungResult, rank, ranking_table
from arc_experiments.halving.rungs import Rungs, configurations, run_halving
from arc_experiments.launching import pool as sweep_pool
from arc_experiments.launching.pool import Pool
from arc_experiments.runs.folder import FolderError, FolderTaken, RunFolder
from arc_experiments.runs.locks import locked

# Stands in for the real worker: "trains" to the step asked for; its loss depends on rank and steps.
WORKER = """
import json, pathlib, re, sys
folder = pathlib.Path(sys.argv[1])
frozen = (folder / "run.yaml").read_text()
stop_after, max_steps = (re.search(rf" {key}: (\\w+)", frozen)[1] for key in ("stop_after", "max_steps"))
steps = int(max_steps if stop_after == "null" else stop_after)
rank, seed = map(int, re.findall(r"\\d+", folder.name))
with (folder / "steps").open("a") as told:
    told.write(f"{steps} ")
before = folder / "status.json"
attempt = json.loads(before.read_text())["attempt"] + 1 if before.exists() else 1
status = {"attempt": attempt, "state": "running"}
def enter(name, value):
    (folder / f"{name}.part").write_text(json.dumps(value))  # whole, or not at all if it is stopped
    (folder / f"{name}.part").replace(folder / name)
enter("status.json", status)
if (folder / "fails").exists():
    raise RuntimeError("no such thing")
losses = {4: 1.0, 8: 0.5, 16: 0.7, 32: 0.9}
loss = losses[rank] + 0.3 * (seed - 1.5) * (rank == 8) - steps / 1000
enter("metrics.json", {"validation": {"loss": {"token_mean": loss}}, "train": {"steps": steps}})
enter("status.json", {**status, "state": "done"})
"""
COMMAND = [sys.executable, "-I", "-S", "-c", WORKER]
RANKS, SEEDS = (4, 8, 16, 32), (1, 2)
RUNGS = Rungs(steps=[100, 200], keep=0.5, metric="validation_loss", max_steps=400)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight jobs as the command freezes them."""
    path = tmp_path_factory.mktemp("frozen")
    base = ["optim.max_steps=400", "tracking=off"]
    config = compose_config([*base, "halving.rungs=[100,200]", "optim.stop_after=100"])
    for rank_ in RANKS:
        for seed in SEEDS:
            config.model.lora.rank, config.seed = rank_, seed
            overrides = [*base, f"model.lora.rank={rank_}", f"seed={seed}"]
            freeze(config, path / f"rank_{rank_}-seed_{seed}", overrides)
    return path


@pytest.fixture
def sweep(tmp_path: Path, frozen: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sweep_pool, "worker_command", lambda folder: [*COMMAND, str(folder.path)])
    shutil.copytree(frozen, tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory, frozen: Path) -> tuple[Path, int, str]:
    """A halving that has come to its end, with its exit code and what it showed."""
    path = tmp_path_factory.mktemp("halved") / "sweep"
    shutil.copytree(frozen, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_pool, "worker_command", lambda folder: [*COMMAND, str(folder.path)])
        return path, *halve(path)


def jobs(sweep: Path) -> list[RunFolder]:
    return [RunFolder(sweep / f"rank_{rank_}-seed_{seed}") for rank_ in RANKS for seed in SEEDS]


def halve(sweep: Path, rungs: Rungs = RUNGS, *, fail_fast: bool = False) -> tuple[int, str]:
    shown = io.StringIO()
    console = Console(file=shown, width=200, soft_wrap=True, highlight=False)
    pool = Pool(max_parallel=2, console=console, fail_fast=fail_fast)
    return run_halving(jobs(sweep), sweep, pool, console, rungs), shown.getvalue()


def trained(sweep: Path) -> dict[str, list[int]]:
    """To which steps each job was trained, start by start."""
    return {
        job.path.name: [int(step) for step in (job / "steps").read_text().split()]
        for job in jobs(sweep)
        if (job / "steps").exists()
    }


def survivors(sweep: Path) -> list[list[str]]:
    ranked = json.loads((sweep / "halving.json").read_text())["ranked"]
    return [[row["configuration"] for row in rung["ranking"] if row["goes_on"]] for rung in ranked]


def test_the_better_half_goes_on_and_the_last_to_the_end(halved: tuple[Path, int, str]) -> None:
    sweep, code, shown = halved
    assert code == 0
    assert trained(sweep) == {
        "rank_4-seed_1": [100], "rank_4-seed_2": [100],
        "rank_8-seed_1": [100, 200, 400], "rank_8-seed_2": [100, 200, 400],
        "rank_16-seed_1": [100, 200], "rank_16-seed_2": [100, 200],
        "rank_32-seed_1": [100], "rank_32-seed_2": [100],
    }  # fmt: skip
    assert survivors(sweep)[:2] == [["model.lora.rank=8", "model.lora.rank=16"], ["model.lora.rank=8"]]
    for title in ("100 steps of 400: model.lora.rank=4, ", "200 steps of 400: ", "400 steps, the end: "):
        assert title in shown
    assert "best" in shown


def test_each_rung_is_on_record_though_metrics_are_overwritten(halved: tuple[Path, int, str]) -> None:
    sweep, *_ = halved
    first, *_, last = json.loads((sweep / "halving.json").read_text())["ranked"]
    assert [rung["steps"] for rung in (first, last)] == [100, 400]
    best = first["ranking"][0]
    assert best["values"] == {"rank_8-seed_1": pytest.approx(0.25), "rank_8-seed_2": pytest.approx(0.55)}
    assert best["value"] == pytest.approx(0.4), "the mean over the seeds"


def test_the_same_command_again_shows_it_and_trains_nothing(halved: tuple[Path, int, str]) -> None:
    sweep, *_ = halved
    before = trained(sweep), (sweep / "halving.json").read_bytes()
    code, shown = halve(sweep)
    assert code == 0
    assert (trained(sweep), (sweep / "halving.json").read_bytes()) == before
    assert "100 steps of 400" in shown


DRIVER = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
import test_halving
from arc_experiments.halving import rungs as halving
from arc_experiments.launching import pool as sweep_pool
from arc_experiments.launching.pool import Pool
sweep_pool.worker_command = lambda folder: [*test_halving.COMMAND, str(folder.path)]
sweep, kill_at = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def die(*_):
    global calls
    calls += 1
    if calls == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
calls_to_count = (halving, "stop_at"), (halving._Record, "add"), (halving, "ranking_table"), (Pool, "run")
for module, name in calls_to_count:
    own = getattr(module, name)
    def wrapped(*args, own=own, **kwargs):
        die()
        result = own(*args, **kwargs)
        die()
        return result
    setattr(module, name, wrapped)
sys.exit(test_halving.halve(sweep)[0])
"""


@pytest.mark.parametrize(
    "moment", [3, 18, 25, *(pytest.param(one, marks=pytest.mark.slow) for one in (20, 33))]
)
def test_killed_at_any_moment_it_comes_to_the_same(sweep: Path, moment: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(sweep), str(moment)],
        check=False,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{Path(__file__).parent}"},
    )
    assert done.returncode == -signal.SIGKILL
    code, _ = halve(sweep)
    assert code == 0
    assert survivors(sweep)[:2] == [["model.lora.rank=8", "model.lora.rank=16"], ["model.lora.rank=8"]]
    for steps in trained(sweep).values():
        assert len(steps) == len(set(steps)), "no rung is trained twice"


def test_a_configuration_with_a_failed_run_is_out_and_told(sweep: Path) -> None:
    (sweep / "rank_8-seed_2" / "fails").touch()
    code, shown = halve(sweep)
    assert code == 1
    assert survivors(sweep)[0] == ["model.lora.rank=16", "model.lora.rank=32"]
    assert "out: model.lora.rank=8: rank_8-seed_2: failed (ended with exit code 1)" in shown


@pytest.mark.slow
def test_with_fail_fast_nothing_is_ranked_before_the_failure_is_cured(sweep: Path) -> None:
    (sweep / "rank_8-seed_2" / "fails").touch()
    code, shown = halve(sweep, fail_fast=True)
    assert code == 1
    assert "This rung is not ranked yet: the same command runs what is missing" in shown
    assert not (sweep / "halving.json").exists()
    (sweep / "rank_8-seed_2" / "fails").unlink()
    assert halve(sweep, fail_fast=True)[0] == 0
    assert survivors(sweep)[1] == ["model.lora.rank=8"]


def test_one_that_is_left_alone_goes_straight_to_the_end(sweep: Path) -> None:
    code, _ = halve(sweep, Rungs(steps=[100, 200], keep=0.25, metric="validation_loss", max_steps=400))
    assert code == 0
    assert trained(sweep)["rank_8-seed_1"] == [100, 400]


def test_other_rungs_or_runs_are_refused_beside_a_record(halved: tuple[Path, int, str]) -> None:
    sweep, *_ = halved
    others = Rungs(steps=[50], keep=0.5, metric="pass_at_2", max_steps=400)
    with pytest.raises(FolderError, match=r"holds another halving \(other rungs, metric\)"):
        halve(sweep, others)


def test_a_second_command_at_the_same_time_is_told(sweep: Path) -> None:
    with (
        locked(sweep / ".halving.lock"),
        pytest.raises(FolderTaken, match="another process runs this halving"),
    ):
        halve(sweep)


@pytest.mark.parametrize("state", ["done", "paused"])
def test_a_run_that_is_beyond_the_rung_is_refused_and_all_stay_as_they_are(sweep: Path, state: str) -> None:
    *others, folder = jobs(sweep)
    for run in (others[0], folder):  # trained by other commands
        config = run.read_config()
        config.optim.stop_after = None
        run.write("run.yaml", OmegaConf.to_yaml(config))
    folder.write_json("metrics.json", {"train": {"steps": 300}, "validation": {"loss": {"token_mean": 1.0}}})
    folder.update_status(step=300)
    folder.end(state)
    before = contents(sweep)
    with pytest.raises(FolderError, match="has been trained for 300 steps"):
        halve(sweep)
    assert contents(sweep) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


@pytest.mark.slow
def test_a_survivor_is_what_an_uninterrupted_run_gives(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arc_experiments", "experiment=smoke", "prompt=compact", "tracking=off",
               "data.limit=4", "prompt.max_length=600", "model.lora.dropout=0.1"]  # fmt: skip
    halved = [*command, "sweep=halving", "halving.rungs=[2]", "optim.learning_rate=1e-6,1e-3", "seed=1"]
    whole = [*command, "optim.learning_rate=1e-3", f"hydra.run.dir={tmp_path}/whole"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    for each in (halved, whole):
        subprocess.run(each, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (winner,) = tmp_path.glob("multirun/*/learning_rate_0.001")
    (loser,) = tmp_path.glob("multirun/*/learning_rate_1e_06")
    files = [folder / "adapter" / "adapter_model.safetensors" for folder in (winner, tmp_path / "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    metrics = [
        json.loads((folder / "metrics.json").read_text()) for folder in (winner, tmp_path / "whole", loser)
    ]
    assert metrics[0]["score"] == metrics[1]["score"]
    assert metrics[0]["validation"] == metrics[1]["validation"]
    assert "score" not in metrics[2], "nothing is answered at a rung that the loss decides"


def standing(name: str, *values: float, losses: tuple[float, ...] = (), failed: str = "") -> RungResult:
    return RungResult(
        configuration=name,
        values=dict(zip("abc", values, strict=False)),
        losses=dict(zip("abc", losses or values, strict=False)),
        failed={"d": failed} if failed else {},
    )


def test_more_is_better_for_a_score_and_less_for_a_loss() -> None:
    low, high = standing("low", 0.1, 0.2), standing("high", 0.3, 0.2)
    assert [row["configuration"] for row in rank([high, low], keep=0.5, metric="validation_loss")[0]] == [
        "low",
        "high",
    ]
    assert [row["configuration"] for row in rank([low, high], keep=0.5, metric="pass_at_2")[0]] == [
        "high",
        "low",
    ]


def test_the_ranking_shows_settings_with_brackets() -> None:
    rows, _ = rank([standing("augmentation=[order,swap]", 0.5)], keep=1.0, metric="pass_at_2")
    shown = io.StringIO()
    Console(file=shown, width=100).print(ranking_table(rows, "pass@2", "rung 1", is_last=False))
    assert "augmentation=[order,swap]" in shown.getvalue()


def test_ties_are_broken_by_the_loss_then_by_the_order_and_told() -> None:
    first, second = standing("first", 0.5, losses=(2.0,)), standing("second", 0.5, losses=(1.0,))
    rows, notes = rank([first, second], keep=0.5, metric="pass_at_2")
    assert [row["configuration"] for row in rows if row["goes_on"]] == ["second"]
    assert notes == ["tie: second and first have the same pass_at_2; the validation loss decided"]
    rows, notes = rank([first, first], keep=0.5, metric="pass_at_2")
    assert "the order of the sweep decided" in notes[0]


@pytest.mark.parametrize(
    ("count", "keep", "kept"),
    [(3, 0.5, 2), (4, 0.5, 2), (10, 0.1, 1), (30, 0.1, 3), (2, 0.01, 1), (3, 1.0, 3)],
)
def test_the_share_is_rounded_up(count: int, keep: float, kept: int) -> None:
    rows, _ = rank(
        [standing(str(number), number) for number in range(count)], keep=keep, metric="validation_loss"
    )
    assert sum(row["goes_on"] for row in rows) == kept


def test_configurations_differ_in_more_than_their_seeds(sweep: Path) -> None:
    assert list(configurations(jobs(sweep))) == [f"model.lora.rank={rank_}" for rank_ in RANKS]


@pytest.mark.parametrize(
    ("rungs", "log_steps", "steps"),
    [([100, 300], 1, [100, 300]), ([0.1, 0.3], 1, [100, 300]), ([0.1, 500], 30, [90, 500]), ([], 1, [])],
)
def test_a_rung_below_one_is_a_share_of_all_steps(
    rungs: list[float], log_steps: int, steps: list[int]
) -> None:
    assert rung_steps(Halving(rungs=rungs), Optim(max_steps=1000, log_steps=log_steps)) == steps


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["halving.rungs=[300,100]"], "must be steps that grow"),
        (["halving.rungs=[100]"], "below optim.max_steps=100 "),
        (["halving.rungs=[15]", "optim.log_steps=10"], "15 is not a multiple of optim.log_steps=10"),
        (["halving.rungs=[0.001]"], "must be steps that grow"),
        (["halving.rungs=[50]", "optim.stop_after=60"], "is set by halving.rungs"),
        (["halving.rungs=[50]", "optim.epochs=2"], "take optim.max_steps"),
        (["halving.rungs=[50]", "launch=slurm"], "take launch=local"),
        (["halving.rungs=[50]", "job=evaluate"], "take job=finetune"),
        (["halving.rungs=[50]", "halving.metric=pass_at_2", "inference.limit=0"], "no task to answer"),
    ],
)
def test_a_halving_that_cannot_be_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        compose_config(overrides)
