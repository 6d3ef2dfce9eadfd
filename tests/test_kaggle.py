"""experiment=kaggle as in a competition: a valid submission at every moment, the end by the deadline."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapt_tools import make_kaggle, make_tasks
from omegaconf import OmegaConf
from task_files import write
from test_adapt_command import finish, kill, start
from toy_models import untrained

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError, check
from arc_experiments.corpus.partitions import official
from arc_experiments.scoring.submission import check_submission
from arc_experiments.sources import Files
from arc_experiments.tasks import BadTasks, TaskSet

FILLER = {"attempt_1": [[0]], "attempt_2": [[0]]}
SMALL = [
    *untrained(160, 560), "experiment=kaggle", "from_run=null", "hardware=cpu", "hardware.threads=1",
    "prompt.max_length=256", "augmentation=[geometry,order]", "inference=one_view",
    "inference.max_new_tokens=8", "inference.constrain=grid", "model.lora.rank=4", "optim.learning_rate=5e-3",
]  # fmt: skip
NUM_TASKS = 4


class Watched:
    """A command, and every submission that was seen on disk while it ran."""

    def __init__(self, folder: Path, tasks: TaskSet, *overrides: str) -> None:
        self.began = time.monotonic()
        self.process = start(folder, *overrides)
        self.seen: list[dict[str, Any]] = []
        self._file, self._tasks = folder / "submission.json", tasks

    def until(self, happens: Callable[[], Any]) -> None:
        """Look at the file again and again: it is always whole, and answers every test input."""
        while self.process.poll() is None and not happens():
            self.look()
            time.sleep(0.005)

    def look(self) -> None:
        if not self._file.exists():
            assert not self.seen, "it is never taken away"
            return
        submission = json.loads(self._file.read_text())
        check_submission(submission, self._tasks)
        if not self.seen or submission != self.seen[-1]:
            self.seen.append(submission)

    def end(self) -> float:
        """The seconds that it took to its end."""
        self.until(lambda: False)
        finish(self.process)
        self.look()
        return time.monotonic() - self.began


@pytest.fixture(scope="module", params=["test", "evaluation"])
def kaggle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], TaskSet]:
    """Overrides for a set of Kaggle's, hidden answers or not, and its tasks."""
    folder = make_kaggle(tmp_path_factory.mktemp("tasks"), NUM_TASKS, solved=request.param == "evaluation")
    tasks = Files(path=str(folder), splits=[request.param]).read(BadTasks()).fixed
    if request.param == "evaluation":
        return [f"data.path={folder}", "data.source.splits=[training,evaluation]"], tasks
    try:
        official(tasks, tasks.ids)
    except ValueError:
        pytest.skip("tasks without solutions cannot be held out")
    return [f"data.path={folder}"], tasks


def num_fillers(submission: dict[str, Any]) -> int:
    return sum(entry == FILLER for entries in submission.values() for entry in entries)


@pytest.mark.slow
def test_a_killed_notebook_goes_on_and_each_task_improves_the_submission(
    kaggle: tuple[list[str], TaskSet], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    data, tasks = kaggle
    options = [*SMALL, *data, "optim.max_steps=80", "adapt.deadline_hours=1"]
    watched = Watched(folder, tasks, *options)
    watched.until(lambda: len(list((folder / ".adapt").glob("after-*.json"))) >= 2)
    kill(watched.process)
    assert num_fillers(watched.seen[0]) == tasks.num_test_outputs, "at first there was nothing else"
    killed_at = json.loads((folder / "submission.json").read_text())
    again = Watched(folder, tasks, *options)
    again.end()
    assert num_fillers(again.seen[0]) <= num_fillers(killed_at), "what was known stays known"
    assert num_fillers(again.seen[-1]) < tasks.num_test_outputs
    assert len(watched.seen) + len(again.seen) > 3, "it grew task by task"
    outcomes = json.loads((folder / "metrics.json").read_text())["adaptation"]["outcomes"]
    assert outcomes["whole"] == NUM_TASKS


@pytest.mark.slow
@pytest.mark.parametrize(
    "endless",
    [
        ["optim.max_steps=1000000"],  # training, which stops in time for an answer
        ["inference.max_new_tokens=900", "inference.num_views=500"],  # an answer, which is cut off
    ],
)
def test_the_end_comes_by_the_deadline(
    endless: list[str], kaggle: tuple[list[str], TaskSet], tmp_path: Path
) -> None:
    seconds, reserve = 60, 20
    folder = tmp_path / "run"
    data, tasks = kaggle
    watched = Watched(
        folder, tasks, *SMALL, *data, f"adapt.deadline_hours={seconds / 3600}",
        f"adapt.reserve_seconds={reserve}", *endless,
    )  # fmt: skip
    assert seconds / 3 < watched.end() < seconds
    outcomes = json.loads((folder / "metrics.json").read_text())["adaptation"]["outcomes"]
    assert sum(outcomes.values()) == NUM_TASKS
    if "optim.max_steps=1000000" in endless:
        assert outcomes["stopped_by_time"] == NUM_TASKS, "each has its share of the time"
    else:
        assert outcomes["cut_off_by_deadline"] == NUM_TASKS
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


def mount(inputs: Path, form: str) -> Path:
    """What a notebook has below /kaggle/input: the tasks, a base model, and a run with an adapter of it."""
    competition = inputs / form / "arc-prize-2026"
    competition.parent.mkdir(parents=True)
    make_kaggle(inputs.parent / "made", 2).rename(competition)
    write(inputs, "bundle/Qwen2.5-0.5B-Instruct/config.json", {})
    write(inputs, "bundle/run/adapter/adapter_config.json", {})
    earlier = compose_config(["model=qwen05", "inference=quick"])
    (inputs / "bundle/run/run.yaml").write_text(OmegaConf.to_yaml(earlier))
    return inputs


@pytest.mark.parametrize("form", ["", "competitions/"])
def test_one_command_finds_tasks_run_and_base_model_however_they_are_mounted(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = mount(tmp_path / "input", form)
    monkeypatch.setenv("KAGGLE_INPUT", str(inputs))
    config = check(compose_config(["experiment=kaggle"]))
    assert config.data.path == str(inputs / form / "arc-prize-2026")
    assert config.from_run == str(inputs / "bundle/run")
    assert config.model.adapter == str(inputs / "bundle/run/adapter")
    assert config.model.path == str(inputs / "bundle/Qwen2.5-0.5B-Instruct")
    assert config.inference.limit is None, "all tasks are answered, though the run itself answered few"


def test_what_is_mounted_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = mount(tmp_path / "input", "")
    shutil.copytree(inputs / "arc-prize-2026", inputs / "competitions/arc-prize-2026")
    monkeypatch.setenv("KAGGLE_INPUT", str(inputs))
    assert compose_config(["experiment=kaggle"]).data.path == str(inputs / "arc-prize-2026")


def test_what_is_not_mounted_or_ambiguous_is_named_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_INPUT", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"from_run=mounted: no folder below .*nothing holds a trained run"):
        compose_config(["experiment=kaggle"])
    inputs = mount(tmp_path / "input", "")
    shutil.copytree(inputs / "arc-prize-2026", inputs / "arc-prize-2025")
    monkeypatch.setenv("KAGGLE_INPUT", str(inputs))
    with pytest.raises(ConfigError, match=r"data\.path=\S+2025 or data\.path=\S+2026"):
        compose_config(["experiment=kaggle"])


def test_two_runs_whose_folders_have_the_same_name_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = mount(tmp_path / "input", "")
    shutil.copytree(inputs / "bundle" / "run", inputs / "another" / "run")
    monkeypatch.setenv("KAGGLE_INPUT", str(inputs))
    with pytest.raises(ConfigError, match=r"from_run=\S+another/run or from_run=\S+bundle/run"):
        compose_config(["experiment=kaggle"])


def test_it_takes_a_runs_model_and_prompt_but_kaggles_tasks(tmp_path: Path) -> None:
    kaggle = make_kaggle(tmp_path / "kaggle", 2)
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    options = [
        f"data.path={make_tasks(tmp_path / 'tasks', 2)}",
        "data.partition=official",
        "prompt.max_length=512",
    ]
    (run / "run.yaml").write_text(OmegaConf.to_yaml(compose_config(["data=files", *options])))
    config = check(compose_config(["experiment=kaggle", f"from_run={run}", f"data.path={kaggle}"]))
    assert (config.data.name, config.data.path) == ("kaggle", str(kaggle))
    assert config.data.source["splits"] == ["test"]
    assert (config.job.name, config.prompt.max_length) == ("adapt", 512)
    assert config.model.adapter == str(run / "adapter")
    assert config.adapt.deadline_hours is not None


def test_nvarcs_recipe_changes_training_and_answers_and_keeps_the_runs_model(tmp_path: Path) -> None:
    kaggle, run = make_kaggle(tmp_path / "kaggle", 2), tmp_path / "run"
    (run / "model").mkdir(parents=True)
    earlier = compose_config(["model.lora=null", "prompt=arc24", "inference=one_view"])
    (run / "run.yaml").write_text(OmegaConf.to_yaml(earlier))
    config = check(compose_config(["experiment=nvarc", f"from_run={run}", f"data.path={kaggle}"]))
    assert (config.model.path, config.prompt.name) == (str(run / "model"), "arc24")
    assert config.model.lora is not None, "of a new adapter on weights that were all trained"
    assert (config.model.lora.rank, config.model.lora.rslora) == (256, True)
    assert (config.optim.max_steps, config.optim.batch_size, config.optim.schedule) == (128, 1, "cosine")
    assert (config.inference.num_views, config.inference.threshold) == (16, 0.2)
    assert (config.data.source["splits"], config.adapt.deadline_hours) == (["test"], 11.5)
