"""Studies for tests: option files in a folder of the test's own, and runs that are over in a second."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from arc_experiments.config.user_code import folders

ROOT = Path(__file__).resolve().parents[1]
VALUES: dict[str, Any] = {
    "question": "Does a larger rank help?",
    "base": ["experiment=smoke", "tracking=off"],
    "arms": {"small": ["model.lora.rank=4"], "large": ["model.lora.rank=8"]},
    "seeds": [1, 2],
    "metric": "score.pass_at_2",
    "decide": {"matters": 0.01},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with the tests' own option files in conf/."""
    monkeypatch.setattr(folders, "_own", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "study").mkdir(parents=True)
    return tmp_path


def write_study(place: Path, name: str = "mine", **changes: Any) -> list[str]:
    """Write a study and return the words that name it on the command line."""
    values = {**VALUES, **changes}
    OmegaConf.save(OmegaConf.create(values), place / "conf" / "study" / f"{name}.yaml")
    return [name, f"--config-dir={place / 'conf'}"]
