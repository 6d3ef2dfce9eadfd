"""Tracking: what is sent to Weights & Biases, and that nothing it does ends a run."""

import functools
import io
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from rich.console import Console

import arc_experiments.__main__ as command
from arc_experiments import load_run
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.jobs import tracking
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.submission import ATTEMPTS, Submission
from arc_experiments.tasks.grids import PALETTE, to_pixels
from arc_experiments.tasks.task import Pair, Task, TaskSet

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


class FakeWandb:
    """Notes what it is called with; raises, or waits for ever, in the calls named."""

    def __init__(
        self, *, failing: tuple[str, ...] = (), hanging: str = "", go: threading.Event | None = None
    ) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._go = go  # what `init` waits for
        self._failing, self._hanging = failing, hanging
        self.summary = SimpleNamespace(update=lambda metrics: self._call("summary", metrics))
        self.Settings = wandb.Settings
        self.Image = wandb.Image

    def init(self, **options: Any) -> "FakeWandb":
        if self._go is not None:
            self._go.wait()
        self._call(f"init {options['mode']}", options)
        return self

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self._call("log", (step, values))

    def finish(self) -> None:
        self._call("finish", None)

    def teardown(self) -> None:
        self._call("teardown", None)

    def _call(self, name: str, values: Any) -> None:
        self.calls.append((name, values))
        if name == self._hanging:
            threading.Event().wait()
        if name in self._failing:
            raise RuntimeError(f"no {name} with {KEY}\nand more")

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeWandb]:
    def install(**options: Any) -> FakeWandb:
        stand_in = FakeWandb(**options)
        monkeypatch.setitem(sys.modules, "wandb", stand_in)
        return stand_in

    return install


@functools.cache
def composed(*overrides: str) -> DictConfig:
    return compose_config(["experiment=smoke", *overrides])


def make_folder(path: Path, *overrides: str) -> RunFolder:
    return freeze(composed(*overrides), path, [])


def track(folder: RunFolder, steps: range = range(21)) -> str:
    """A run with two losses sent and answers; what was shown in the terminal."""
    shown = io.StringIO()
    console = Console(file=shown, soft_wrap=True, width=200)
    tracker = Tracker(folder, load_run(folder.path).config, console)
    for step in steps:
        tracker.log(step, {"loss": float(step)})
    tracker.log_answers(*answered())
    tracker.finish({"score": {"pass_at_2": 0.5}})
    return shown.getvalue()


def answered(num_tasks: int = 6) -> tuple[TaskSet, Submission]:
    """Tasks of which the first is answered rightly at the second attempt, and one has no solution."""
    solution, wrong = np.full((2, 3), 4, dtype=np.uint8), [[1]]
    pair = Pair(input=np.zeros((5, 2), dtype=np.uint8), output=solution)
    hidden = Pair(input=pair.input, output=None)
    tasks = TaskSet(
        Task(id=f"t{number}", train=(pair,), test=(hidden if number == 2 else pair,))
        for number in range(num_tasks)
    )
    entry = dict.fromkeys(ATTEMPTS, wrong)
    attempts = {task.id: [entry] for task in tasks}
    attempts["t0"] = [dict(zip(ATTEMPTS, (wrong, solution.tolist()), strict=True))]
    return tasks, attempts


# What is sent


def test_a_run_is_named_grouped_and_tagged_by_its_composition(
    tmp_path: Path, fake: Callable[..., FakeWandb]
) -> None:
    stand_in = fake()
    folder = make_folder(tmp_path / "my-run")
    assert track(folder) == "", "nothing to say"
    (_, options) = stand_in.calls[0]
    assert (options["name"], options["group"], options["mode"]) == ("my-run", "arc1-tiny", "offline")
    assert options["tags"] == ["arc1", "tiny", "finetune"]
    track(make_folder(tmp_path / "named", "name=higher rank", "note=does it help?"))
    (_, options) = next(call for call in reversed(stand_in.calls) if call[0].startswith("init"))
    assert (options["name"], options["notes"]) == ("higher rank", "does it help?")
    (_, options) = stand_in.calls[0]
    assert options["config"]["optim"]["learning_rate"] == folder.read_config().optim.learning_rate


def test_a_group_that_is_named_stands(tmp_path: Path, fake: Callable[..., FakeWandb]) -> None:
    stand_in = fake()
    track(make_folder(tmp_path / "r", "tracking.group=mine"))
    assert stand_in.calls[0][1]["group"] == "mine"


def test_a_sweeps_jobs_share_its_folders_name_as_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    line = ["arc_experiments", "--multirun", "hydra.sweep.dir=there/ranks", "tracking.group=null,mine"]
    monkeypatch.setattr(sys, "argv", line)
    frozen = command.compose_and_freeze()
    assert frozen.mistakes == []
    assert [folder.read_config().tracking.group for folder in frozen.folders] == ["ranks", "mine"], (
        "what is named stands"
    )


def test_values_are_sent_as_means_of_several_steps_and_tasks_in_one_call(
    tmp_path: Path, fake: Callable[..., FakeWandb]
) -> None:
    stand_in = fake()
    track(make_folder(tmp_path / "r"))
    assert stand_in.names == ["init offline", "log", "log", "log", "log", "summary", "finish"]
    assert [values for name, values in stand_in.calls if name == "log"][:3] == [
        (0, {"loss": 0.0}), (10, {"loss": 5.5}), (20, {"loss": 15.5}),
    ]  # fmt: skip
    assert stand_in.calls[-2] == ("summary", {"score": {"pass_at_2": 0.5}})


def test_pictures_show_input_attempts_and_solution_of_a_few_tasks(
    tmp_path: Path, fake: Callable[..., FakeWandb]
) -> None:
    stand_in = fake()
    track(make_folder(tmp_path / "r", "tracking.num_images=3"))
    images = stand_in.calls[-3][1][1]["answers"]
    assert [image._caption for image in images] == [
        "t0, test 1, right: input, attempt 1, attempt 2, solution",
        "t1, test 1, wrong: input, attempt 1, attempt 2, solution",
        "t2, test 1, not judged: input, attempt 1, attempt 2",
    ]
    assert len({image.image.size for image in images}) == 1, "wandb shows a list in one size"
    first = np.asarray(images[0].image)
    assert first.shape[0] == 5 * 12 + 1, "as high as the highest grid"
    assert tuple(first[6, 6]) == (0, 0, 0)
    assert tuple(first[6, -6]) == (0xFF, 0xDC, 0x00)
    assert tuple(first[-1, -1]) == (255, 255, 255)


def test_no_pictures_are_sent_where_none_are_wanted(tmp_path: Path, fake: Callable[..., FakeWandb]) -> None:
    stand_in = fake()
    track(make_folder(tmp_path / "r", "tracking.num_images=0"))
    assert not any("answers" in values[1] for name, values in stand_in.calls if name == "log")


def test_pixels_are_squares_in_the_official_colours_between_lines() -> None:
    pixels = to_pixels(np.arange(10, dtype=np.uint8).reshape(2, 5), cell=4)
    assert (pixels.shape, pixels.dtype) == ((9, 21, 3), np.uint8)
    centres = pixels[2::4, 2::4].reshape(10, 3)
    assert tuple(f"#{bytes(colour.tolist()).hex().upper()}" for colour in centres) == PALETTE
    assert (pixels[::4] == 0x66).all()
    assert (pixels[:, ::4] == 0x66).all()


def test_off_and_other_processes_track_nothing(tmp_path: Path, fake: Callable[..., FakeWandb]) -> None:
    stand_in = fake()
    track(make_folder(tmp_path / "r", "tracking=off"))
    folder, console = make_folder(tmp_path / "s"), Console(file=io.StringIO())
    tracker = Tracker(folder, load_run(folder.path).config, console, is_main=False)
    tracker.log(0, {"loss": 1.0})
    tracker.log_answers(*answered())
    tracker.finish({})
    assert stand_in.calls == []


def test_values_wait_while_wandb_begins_in_the_background(
    tmp_path: Path, fake: Callable[..., FakeWandb]
) -> None:
    go = threading.Event()
    stand_in = fake(go=go)
    folder = make_folder(tmp_path / "r")
    tracker = Tracker(folder, load_run(folder.path).config, Console(file=io.StringIO()))
    tracker.log(0, {"loss": 3.0})
    tracker.begin()
    for step in range(1, 11):
        tracker.log(step, {"loss": 2.0})
    assert stand_in.calls == []
    go.set()
    tracker.settle()
    assert stand_in.calls[1:] == [("log", (0, {"loss": 3.0})), ("log", (10, {"loss": 2.0}))]
    for step in range(11, 21):
        tracker.log(step, {"loss": 1.0})
    assert stand_in.calls[-1] == ("log", (20, {"loss": 1.0})), "at once, from here on"


def test_a_job_that_ends_before_it_begins_makes_no_wandb_run(
    tmp_path: Path, fake: Callable[..., FakeWandb]
) -> None:
    stand_in = fake()
    folder = make_folder(tmp_path / "r")
    Tracker(folder, load_run(folder.path).config, Console(file=io.StringIO())).log(0, {"loss": 3.0})
    assert stand_in.calls == []


# Where it goes


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": KEY}, "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
    ],
)
def test_auto_is_online_with_a_key_unless_the_environment_says_otherwise(
    environment: dict[str, str],
    mode: str,
    tmp_path: Path,
    fake: Callable[..., FakeWandb],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in = fake()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert track(make_folder(tmp_path / "r")) == ""
    assert stand_in.names[0] == f"init {mode}"
    assert KEY not in repr(stand_in.calls), "the key stays in the environment"


def test_online_without_a_key_goes_on_offline(tmp_path: Path, fake: Callable[..., FakeWandb]) -> None:
    stand_in = fake()
    shown = track(make_folder(tmp_path / "r", "tracking=online"))
    assert shown == "note         tracking continues offline: WANDB_API_KEY is not set\n"
    assert stand_in.names[0] == "init offline"


def test_a_server_that_does_not_answer_makes_it_go_on_offline(
    tmp_path: Path, fake: Callable[..., FakeWandb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    stand_in = fake(failing=("init online",))
    shown = track(make_folder(tmp_path / "r", "tracking=online"))
    words = "tracking continues offline: RuntimeError: no init online with <WANDB_API_KEY>"
    assert shown == f"note         {words}\n", "one line"
    assert stand_in.names[:4] == ["init online", "teardown", "init offline", "log"]
    ids = [options["id"] for name, options in stand_in.calls if name.startswith("init")]
    assert ids[0] == ids[1]


# What goes wrong


@pytest.mark.parametrize("place", ["init offline", "log", "summary", "finish"])
def test_a_tracker_that_raises_is_a_warning_and_is_left_alone_after(
    place: str, tmp_path: Path, fake: Callable[..., FakeWandb], caplog: pytest.LogCaptureFixture
) -> None:
    stand_in = fake(failing=(place,))
    shown = track(make_folder(tmp_path / "r"))
    assert shown.startswith(f"note         tracking is off from here on: RuntimeError: no {place}")
    assert shown.count("\n") == 1
    assert stand_in.names[-1] == place, "nothing is tried after"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "and more" in caplog.text, "run.log has it whole"


@pytest.mark.parametrize("place", ["init offline", "log", "finish"])
def test_a_tracker_that_hangs_is_given_up(
    place: str, tmp_path: Path, fake: Callable[..., FakeWandb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.05)
    stand_in = fake(hanging=place)
    shown = track(make_folder(tmp_path / "r"))
    assert shown == "note         tracking is off from here on: no answer in 0.05 s\n"
    assert stand_in.names[-1] == place


# The real one


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run_and_all_of_it_lies_in_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "r")
    assert track(folder, range(11)) == ""
    assert track(folder, range(8, 21)) == "", "an interval that was sent before does no harm"
    parts = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    assert len({part.name.rpartition("-")[2] for part in parts}) == 1, "one id"
    for part in parts:
        assert len(list(part.glob("files/media/images/*.png"))) == 3, "of four two are alike"
        (record,) = part.glob("*.wandb")
        end = time.monotonic() + 30  # wandb's own process writes it when it comes to it
        while b"pass_at_2" not in record.read_bytes():
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.slow
def test_online_without_network_goes_on_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2)
    folder = make_folder(tmp_path / "r", "tracking=online")
    assert track(folder).startswith("note         tracking continues offline: ")
    (part,) = (folder / "wandb").glob("offline-run-*")
    assert any(part.glob("files/media/images/*.png"))
