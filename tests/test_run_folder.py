"""Run folders: names from the composition, refusals with differences, one worker at a time, whole files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from task_files import GOOD, write

import arc_experiments.__main__ as command
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze, stop_at
from arc_experiments.composing.naming import (
    NOT_PART_OF_THE_RUN,
    composition_hash,
    folder_name,
    job_name,
    slug,
)
from arc_experiments.config.check import check
from arc_experiments.config.paths import absolute_path
from arc_experiments.config.schema import Command, PromptOptions, Slurm, TemplateOptions
from arc_experiments.runs import folder as run_folder
from arc_experiments.runs.folder import EVERYTHING, FolderError, RunFolder, find_runs
from arc_experiments.runs.run_state import FAILED, RunState

ROOT = Path(__file__).resolve().parents[1]
Start = Callable[..., list[Path]]


@pytest.fixture(scope="module")
def default() -> DictConfig:
    return compose_config([])


def changed(config: DictConfig, **values: Any) -> DictConfig:
    """A copy with some values changed; `__` stands for the dot."""
    copy = config.copy()
    OmegaConf.set_struct(copy, False)  # a mapping that is empty takes names
    for key, value in values.items():
        OmegaConf.update(copy, key.replace("__", "."), value, merge=isinstance(value, dict))
    return copy


# Names


def test_a_name_says_job_data_and_model(default: DictConfig) -> None:
    assert re.fullmatch("arc1-tiny-[0-9a-f]{8}", folder_name(default))
    evaluation = changed(default, job__name="evaluate", data__name="a b/c", model__name="x=1,2")
    assert re.fullmatch("evaluate-a_b_c-x_1_2-[0-9a-f]{8}", folder_name(evaluation))


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    if OmegaConf.is_dict(node) and len(node):
        for key in node:
            yield from leaves(node[key], f"{prefix}.{key}".lstrip("."))
    else:
        yield prefix


@pytest.mark.slow
def test_everything_but_where_and_how_changes_the_hash(default: DictConfig) -> None:
    keys = list(leaves(default))
    assert len(keys) > 70
    kept = [
        key for key in keys if composition_hash(with_another_value(default, key)) == composition_hash(default)
    ]
    elsewhere = tuple(f"{name}." for name in NOT_PART_OF_THE_RUN)
    assert kept == [key for key in keys if f"{key}.".startswith(elsewhere)]
    groups = {key.partition(".")[0] for key in kept}
    assert groups == {name.partition(".")[0] for name in NOT_PART_OF_THE_RUN}
    assert [key for key in kept if key.startswith("optim")] == ["optim.stop_after"]


def with_another_value(config: DictConfig, key: str) -> DictConfig:
    """A copy in which one leaf has another value of its type."""
    old = OmegaConf.select(config, key)
    old = list(old) if OmegaConf.is_list(old) else old
    longer = [[*old, "x"], [*old, 12345]] if isinstance(old, list) else []
    for value in longer or (
        True,
        12345,
        0.4321,
        "other",
        {"a": {"name": "b"}},
        PromptOptions(name="b"),
        TemplateOptions(answer="b"),
        Slurm(),
        Command(template="t", submit="s"),
        [1],
        False,
    ):
        try:
            copy = changed(config, **{key: value})
        except (ValueError, TypeError, AttributeError):  # the last: a dict for an optional section
            continue
        if OmegaConf.select(copy, key) != old:
            return copy
    raise AssertionError(f"no other value for {key}={old!r}")


def test_the_order_of_augmentations_is_part_of_the_run(default: DictConfig) -> None:
    copy = default.copy()
    copy.augmentation = dict(reversed(copy.augmentation.items()))
    assert composition_hash(copy) != composition_hash(default)


def test_the_hash_does_not_depend_on_pythonhashseed(default: DictConfig) -> None:
    code = (
        "from arc_experiments.composing.compose import compose_config as c\n"
        "from arc_experiments.composing.naming import folder_name\n"
        "print(folder_name(c([])))"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert answer.stdout.strip() == folder_name(default), answer.stderr


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["seed=1"], "seed_1"),
        (["seed=1", "model.lora.rank=16"], "rank_16-seed_1"),
        (["model.lora.rank=16", "seed=1"], "rank_16-seed_1"),
        (["optim.name=a", "data.name=b"], "data.name_b-optim.name_a"),
        (["augmentation=[geometry,colours]"], "augmentation_geometry_colours"),
        (["optim.learning_rate=1e-4"], "learning_rate_1e_4"),
        (["+model.lora.rank=4"], "rank_4"),
        (["~augmentation.swap"], "swap_"),
        ([], "job"),
    ],
)
def test_a_sweep_job_is_named_after_what_is_swept(overrides: list[str], name: str) -> None:
    assert job_name(overrides) == name
    assert not set(name) & set("=, /[]'\""), "could not stand in an override"


def test_a_long_value_is_cut_short() -> None:
    assert len(slug("x" * 500)) == 60
    assert slug("x" * 500) != slug("x" * 501), "what is cut off still tells them apart"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """The command up to the point where workers start: gives the folders that it would start them on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it; this puts it back
    started: list[Path] = []

    def sweep(folders: list[RunFolder], *others: Any) -> int:
        started.extend(folder.path for folder in folders)
        return 0

    monkeypatch.setattr(command, "become_worker", lambda folder: started.append(folder.path))
    monkeypatch.setattr(command, "run_sweep", sweep)

    def run(*arguments: str, code: int = 0) -> list[Path]:
        started.clear()
        monkeypatch.setattr(sys, "argv", ["arc_experiments", *arguments])
        assert (command.main() or 0) == code  # nothing where a worker has become this process
        return [path.absolute().relative_to(tmp_path) for path in started]

    return run


def test_the_command_names_a_run_as_a_notebook_does(start: Start, default: DictConfig) -> None:
    assert start() == [Path("outputs") / folder_name(default)]
    with_options = ["data=arc2", "seed=3", "optim.max_steps=7"]
    assert start(*with_options) == [Path("outputs") / folder_name(compose_config(with_options))]


@pytest.mark.slow
def test_the_same_command_finds_its_folder_again(start: Start) -> None:
    first = start("seed=3")
    assert start("seed=3", "hardware=cpu", "tracking=off") == first
    assert start("seed=4") != first


@pytest.mark.slow
def test_a_folder_can_be_named_by_hand(start: Start) -> None:
    assert start("hydra.run.dir=here/x") == [Path("here/x")]
    # The last ones are written otherwise by Hydra: True, 300.0.
    for beside in (
        ["tracking=off"],
        ["launch.max_parallel=2"],
        ["launch.fail_fast=true", "adapt.seconds=3e2"],
    ):
        jobs = start("--multirun", "hydra.sweep.dir=there", "seed=1,2", *beside)
        assert jobs == [Path("there/seed_1"), Path("there/seed_2")], "named by what is swept alone"


@pytest.mark.slow
def test_a_sweep_folder_is_named_by_what_is_not_swept(start: Start, default: DictConfig) -> None:
    few = start("--multirun", "seed=1,2")
    assert [path.name for path in few] == ["seed_1", "seed_2"]
    assert {path.parent for path in few} == {Path("multirun") / folder_name(default)}
    assert start("--multirun", "seed=1,4")[0] == few[0], "adding a value costs one job"
    (other,) = start("--multirun", "seed=choice(2)", "optim.max_steps=7")
    assert other.parent != few[0].parent


def test_an_evaluation_is_named_after_the_run_it_takes(start: Start, tmp_path: Path) -> None:
    overrides = ["data=arc2"]
    run = freeze(compose_config(overrides), tmp_path / "run", overrides)
    (run / "adapter").mkdir()
    (path,) = start("job=evaluate", f"from_run={run.path}")
    assert path.name.startswith("evaluate-arc2-tiny-")


@pytest.mark.slow
def test_a_mistake_leaves_no_run_folder_behind(start: Start, tmp_path: Path) -> None:
    assert start("model.lora.rank=0", code=2) == []
    assert start("--multirun", "seed=1", "model.lora.rank=0,-1", code=2) == []
    assert list(tmp_path.rglob("run.yaml")) == []


# Freezing


def test_a_frozen_run_reads_back_as_it_was(default: DictConfig, tmp_path: Path) -> None:
    folder = freeze(default, tmp_path / "run", ["seed=1"])
    assert folder.read_config() == default
    assert composition_hash(folder.read_config()) == composition_hash(default)
    command = ["python", "-m", "arc_experiments", "seed=1"]
    assert folder.read_json("environment.json") == {"command": command, "directory": str(Path.cwd())}
    assert "${" not in (folder / "run.yaml").read_text()


def test_run_yaml_is_what_omegaconf_writes(default: DictConfig, tmp_path: Path) -> None:
    folder = freeze(default, tmp_path / "run", [])
    assert (folder / "run.yaml").read_text() == OmegaConf.to_yaml(default, resolve=True)


def test_the_same_composition_may_be_frozen_again(default: DictConfig, tmp_path: Path) -> None:
    first = freeze(default, tmp_path / "run", [])
    elsewhere = changed(default, hardware__num_workers=2, optim__stop_after=3, tracking__mode="off")
    again = freeze(elsewhere, tmp_path / "run", [])
    assert again.path == first.path
    assert again.read_config().hardware.num_workers == 2


def test_another_composition_is_refused_with_its_differences(default: DictConfig, tmp_path: Path) -> None:
    folder = freeze(default, tmp_path / "run", [])
    before = (folder / "run.yaml").read_bytes()
    other = changed(default, seed=2, model__lora__rank=8, hardware__num_workers=2)
    with pytest.raises(FolderError) as raised:
        freeze(other, tmp_path / "run", [])
    message = str(raised.value)
    assert "seed: 1 -> 2\n" in message
    assert "model.lora.rank: 32 -> 8\n" in message
    assert "num_workers" not in message
    assert "resume=false" in message
    assert (folder / "run.yaml").read_bytes() == before


def test_a_whole_part_that_is_gone_is_a_difference(default: DictConfig, tmp_path: Path) -> None:
    freeze(default, tmp_path / "run", [])
    with pytest.raises(FolderError, match=r"model\.lora: \(absent\) -> None"):
        freeze(changed(default, model__lora=None), tmp_path / "run", [])


def test_resume_false_goes_beside(default: DictConfig, tmp_path: Path) -> None:
    fresh = changed(default, resume=False)
    names = [freeze(fresh, tmp_path / "run", []).path.name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


def test_freezing_again_keeps_what_the_worker_noted(default: DictConfig, tmp_path: Path) -> None:
    folder = freeze(default, tmp_path / "run", [])
    folder.write_json("environment.json", {**folder.read_json("environment.json"), "commit": "abc"})
    freeze(default, tmp_path / "run", ["seed=1"])
    noted = folder.read_json("environment.json")
    assert noted["command"] == ["python", "-m", "arc_experiments", "seed=1"]
    assert noted["commit"] == "abc"


@pytest.mark.slow
def test_relative_paths_are_found_again_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "else").mkdir()
    write(tmp_path / "mine", "a.json", GOOD)
    (tmp_path / "rows.py").write_text("def puzzles(config, processor, split): return []\n")
    monkeypatch.chdir(tmp_path)
    options = [
        "data=mix", "+data@data.sources.a=files", "data.sources.a.path=mine", "+data.weights.a=1",
        "+data@data.sources.b=custom", "data.sources.b.file=rows.py:puzzles", "+data.weights.b=1",
    ]  # fmt: skip
    typed = compose_config(options)
    run = freeze(typed, tmp_path / "run", options)
    assert run.read_config() == typed, "in the directory itself they stay as they were typed"
    monkeypatch.chdir(tmp_path / "else")
    elsewhere = check(run.read_config())
    mine, rows = str(tmp_path / "mine"), f"{tmp_path / 'rows.py'}:puzzles"
    sources = elsewhere.data.sources
    assert (sources["a"].path, sources["a"].source["path"]) == (mine, mine)
    assert (sources["b"].file, sources["b"].source["file"]) == (rows, rows)
    assert elsewhere.model.path == "package:tiny"
    (run / "adapter").mkdir()
    evaluation = compose_config(["job=evaluate", f"from_run={run.path}"])
    assert evaluation.data.sources.b.file == rows
    freeze(evaluation, tmp_path / "evaluation", [])
    stop_at(run, 5)
    monkeypatch.chdir(tmp_path)
    assert freeze(typed, run.path, options).path == run.path, "the same command still finds its folder"
    monkeypatch.chdir(tmp_path / "else")
    write(tmp_path / "else" / "mine", "a.json", GOOD)
    with pytest.raises(FolderError, match=rf"data\.sources\.a\.path: {mine} -> {tmp_path}/else/mine"):
        freeze(typed, run.path, options)


def test_only_what_is_there_becomes_absolute(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "a:b.py").touch()
    for typed in ("", "gpt2", "owner/name", "package:tiny", "~/x", "/nowhere/x", "gone.py:f"):
        assert absolute_path(typed, tmp_path) == typed
    assert absolute_path(".", tmp_path) == str(tmp_path)
    assert absolute_path("a:b.py", tmp_path) == f"{tmp_path}/a:b.py"
    assert absolute_path("a:b.py:f", tmp_path) == f"{tmp_path}/a:b.py:f"


@pytest.mark.slow
def test_a_run_inside_a_run_is_listed_and_announced(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job, _) = start("--multirun", "seed=1,2")
    assert "note:" not in capsys.readouterr().err
    monkeypatch.chdir(tmp_path / job)
    (new,) = start("seed=3")
    inside = tmp_path / new
    assert inside.parents[1] == tmp_path / job
    assert f"is written inside it, to {inside}." in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert inside in [run.path.absolute() for run in find_runs(EVERYTHING)]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"is not a run folder: it has no run\.yaml"):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize("line", ["colour_of_the_optimizer: red", "seed: red"])
def test_a_run_of_another_version_is_refused_with_the_key(
    line: str, default: DictConfig, tmp_path: Path
) -> None:
    folder = freeze(default, tmp_path / "run", [])
    values = OmegaConf.to_container(default) | OmegaConf.to_container(OmegaConf.create(line))
    folder.write("run.yaml", OmegaConf.to_yaml(values))
    with pytest.raises(
        FolderError, match=r"run\.yaml was written by another version of arc_experiments: .*re?d?"
    ):
        folder.read_config()


# Files are whole or absent


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write("a.txt", "old")
    folder.write("a.txt", "new \N{GREEK SMALL LETTER ALPHA}")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new \N{GREEK SMALL LETTER ALPHA}"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"], "no temporary file stays"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("a.json", {"old": 1})
    with pytest.raises(TypeError):
        folder.write_json("a.json", {"new": object()})

    def full(self: Path, text: str, encoding: str, errors: str) -> int:
        self.write_bytes(text[:3].encode(encoding))
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        folder.write_json("a.json", {"new": 1})
    assert folder.read_json("a.json") == {"old": 1}


# Who works on it


def test_status_tells_who_works_and_how_it_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.status == {}
    assert not folder.is_done
    with folder.worked_on():
        running = folder.status
        assert (running["state"], running["pid"], running["attempt"]) == ("running", os.getpid(), 1)
        folder.update_status(step=5)
        folder.end("failed", "out of memory")
    failed = folder.status
    assert (failed["state"], failed["error"], failed["step"]) == ("failed", "out of memory", 5)
    assert failed["ended"] >= failed["started"]
    with folder.worked_on():
        again = folder.status
        assert (again["state"], again["error"], again["ended"], again["attempt"]) == (
            "running",
            None,
            None,
            2,
        )
        assert again["started"] == failed["started"]
        assert again["step"] == 5
        folder.end("done")
    assert folder.is_done


def test_the_heartbeat_goes_on_while_the_folder_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "HEARTBEAT_SECONDS", 0.01)
    folder = RunFolder(tmp_path)
    with folder.worked_on():
        os.utime(folder / "status.json", (0, 0))
        deadline = time.monotonic() + 5
        while (folder / "status.json").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (folder / "status.json").stat().st_mtime > 0
    os.utime(folder / "status.json", (0, 0))
    time.sleep(0.05)
    assert (folder / "status.json").stat().st_mtime == 0, "it ends with the work"


@pytest.mark.slow
def test_a_run_that_is_being_worked_on_keeps_its_files(tmp_path: Path) -> None:
    folder = freeze(compose_config([]), tmp_path, [])
    with folder.worked_on():
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "status.json"}
        longer = ["optim.stop_after=50", "hardware.threads=1"]
        freeze(compose_config(longer), tmp_path, longer)
        assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
        with pytest.raises(FolderError, match="holds another run"):
            freeze(compose_config(["seed=2"]), tmp_path, ["seed=2"])
    freeze(compose_config(longer), tmp_path, longer)
    assert folder.read_config().optim.stop_after == 50


HOLDER = """
import sys, pathlib
from arc_experiments.runs.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).worked_on():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_ended(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        before = (tmp_path / "status.json").read_bytes()
        refusal = pytest.raises(
            FolderError, match=f"being worked on by process {holder.pid} on .*resume=false"
        )
        with refusal, RunFolder(tmp_path).worked_on():
            pytest.fail("two processes hold one folder")
        assert (tmp_path / "status.json").read_bytes() == before, "the refused one changes nothing"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert json.loads(before)["state"] == "running"
    with RunFolder(tmp_path).worked_on():
        assert RunFolder(tmp_path).status["attempt"] == 2


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_process_whose_folder_has_been_removed_ends(tmp_path: Path, is_made_anew: bool) -> None:
    path = tmp_path / "run"
    path.mkdir()
    quick = "from arc_experiments.runs import folder as run_folder; run_folder.HEARTBEAT_SECONDS = 0.05"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{quick}\n{HOLDER}", str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    if is_made_anew:
        other = tmp_path / "other"
        other.mkdir()
        with RunFolder(other).worked_on():
            path.rename(tmp_path / "removed")
            other.rename(path)
            assert holder.wait(30) == 1
        assert RunFolder(path).status["pid"] == os.getpid()
    else:
        shutil.rmtree(path)
        assert holder.wait(30) == 1
        assert not path.exists()
    assert "has been removed: this process ends" in holder.communicate()[1]


def test_a_folder_is_shown_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(RunFolder(tmp_path / "outputs" / "x")) == "outputs/x"
    assert str(RunFolder(Path("outputs/x"))) == "outputs/x"
    assert str(RunFolder(tmp_path.parent / "x")) == str(tmp_path.parent / "x")


def test_an_error_that_announces_a_list_is_told_with_its_first_item() -> None:
    assert RunState(name=FAILED, error="two files are bad:\n  a.json: no\n  b.json").headline == (
        "two files are bad: a.json: no"
    )
    assert RunState(name=FAILED, error="it failed\nTraceback").headline == "it failed"
    assert RunState().headline == ""
