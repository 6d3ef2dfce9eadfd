"""Evaluating one run again: what is identical, what a change does, and what is refused."""

import json
import sys
from pathlib import Path

import pytest
from study_tools import place

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.launching import pool
from arc_experiments.runs.folder import RunFolder
from arc_experiments.study.__main__ import main
from arc_experiments.study.repeat import usual_changes

__all__ = ["place"]

OVERRIDES = ["job=evaluate", "data=re_arc_held_out", "hardware.threads=1", "tracking=off"]
# Two test outputs; with two threads one log-probability is another, with another seed one answer is.
QUICK_WORKER = """
import pathlib, sys
import numpy as np
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.candidates import Candidate
folder = RunFolder(pathlib.Path(sys.argv[1]))
with folder.worked_on():
    config = folder.read_config()
    said = [config.seeds.inference, 7]
    folder.write("predictions.jsonl", "".join(
        Candidate(
            task_id="t", test_index=place, view=0, transforms="identity", text=str(value), num_tokens=1,
            log_probability=-0.5 - config.hardware.threads / 1000, grid=np.array([[value]]), reason=None,
        ).to_json() + "\\n" for place, value in enumerate(said)
    ))
    folder.write_json("submission.json", {"t": [{"attempt_1": [[v]], "attempt_2": [[v]]} for v in said]})
    share = float(config.seeds.inference == 1)
    folder.write_json("metrics.json", {
        "score": {"pass_at_2": share, "by_task": {"t": share}, "version": 2}, "seconds": {"total": 1.0},
    })
    folder.end("done")
"""


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished evaluation; what evaluates it again is over in a second."""
    monkeypatch.setattr(
        pool, "worker_command", lambda folder: [sys.executable, "-c", QUICK_WORKER, str(folder.path)]
    )
    folder = freeze(compose_config(OVERRIDES), place / "outputs" / "mine", OVERRIDES)
    folder.end("done")
    return folder.path


@pytest.mark.slow
def test_what_is_the_same_and_what_a_change_does_is_told_answer_by_answer(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["repeat", str(run), "hardware.threads=2", "seeds.inference=3", "--times=2"]) == 0
    home = Path("multirun/repeat-mine")
    found = {each["name"]: each for each in json.loads((home / "repeat.json").read_text())["evaluations"]}
    assert list(found) == ["same_1", "same_2", "threads_2", "inference_3"]
    assert [each["is_identical"] for each in found.values()] == [True, True, False, False]
    threads, seed = found["threads_2"], found["inference_3"]
    assert (threads["changed"], threads["changed_attempts"], threads["gain"]) == (0, 0, 0)
    assert threads["log_probability"] == pytest.approx(0.001)
    assert (seed["changed"], seed["answers"], seed["changed_attempts"], seed["lost"]) == (1, 2, 1, ["t"])
    assert RunFolder(home / "same_2").read_config().hardware.threads == 1, "all else is as it was"
    assert "identical" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hardware.thread=2"], "hardware.thread"),
        (["hardware.threads=-1"], "hardware.threads=-1 is too small"),
        (["threads"], "threads: a change is a key and a value"),
        (["--times=1"], "at least 2 are needed"),
    ],
)
def test_what_cannot_be_changed_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["repeat", str(run), *words]) == 2
    assert message in capsys.readouterr().out
    assert not Path("multirun").exists()


def test_only_a_finished_run_is_evaluated_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(run).end("failed", "it broke")
    assert main(["repeat", str(run)]) == 2
    assert "is failed (it broke): finish that run first" in capsys.readouterr().out
    assert main(["repeat", "nowhere"]) == 2
    assert "nowhere is not a run folder" in capsys.readouterr().out
    assert main(["repeat"]) == 2
    assert "needs the folder of a finished run" in capsys.readouterr().out


def test_the_usual_changes_are_changes(run: Path) -> None:
    config = RunFolder(run).read_config()
    assert [change[0] for change in usual_changes(config)] == [
        "hardware.threads=2", "inference.batch_tokens=8192", "model.attention=eager", "model.dtype=bfloat16",
        "seeds.inference=2",
    ]  # fmt: skip
