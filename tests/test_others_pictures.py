"""Whether a model looks at its pictures: the validation loss with the pictures of other tasks."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_vision import make_tasks, vision_run

from arc_experiments import compose
from arc_experiments.jobs import evaluate, finetune
from arc_experiments.pictures import Picture, Style
from arc_experiments.prompts import Encoded
from arc_experiments.report.wording import pictures_warning
from arc_experiments.training.others_pictures import loss_differences, with_others_pictures
from arc_experiments.training.validation import Record

STYLE = Style(cell_pixels=8)


def grid(height: int, width: int, colour: int) -> np.ndarray:
    return np.full((height, width), colour, np.uint8)


def record(task_id: str, *grids: np.ndarray) -> Record:
    ids = np.arange(9, dtype=np.int32)
    pictures = tuple(Picture.of(each, STYLE) for each in grids)
    encoded = Encoded(input_ids=ids, labels=ids, num_prompt=5, pictures=pictures)
    return Record(task_id=task_id, source="s", asked=encoded, answer_length=4)


def colours(one: Record) -> list[int]:
    return [int(shown.max()) for picture in one.asked.pictures for row in picture.rows for shown in row]


def sizes(one: Record) -> list[tuple[int, int]]:
    return [picture.size for picture in one.asked.pictures]


def test_each_record_gets_the_pictures_of_another_task_and_keeps_its_text() -> None:
    own = [record("a", grid(2, 3, 1)), record("a", grid(2, 3, 2)), record("b", grid(2, 3, 3))]
    others = with_others_pictures(own)
    assert [colours(one) for one in others] == [[3], [3], [1]]
    for before, after in zip(own, others, strict=True):
        assert after.task_id == before.task_id
        assert after.asked.equals(before.asked)
        assert sizes(after) == sizes(before)


def test_pictures_of_the_same_sizes_come_first_then_as_many() -> None:
    a, b = record("a", grid(2, 2, 1), grid(3, 3, 1)), record("b", grid(4, 4, 2))
    c, d = record("c", grid(5, 5, 3), grid(5, 5, 3)), record("d", grid(2, 2, 4), grid(3, 3, 4))
    assert [colours(one) for one in with_others_pictures([a, b, c, d])] == [[4, 4], [3], [4, 4], [1, 1]]


def test_a_picture_of_another_shape_is_cut_or_repeated() -> None:
    small, large = np.array([[1, 2]], np.uint8), np.arange(9, dtype=np.uint8).reshape(3, 3)
    first, second = with_others_pictures([record("a", small), record("b", large)])
    assert first.asked.pictures[0].rows[0][0].tolist() == [[0, 1]]
    assert second.asked.pictures[0].rows[0][0].tolist() == [[1, 2, 1]] * 3


def test_a_sheet_keeps_its_layout() -> None:
    def sheet(task_id: str, colour: int) -> Record:
        one = record(task_id)
        rows = ((grid(2, 2, colour), grid(3, 1, colour)), (grid(1, 4, colour),))
        return replace(one, asked=replace(one.asked, pictures=(Picture(rows, STYLE),)))

    first, _ = with_others_pictures([sheet("a", 1), sheet("b", 2)])
    shapes = [[shown.shape for shown in row] for row in first.asked.pictures[0].rows]
    assert shapes == [[(2, 2), (3, 1)], [(1, 4)]]
    assert colours(first) == [2, 2, 2]


def test_one_task_alone_and_records_of_text_have_no_others() -> None:
    text = Record(task_id="c", source="s", asked=np.arange(4, dtype=np.int32), answer_length=2)
    assert with_others_pictures([record("a", grid(1, 1, 1)), record("a", grid(1, 1, 2)), text]) == []
    others = with_others_pictures([record("a", grid(1, 1, 1)), text, record("b", grid(1, 1, 2))])
    assert [one.task_id for one in others] == ["a", "b"]


def test_a_difference_is_paired_over_the_tasks_that_have_others_pictures() -> None:
    own = {"a": 0.1, "b": 0.5, "c": 0.2, "text": 9.0}
    difference, interval = loss_differences(own, {"a": 1.1, "b": 2.5, "c": 3.2})
    assert difference == pytest.approx(2.0)
    assert interval is not None
    assert 1.0 <= interval[0] < 2.0 < interval[1] <= 3.0
    assert loss_differences(own, {"a": 1.1, "b": 1.5})[1] is None, "resampling equal tasks says nothing"


@pytest.mark.parametrize(
    ("interval", "warned"), [([0.1, 0.3], False), ([-0.1, 0.3], True), ([-0.3, -0.1], True), (None, True)]
)
def test_a_warning_says_where_own_pictures_are_not_seen_to_help(interval: Any, warned: bool) -> None:
    others = {"difference": 0.123, "interval": interval, "num_tasks": 80, "token_mean": 1.0}
    warning = pictures_warning(others)
    assert (warning is not None) == warned
    if warning is not None:
        assert "the loss is +0.1230 in the mean of a task (" in warning
        assert ("95% interval" in warning) == (interval is not None)


EVALUATED = [
    "job=evaluate", "data=see", "data.validation_source.num_tasks=1", "prompt=picture_compact",
    "prompt.max_length=512", "augmentation=none", "model.name=see_start", "model.lora=null",
    "model.dtype=float32", "inference.limit=1", "inference.max_new_tokens=2", "inference.num_views=1",
    "inference.force=true", "tracking=off", "hardware=cpu",
]  # fmt: skip


@pytest.mark.slow
def test_the_loss_with_others_pictures_is_beside_the_loss(tmp_path: Path, see_start: Path) -> None:
    run = compose([*EVALUATED, f"model.path={see_start}"], tmp_path / "run")
    console = Console(record=True, width=200)
    evaluate.main(run, console)
    validation = run.folder.read_json("metrics.json")["validation"]
    own, others = validation["loss"], validation["loss_with_others_pictures"]
    assert others["by_task"].keys() == own["by_task"].keys()
    assert others["by_task"] != own["by_task"]
    assert others["difference"] == pytest.approx(others["task_mean"] - own["task_mean"])
    assert "with the pictures of other tasks" in console.export_text()
    page = (run.folder / "report.html").read_text()
    assert "with the pictures of other tasks" in page
    (request,) = run.requests
    assert page.count("data:image/png") == len(request.encoded.pictures) == 1
    assert f"1 picture in a prompt of {len(request.ids)} tokens (view identity)" in page

    model = run.model(trainable=False)
    run.config.hardware.per_device_batch_size = 3
    del run.__dict__["per_device_batch_size"]
    again = run.loss_with_others_pictures(model)
    assert again is not None
    assert again.token_mean == pytest.approx(others["token_mean"], abs=1e-6)


@pytest.mark.slow
def test_the_estimate_of_a_training_includes_the_loss_with_others_pictures(tmp_path: Path) -> None:
    tasks = make_tasks(tmp_path / "tasks", 2)
    run = vision_run("idefics3", tasks, tmp_path / "run", "optim.max_steps=6", "inference.limit=0")
    console = Console(record=True, width=200)
    finetune.main(run, console)
    said = console.export_text()
    assert "more (1 validation and one with others' pictures included)" in said
    assert re.search(r"^validation +0/6 loss \d\.\d{4}$", said, re.MULTILINE), "as it happens"
    assert "loss_with_others_pictures" in run.folder.read_json("metrics.json")["validation"]
