"""The stream as a Dataset, as an IterableDataset, packed, and over several processes: the same rows."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from small_training import run_on_six_tasks

from arc_experiments.run import Run
from arc_experiments.tasks.task import REFUSALS
from arc_experiments.training.dataset import Collator, Turn, as_dataset, as_iterable, as_tensors, make_row


def trained_losses(run: Run, dataset: Dataset | None = None) -> list[float]:
    trainer = run.trainer(run.model(), [])
    if dataset is not None:
        trainer.train_dataset = dataset
    trainer.resume_or_start()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def eager(run: Run) -> Dataset:
    """Every row made beforehand and held in memory: what most trainings do."""
    stream = run.stream()
    rows = [
        make_row(stream, index) for index in range(run.config.optim.max_steps * run.config.optim.batch_size)
    ]
    dataset = Dataset.from_dict({name: [row[name] for row in rows] for name in rows[0]})
    return dataset.with_format("numpy")


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["none", "[geometry,colours,order,swap]"])
def test_eager_virtual_and_iterable_data_give_the_same_loss_curve(tmp_path: Path, augmentation: str) -> None:
    option = f"augmentation={augmentation}"
    virtual = trained_losses(run_on_six_tasks(tmp_path / "virtual", option))
    run = run_on_six_tasks(tmp_path / "eager", option)
    assert trained_losses(run, eager(run)) == virtual
    assert trained_losses(run_on_six_tasks(tmp_path / "iterable", option, "data.stream=iterable")) == virtual
    assert len(virtual) == 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_iterable_gives_each_ranks_rows_in_order_whatever_the_workers(
    tmp_path: Path, workers: int
) -> None:
    run = run_on_six_tasks(tmp_path)
    stream, seen = run.stream(), []
    for rank in range(2):
        turn = Turn(first_row=6, batch_size=3, rank=rank, num_ranks=2, num_workers=workers)
        loader = torch.utils.data.DataLoader(
            as_iterable(stream, turn),
            batch_size=3,
            num_workers=workers,
            collate_fn=Collator(run.prompt.pad_id),
        )
        batches = iter(loader)
        seen.append([next(batches)["input_ids"] for _ in range(3)])
    for number in range(3):
        for rank in range(2):
            first = 6 + (2 * number + rank) * 3
            for place, row in enumerate(seen[rank][number]):
                expected = stream[first + place].encoded.input_ids
                assert np.array_equal(row[: len(expected)], expected)


def test_ranks_and_workers_share_out_every_row_once() -> None:
    made: list[int] = []
    for rank in range(3):
        for worker in range(2):
            rows = Turn(first_row=10, batch_size=4, rank=rank, num_ranks=3, num_workers=2).rows(worker)
            made += [next(rows) for _ in range(8)]
    assert Counter(made) == Counter(range(10, 10 + 48))


@pytest.mark.parametrize("exposure", [pytest.param("indexed", marks=pytest.mark.slow), "iterable"])
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_resumed_training_equals_training_in_one_go_bit_for_bit(
    tmp_path: Path, exposure: str, workers: int
) -> None:
    options = [f"data.stream={exposure}", "optim.save_steps=2", "model.lora.dropout=0.1"]
    through = trained_losses(run_on_six_tasks(tmp_path / "through", *options))
    trained_losses(
        run_on_six_tasks(
            tmp_path / "halved", *options, "optim.stop_after=2", f"hardware.num_workers={workers}"
        )
    )
    rest = run_on_six_tasks(tmp_path / "halved", *options, f"hardware.num_workers={2 - workers}")
    assert trained_losses(rest) == through


@pytest.mark.slow
@pytest.mark.parametrize("exposure", ["indexed", "iterable"])
def test_resuming_at_step_100000_makes_no_earlier_sample(tmp_path: Path, exposure: str) -> None:
    """A checkpoint of step 2 is passed off as one of step 100,000."""
    options = ["optim.max_steps=100001", "optim.save_steps=2", f"data.stream={exposure}"]
    trained_losses(run_on_six_tasks(tmp_path, *options, "optim.stop_after=2"))
    early = tmp_path / "checkpoints" / "checkpoint-2"
    state = json.loads((early / "trainer_state.json").read_text())
    (early / "trainer_state.json").write_text(json.dumps(state | {"global_step": 100_000}))
    early.rename(early.with_name("checkpoint-100000"))

    run, started = run_on_six_tasks(tmp_path, *options), time.perf_counter()
    trainer = run.trainer(run.model(), [])
    trainer.resume_or_start()
    assert trainer.state.global_step == 100_001
    stream = run.stream()
    expected = sum(len(stream[index].encoded) for index in range(400_000, 400_004))
    assert trainer.session_counts.tokens == expected
    assert time.perf_counter() - started < 30, "what is skipped is not made"


def test_a_packed_row_trains_as_its_samples_would_one_by_one(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "optim.pack_length=1500", "hardware.per_device_batch_size=2")
    stream, collate = run.stream(), Collator(run.prompt.pad_id)
    model = run.model().eval()
    packed = as_tensors(collate([make_row(stream, 0), make_row(stream, 1)]))
    assert "attention_mask" not in packed
    packed.pop("marks")
    with torch.inference_mode():
        rows = model(**packed, use_cache=False).logits
        for number in range(2):
            start = 0
            for sample in stream.row(number):
                alone = model(input_ids=torch.from_numpy(sample.encoded.input_ids)[None].long()).logits[0]
                assert torch.allclose(rows[number, start : start + len(alone)], alone, atol=1e-5)
                start += len(alone)
    assert len(stream.row(0)) > 1


@pytest.mark.slow
def test_packed_training_counts_samples_and_all_their_tokens(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "optim.pack_length=1500", "data=mix", "data.weights.re_arc=1.0")
    trainer = run.trainer(run.model(), [])
    trainer.resume_or_start()
    stream = run.stream()
    samples = [sample for index in range(16) for sample in stream.row(index)]
    assert trainer.counts.samples == len(samples)
    assert trainer.counts.tokens == sum(len(sample.encoded) for sample in samples)
    refused = sum((sample.refused_pairs for sample in samples), Counter())
    assert trainer.counts.pairs_redrawn == refused.total() > 0
    assert trainer.counts.pairs_redrawn_by_reason == {reason: refused[reason] for reason in REFUSALS}
    by_part = Counter(stream.parts[sample.part].name for sample in samples)
    assert trainer.counts.by_source == dict(by_part)
    assert set(by_part) == {"arc1", "re_arc"}


def test_a_far_row_of_a_dataset_is_there_at_once(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path)
    dataset = as_dataset(run.stream(), 10_000_000)
    assert np.array_equal(dataset[9_999_999]["input_ids"], run.stream()[9_999_999].encoded.input_ids)


def test_answers_that_begin_late_read_the_prompt_from_further_away(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "optim.answer_gap=40")
    stream, plain = run.stream(), run_on_six_tasks(tmp_path / "plain").stream()
    rows = [make_row(stream, index) for index in range(12)]
    batch = Collator(run.prompt.pad_id)(rows)
    gaps = [stream[index].num_skipped for index in range(12)]
    assert len(set(gaps)) > 6
    assert 0 <= min(gaps) < max(gaps) <= 40
    assert gaps == [stream[index].num_skipped for index in range(12)], "the same every time"
    for index, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
        encoded = plain[index].encoded
        assert np.array_equal(row["input_ids"], encoded.input_ids), "the samples are those without a gap"
        expected = np.arange(len(encoded)) + gap * (np.arange(len(encoded)) >= encoded.num_prompt)
        assert np.array_equal(batch["position_ids"][index, : len(encoded)], expected)
        assert batch["attention_mask"][index].sum() == len(encoded)
    assert "position_ids" not in Collator(run.prompt.pad_id)([make_row(plain, 0)])


@pytest.mark.slow
def test_a_training_with_late_answers_runs_and_is_another_one(tmp_path: Path) -> None:
    late = trained_losses(run_on_six_tasks(tmp_path / "late", "optim.answer_gap=40"))
    assert np.isfinite(late).all()
    assert late != trained_losses(run_on_six_tasks(tmp_path / "plain"))
