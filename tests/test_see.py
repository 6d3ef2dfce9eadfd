"""The package's vision model, and the experiment that shows it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_compose import compose
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoProcessor

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.config.paths import local_path
from arc_experiments.jobs import finetune
from arc_experiments.jobs.estimate import answering_seconds
from tools.make_models import WEIGHTS, make_config
from tools.make_re_arc_tasks import REPEATED
from tools.make_vision_model import NAME, start_from_tiny, write_files

MOST_BYTES = 6_000_000
FEWER = ("data.validation_source.num_tasks=10", "optim.max_steps=10", "optim.warmup=2")


def test_the_vision_model_is_what_its_files_are_made_to_be(tmp_path: Path) -> None:
    folder = Path(local_path(f"package:{NAME}"))
    write_files(tmp_path)
    for file in tmp_path.iterdir():
        assert json.loads((folder / file.name).read_text()) == json.loads(file.read_text()), file.name
    assert sum(file.stat().st_size for file in folder.iterdir()) < MOST_BYTES


def test_its_training_starts_from_the_small_model(tmp_path: Path) -> None:
    start_from_tiny(tmp_path)
    start, tiny = load_file(tmp_path / WEIGHTS), load_file(Path(local_path("package:tiny")) / WEIGHTS)
    for name, value in tiny.items():
        assert start[name.replace("model.", "model.text_model.", 1)].equal(value), name
    assert {"text_model" in name for name in start} == {True, False}
    assert json.loads((tmp_path / "config.json").read_text())["text_config"]["hidden_size"] == (
        make_config("tiny").hidden_size
    )


@pytest.mark.slow
def test_a_wholly_trained_vision_model_is_saved_with_its_processor(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start_from_tiny(start)
    run = compose(
        ["experiment=pretrain_see", f"model.path={start}", "data.validation_source.num_tasks=1"],
        tmp_path / "run",
    )
    folder = run.save_weights(run.model())
    assert AutoProcessor.from_pretrained(folder).image_seq_len == run.pictures.processor.image_seq_len
    again = compose(
        ["experiment=pretrain_see", f"model.path={folder}", "data.validation_source.num_tasks=1"],
        tmp_path / "again",
    )
    task = run.validation_tasks[run.validation_tasks.ids[0]]
    assert again.prompt.encode(task).equals(run.prompt.encode(task))


def test_the_held_out_tasks_are_left_out_of_its_training() -> None:
    sources = check(compose_config(["experiment=pretrain_see_re_arc"])).data.sources
    with open(local_path("package:re_arc/held_out.json")) as file:
        held_out = set(json.load(file))
    generated = [source for source in sources.values() if source.trains and "leave_out" in source.source]
    assert len(generated) == 2
    for source in generated:
        assert set(source.source["leave_out"]) == held_out | REPEATED


@pytest.mark.slow
def test_experiment_see_reads_copies_and_recolours_from_pictures_alone(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    run = compose(["experiment=see", *FEWER], tmp_path / "see")
    estimated = answering_seconds(run, run.model())
    assert estimated is not None
    assert estimated.about < 120, "prompts with pictures are not cut to measure, which once gave hours"
    finetune.main(run, Console(file=io.StringIO()))
    metrics: dict[str, Any] = json.loads((tmp_path / "see" / "metrics.json").read_text())
    solved = {name: row["pass_at_2"] for name, row in metrics["score"]["by_group"]["concept"].items()}
    assert solved["read"] >= 0.9
    assert solved["copy"] >= 0.5
    assert solved["recolour"] >= 0.4
    others = metrics["validation"]["loss_with_others_pictures"]
    assert others["interval"][0] > 0.2, "it looks at its pictures"
    assert "data:image/png" in (tmp_path / "see" / "report.html").read_text()
