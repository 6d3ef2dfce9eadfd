"""Killed at ten random moments and restarted each time, a job ends with the bytes of an uninterrupted one."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from adapt_tools import OPTIONS, lasting_metrics, make_tasks
from test_adapt_command import finish, start
from toy_models import untrained

from arc_experiments.run import load_run

NUM_KILLS = 10
IN_STARTING = 0.2  # the share of the kills that come before there is any work done
SLOW = untrained(160, 560)  # enough to be killed at its work
EVALUATE = [
    *(option for option in OPTIONS if not option.startswith(("job", "optim", "augmentation"))),
    *SLOW,
    "job=evaluate", "inference.num_views=4", "inference.scoring_views=4", "inference.constrain=grid",
    "inference.max_new_tokens=48", "inference.batch_tokens=400",
]  # fmt: skip
SEARCH = [
    "job=adapt", "adapt.method=search_and_learn", "adapt.mode=joint", "adapt.rounds=4", "adapt.programs=96",
    "model=tiny_program", "data=draw", "data.source.side=[8,8]", "data.source.num_demonstrations=[1,1]",
    "data.validation_source.num_draws=[5]", "data.validation_source.num_tasks=4", "augmentation=none",
    "tracking=off", "hardware=cpu", "hardware.threads=1", "inference=one_view", "inference.temperature=0.9",
    "inference.limit=null", "inference.max_new_tokens=60", "optim.max_steps=6", "optim.batch_size=8",
]  # fmt: skip
UNDER_WAY = (".predictions", ".adapt")  # folders of what is kept
ADAPT = [*OPTIONS, *SLOW, "inference.constrain=grid", "optim.max_steps=10"]


def kept(folder: Path) -> int:
    """The bytes of what is kept of the work so far."""
    total = 0
    for name in UNDER_WAY:
        for where, _, files in os.walk(folder / name):  # what is removed meanwhile is passed over
            for file in files:
                with suppress(FileNotFoundError):  # it has just been given its name
                    total += (Path(where) / file).stat().st_size if ".json" in file else 0
    return total


def until_more_is_kept(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until the process has begun its work, or has ended."""
    before = kept(folder)
    while process.poll() is None and kept(folder) <= before:
        time.sleep(0.02)


def timed(folder: Path, *options: str) -> tuple[float, float]:
    """Run to the end; the seconds until something was kept, and from there on."""
    begin = time.monotonic()
    process = start(folder, *options)
    until_more_is_kept(folder, process)
    first = time.monotonic()
    finish(process)
    return first - begin, time.monotonic() - first


def killed_at_random(folder: Path, starting: float, working: float, *options: str) -> Iterator[list[float]]:
    """Start the command and kill it until ten kills have hit it; yield the seconds waited before each so far.

    The folder then holds a run that has come through. One that did so before the tenth kill is to be removed
    by the caller, and the next starts from nothing.
    """
    rng, moments = np.random.default_rng(), []
    while len(moments) < NUM_KILLS:
        process = start(folder, *options)
        if rng.random() < IN_STARTING:
            moment = rng.uniform(0, starting)
        else:
            until_more_is_kept(folder, process)
            # What an attempt has done stays done: ten of them together get through about all of it.
            moment = rng.uniform(0, 2 * working / NUM_KILLS)
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            moments.append(round(moment, 2))
        else:
            assert process.returncode == 0, moments
            yield moments
    finish(start(folder, *options))
    yield moments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "num_tasks", "files"),
    [
        (EVALUATE, 24, ("predictions.jsonl", "submission.json")),
        (ADAPT, 12, ("predictions.jsonl", "predictions_before.jsonl", "submission.json")),
        (SEARCH, 0, ("predictions.jsonl", "submission.json", "adapter/adapter_model.safetensors")),
    ],
)
def test_ten_random_kills_change_nothing(
    options: list[str], num_tasks: int, files: tuple[str, ...], tmp_path: Path
) -> None:
    if num_tasks:
        options = [*options, f"data.path={make_tasks(tmp_path / 'tasks', num_tasks)}"]
    unkilled, killed = tmp_path / "unkilled", tmp_path / "killed"
    for moments in killed_at_random(killed, *timed(unkilled, *options), *options):
        assert lasting_metrics(load_run(killed)) == lasting_metrics(load_run(unkilled)), moments
        for name in files:
            assert (killed / name).read_bytes() == (unkilled / name).read_bytes(), (name, moments)
        left = {path.name for path in killed.iterdir()} - {path.name for path in unkilled.iterdir()}
        assert not {name for name in left if not name.endswith(".tmp")}, "nothing half done stays"
        shutil.rmtree(killed)
