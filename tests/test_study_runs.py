"""Studies with real, tiny runs in real processes: killed and resumed, they answer as if undisturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from study_tools import write_study
from toy_models import untrained

from arc_experiments.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "experiment=study", "data.num_validation=2", "optim.max_steps=4", "optim.save_steps=2",
    "optim.batch_size=1", "optim.eval_steps=2", "hardware=cpu", "hardware.threads=1",
]  # fmt: skip


def start(words: list[str], place: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "arc_experiments.study", *words, "launch.max_parallel=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=place, env=environment, text=True, **pipes)


def answer(home: Path) -> dict[str, Any]:
    found = json.loads((home / "study.json").read_text())
    return {key: value for key, value in found.items() if key != "cost"}


def num_done(home: Path) -> int:
    return sum(RunFolder(file.parent).state.name == "done" for file in home.glob("*/run.yaml"))


@pytest.mark.slow
def test_a_study_that_was_killed_and_resumed_gives_the_same_json_as_one_from_scratch(tmp_path: Path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    words = write_study(
        tmp_path,
        base=[*SMALL, *untrained()],
        before={"first": []},
        arms={"fresh": ["model.adapter=<first>/adapter"],
              "moments": ["model.adapter=<first>/adapter", "optim.load_state=<first>"]},
        metric="validation.loss.task_mean",
        decide={"matters": 0.1},
    )  # fmt: skip
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    study = start([*words, f"--folder={killed}"], tmp_path)
    while num_done(killed) < 3:  # of six
        assert study.poll() is None, study.communicate()[0]
        time.sleep(0.5)
    study.send_signal(signal.SIGKILL)
    study.wait()
    done = {file.parent.name for file in killed.glob("*/metrics.json")}
    for home in (killed, whole):
        study = start([*words, f"--folder={home}"], tmp_path)
        shown, _ = study.communicate(timeout=1500)
        assert study.returncode == 0, shown
    assert answer(killed) == answer(whole)
    assert answer(whole)["answer"][0]["verdict"] is not None
    assert len(answer(whole)["learning_curves"]["fresh"]) >= 2
    attempts = {name: RunFolder(killed / name).status["attempt"] for name in done}
    assert attempts == dict.fromkeys(done, 1), "what was finished stayed"
