"""Batches with pictures: the same whoever makes them, and small on their way from worker processes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_compose import compose
from torch.utils.data import DataLoader
from toy_vision import vision_model

from arc_experiments.pictures import Picture, Style
from arc_experiments.pictures.cell_table import CellTable
from arc_experiments.run import Run
from arc_experiments.training.dataset import Collator, as_dataset, make_row

OPTIONS = [
    "data=see", "data.validation_source.num_tasks=1", "prompt=picture_compact", "prompt.max_length=2000",
    "prompt.cell_pixels=null", "augmentation=none", "model=custom_vision", "tracking=off", "hardware=cpu",
    "hardware.threads=1", "optim.max_steps=3", "optim.batch_size=2", "optim.warmup=0", "optim.log_steps=1",
    "model.dtype=float32",
]  # fmt: skip


def run_of(family: str, folder: Path, *more: str) -> Run:
    torch.set_num_threads(1)
    return compose([*OPTIONS, f"model.path={vision_model(family)}", *more], folder)


@pytest.mark.parametrize(("family", "looked_up"), [("qwen2_5_vl", True), ("idefics3", False)])
def test_a_worker_leaves_what_is_looked_up_to_the_training_process(
    family: str, looked_up: bool, tmp_path: Path
) -> None:
    run = run_of(family, tmp_path)
    collator = Collator(run.prompt.pad_id, run.picture_inputs)
    dataset = as_dataset(run.stream(), 4)
    own, sent = (
        list(DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=collator))
        for workers in (0, 1)
    )
    for mine, theirs in zip(own, sent, strict=True):
        assert ("pictures" in theirs) == looked_up
        assert "pixel_values" in mine
        if looked_up:
            assert len(pickle.dumps(theirs)) < mine["pixel_values"].nbytes / 10
        completed = collator.complete(theirs)
        assert completed.keys() == mine.keys()
        for name, values in collator.complete(mine).items():
            assert np.array_equal(values, completed[name])


@pytest.mark.slow
def test_a_training_is_the_same_with_workers(tmp_path: Path) -> None:
    losses = []
    for workers in (0, 2):
        run = run_of("qwen2_5_vl", tmp_path / str(workers), f"hardware.num_workers={workers}")
        trainer = run.trainer(run.model())
        trainer.resume_or_start()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]


def test_llama_vision_refuses_a_batch_whose_samples_would_change_each_other(tmp_path: Path) -> None:
    run = run_of("mllama", tmp_path, "prompt.max_length=4000")
    collator = Collator(run.prompt.pad_id, run.picture_inputs)
    rows = [make_row(run.stream(), number) for number in range(12)]
    counts = [len(row["pictures"]) for row in rows]
    assert len(set(counts)) > 1
    alike = [row for row, count in zip(rows, counts, strict=True) if count == counts[0]][:2]
    assert "cross_attention_mask" in collator(alike)
    other = next(row for row, count in zip(rows, counts, strict=True) if count != counts[0])
    with pytest.raises(ValueError, match=r"hardware\.per_device_batch_size=2: samples of \d to \d pictures"):
        collator([rows[0], other])


def test_memory_of_pictures_is_used_again_once_nobody_holds_it() -> None:
    rows = np.arange(11 * 4, dtype=np.float32).reshape(11, 4, 1)
    table, style = CellTable(rows), Style(cell_pixels=2)

    def made(colour: int, side: int = 3) -> torch.Tensor:
        picture = Picture.of(np.full((side, side), colour, np.uint8), style)
        return torch.from_numpy(table.process([picture])["pixel_values"])

    first = made(1)
    second = made(2)
    assert second.data_ptr() != first.data_ptr(), "the first is still held"
    assert set(first.flatten().tolist()) == {4.0, 5.0, 6.0, 7.0}
    place = first.data_ptr()
    del first
    third = made(3, side=2)
    assert third.data_ptr() == place
    assert set(third.flatten().tolist()) == {12.0, 13.0, 14.0, 15.0}
    assert set(second.flatten().tolist()) == {8.0, 9.0, 10.0, 11.0}
    assert third.shape == (16, 1)
    assert pickle.loads(pickle.dumps(table))._buffers == []
