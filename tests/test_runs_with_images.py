"""Runs on ready rows with images: what is shown of them, what workers get, and what they exclude."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_compose import compose
from rich.console import Console
from toy_llama_vision import llama_vision
from toy_models import make_base

from arc_experiments.jobs import inspect
from arc_experiments.models.hub import ModelError
from arc_experiments.run import Run
from arc_experiments.training.dataset import make_row

ROWS = Path(__file__).with_name("synthetic_messages.py")


def run_on_images(folder: Path, *overrides: str) -> Run:
    return compose(
        ["data=custom", f"data.file={ROWS}", "model=custom_vision", f"model.path={llama_vision()}",
         "model.dtype=float32", "prompt=compact", "tracking=off", "hardware=cpu", "optim=quick", *overrides],
        folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_on_images(tmp_path_factory.mktemp("images"), "job=inspect", "inspect.num_counted=20")


def test_they_are_inspected_with_the_very_pixels(run: Run) -> None:
    inspect.main(run, Console(file=io.StringIO()))
    counts = json.loads((run.folder / "inspect.json").read_text())
    assert (counts["train"]["custom"]["samples"], counts["validation"]["samples"]) == (20, 3)
    page = (run.folder / "inspect.html").read_text()
    assert "ready row" in page
    assert "data:image/png;base64" in page


def test_workers_are_sent_the_same_rows(run: Run) -> None:
    stream = run.stream()
    here, there = make_row(stream, 3), make_row(pickle.loads(pickle.dumps(stream)), 3)
    assert np.array_equal(here["input_ids"], there["input_ids"])
    assert [each.digest for each in here["pictures"]] == [each.digest for each in there["pictures"]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.pack_length=8192", "optim.pack_length=8192 does not go with ready rows that have images"),
        ("hardware.per_device_batch_size=auto", "batch_size=auto does not go with ready rows that have"),
    ],
)
def test_what_images_exclude_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_on_images(tmp_path / "run", override).stream()


def test_a_model_of_text_is_refused(tmp_path: Path) -> None:
    base: Any = make_base(tmp_path / "base")
    with pytest.raises(ModelError, match="is a model of text alone, and prompt or data show pictures"):
        run_on_images(tmp_path / "run", "model=custom", f"model.path={base}").stream()
