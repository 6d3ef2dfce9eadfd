"""Benchmarks: each cell is planned, measured in its own process, marked if it dies, and shown."""

import copy
import gc
import json
import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_models
from omegaconf import OmegaConf
from rich.console import Console
from transformers import TrainerCallback

from arc_experiments import compose, load_run
from arc_experiments.benchmarking import answers, samples, training
from arc_experiments.benchmarking import measure as cell_process
from arc_experiments.benchmarking import plan as cells
from arc_experiments.benchmarking.measure import summary
from arc_experiments.benchmarking.plan import Cell, collect, freeze_cells, plan, run_cell
from arc_experiments.benchmarking.rows import rows_of_length, rows_of_size
from arc_experiments.benchmarking.show import draw, markdown
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.naming import folder_name
from arc_experiments.config.check import ConfigError
from arc_experiments.config.rules import check_sections
from arc_experiments.config.schema import Config, typed
from arc_experiments.jobs import benchmark as job
from arc_experiments.launching import worker
from arc_experiments.run import Run
from arc_experiments.runs import cores_and_gpus, environment
from arc_experiments.runs.folder import RunFolder
from arc_experiments.tasks import FixedTasks
from arc_experiments.training.dataset import make_row

SMALL = [
    "job=benchmark", "experiment=smoke", "tracking=off", "hardware.threads=1", "benchmark.rounds=2",
    "benchmark.samples=5", "benchmark.max_seconds=0.2", "benchmark.workers=[0,1]", "benchmark.lengths=[64]",
    "benchmark.batch_sizes=[1,2]", "benchmark.prompts=3", "benchmark.new_tokens=4",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def libraries_are_not_collected() -> Iterator[None]:
    """Giving memory back takes half a second otherwise, for the objects of what is imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = compose(SMALL, tmp_path_factory.mktemp("run"))
    assert run.prompt.exact_table
    (share,) = run.corpus.shares
    few = FixedTasks(share.source.fixed.select(share.task_ids))  # each trainer pickles all of them
    vars(run.corpus)["shares"] = [replace(share, source=few)]
    return run


@pytest.fixture
def run(composed: Run, tmp_path: Path) -> Run:
    """One that a test may change, with steps as small and as many as a cell's; its prompt is made once."""
    own = copy.copy(composed)
    own.folder = RunFolder(tmp_path)
    own.config = copy.deepcopy(composed.config)
    vars(own.config.optim).update(batch_size=1, max_steps=cells.HORIZON, save_steps=cells.HORIZON)
    own.config.benchmark.accumulation = 1
    return own


def assert_summarised(result: dict, *names: str) -> None:
    for name in names:
        low, high = result[f"{name}_range"]
        assert 0 < low <= result[name] <= high


# Samples


def test_the_stream_is_measured_against_the_text_path(run: Run) -> None:
    result = samples.measure_stream(run)
    assert_summarised(
        result, "samples_per_second", "tokens_per_second", "text_path_samples_per_second", "speedup"
    )
    assert 10 < result["tokens_per_sample"] <= 1024


@pytest.mark.parametrize("pack_length", [None, 2000])
def test_the_shares_of_the_stages_add_up_to_one(run: Run, pack_length: int | None) -> None:
    run.config.optim.pack_length = pack_length
    shares = samples.stage_shares(run, 20)
    assert list(shares) == ["draw", "augment", "encode", "choose and fit", "collate"]
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1)


def test_the_clock_does_not_change_the_samples(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[int]] = []
    real = samples.make_row

    def note(rows: Any, index: int) -> Any:
        row = real(rows, index)
        made.append(row["input_ids"].tolist())
        return row

    monkeypatch.setattr(samples, "make_row", note)
    samples.stage_shares(run, 4)
    assert made[1:] == [run.stream()[index].encoded.input_ids.tolist() for index in range(4)]


def test_the_text_path_makes_the_same_tokens(run: Run) -> None:
    made = [run.stream()[index] for index in range(5)]
    for ids, sample in zip(samples.write_as_text(run, made), made, strict=True):
        assert ids == sample.encoded.input_ids[:-1].tolist(), "all but the end token"


def test_one_core_is_used_and_all_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with samples.one_core():
        assert len(os.sched_getaffinity(0)) == torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_waiting_is_measured_for_each_number_of_workers(run: Run) -> None:
    rows = samples.measure_loading(run)["rows"]
    assert [row["num_workers"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 <= row["consumer_wait_fraction"] < 1
        assert 0 <= row["data_wait_fraction"] < 1
        assert row["steps"] >= 1 < row["tokens_per_second"]


# Training


def with_pictures(folder: Path, model: Path, *more: str) -> Run:
    return compose(
        [
            *SMALL, "data=see", "data.validation_source.num_tasks=1", "prompt=picture_compact",
            "prompt.max_length=512", "augmentation=none", "model.name=see_start", f"model.path={model}",
            "model.lora=null", "inference.force=true", "benchmark.parts=[stream,loading,training,generation]",
            "benchmark.lengths=[]", "benchmark.input_sizes=[2x6]", *more,
        ],
        folder,
    )  # fmt: skip


def test_of_prompts_with_pictures_drawing_and_processing_are_measured(
    tmp_path: Path, see_start: Path
) -> None:
    result = samples.measure_stream(with_pictures(tmp_path, see_start))
    assert_summarised(result, "drawn_pictures_per_second", "processed_pictures_per_second")
    assert result["drawn_pictures_per_second"] > result["processed_pictures_per_second"] > 0
    assert 1 <= result["pictures_per_sample"] <= 7
    assert sum(result["stage_share"].values()) == pytest.approx(1)
    assert result["stage_share"]["collate"] > 0.2, "where pictures are drawn"


def test_a_consumer_of_samples_waits_for_pictures(tmp_path: Path, see_start: Path) -> None:
    run = with_pictures(tmp_path, see_start, "benchmark.consumer_samples_per_second=20")
    run.config.hardware.num_workers = 0
    assert samples._consumer(run) == ("samples", 20.0)
    assert 0 <= samples._wait_of_consumer(run, 0.2) < 1


def test_rows_of_pictures_are_what_the_trainer_trains_on(tmp_path: Path, see_start: Path) -> None:
    run = with_pictures(tmp_path, see_start)
    rows = training.rows_of_size(run, "2x6", training.NUM_BATCHES)
    batch = training.collated(rows, 1, run.prompt.pad_id, run.picture_inputs)[0]
    own = run.trainer(run.model()).data_collator([make_row(rows, 0)])
    assert batch["pixel_values"].shape[1] == 5, "two demonstrations and a test input"
    for name, values in batch.items():
        assert np.array_equal(np.asarray(own[name]), values.numpy())


def test_what_is_measured_on_text_alone_is_refused_with_pictures(tmp_path: Path, see_start: Path) -> None:
    with pytest.raises(ConfigError, match=r"take benchmark.parts=\[stream,loading,training,generation\]"):
        with_pictures(tmp_path, see_start, "benchmark.parts=[stream,loading,training,generation,scoring]")
    with pytest.raises(ConfigError, match=r"benchmark.lengths=\[\] benchmark.input_sizes=\[2x6\]"):
        with_pictures(tmp_path, see_start, "benchmark.lengths=[64]")


def test_training_and_a_bare_loop_are_measured_in_turn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    for name in ("train", "train_bare"):
        real = getattr(training, name)

        def noted(*arguments: Any, name: str = name, real: Callable[..., Any] = real, **options: Any) -> Any:
            order.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(training, name, noted)
    result = training.measure_training(run, length=64, packing=False)
    assert order == ["train", "train_bare"] * 2
    assert_summarised(result, "tokens_per_second", "bare_tokens_per_second", "relative_speed")
    assert result["length"] == 64
    assert result["peak_memory_bytes"] > 10**8
    assert result["num_parameters"] > 10**6
    assert result["flops_utilisation"] is None, "nobody knows the peak of a CPU"


def test_our_speed_is_reported_alone_if_the_bare_loop_does_not_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def model_of_a_full_gpu(**options: Any) -> Any:
        loaded.append(None)
        if len(loaded) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return Run.model(run, **options)

    monkeypatch.setattr(run, "model", model_of_a_full_gpu)
    block = training.TimedSteps(steps=3, seconds=2.0, waited=0.0, tokens=192)
    monkeypatch.setattr(training, "train", lambda run, model, **options: block)
    result = training.measure_training(run, length=64, packing=False)
    assert (result["tokens_per_second"], result["steps"]) == (96, 3)
    assert result["bare_tokens_per_second"] is result["relative_speed"] is None
    assert len(loaded) == 3, "the bare loop is not tried again"


def test_other_errors_of_the_bare_loop_are_not_mistaken_for_lack_of_memory(run: Run) -> None:
    def fail() -> Any:
        raise RuntimeError("shapes do not fit")

    run.model = fail
    with pytest.raises(RuntimeError, match="shapes"):
        training.train_bare(run, rows_of_length(run, 8, 1, packing=False), 1)


@pytest.mark.parametrize("packing", [False, True])
def test_the_bare_loop_computes_the_trainers_loss(packing: bool, run: Run) -> None:
    run.config.optim.max_steps = 1
    rows, losses = rows_of_length(run, 500, 1, packing=packing), []
    run.stream = lambda: rows

    class Listen(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs) -> None:
            losses.extend(value for name, value in logs.items() if name == "loss")

    run.trainer(run.model(), [Listen()]).resume_or_start()
    batch = training.collated(rows, 1, run.prompt.pad_id)[0]
    assert losses[0] == pytest.approx(run.model()(**batch, use_cache=False).loss.item(), abs=1e-3)


def test_rows_have_the_length_asked_for_and_end_with_an_answer(run: Run) -> None:
    for length in (16, 2000):
        rows = rows_of_length(run, length, 3, packing=False)
        for (sample,) in map(rows.row, range(3)):
            assert len(sample.encoded.input_ids) == len(sample.encoded.labels) == length
            assert sample.encoded.labels[-1] == sample.encoded.input_ids[-1] >= 0


def test_packed_rows_are_the_same_tokens_with_the_samples_kept_apart(run: Run) -> None:
    packed = make_row(rows_of_length(run, 2000, 1, packing=True), 0)
    joined = make_row(rows_of_length(run, 2000, 1, packing=False), 0)
    assert packed["input_ids"].tolist() == joined["input_ids"].tolist()
    assert packed["labels"].tolist() == joined["labels"].tolist()
    starts = int((packed["position_ids"] == 0).sum())
    assert packed["marks"][0] == starts > 1 == joined["marks"][0]


def test_rows_of_an_input_size_hold_that_many_grids_of_that_side(run: Run) -> None:
    rows = rows_of_size(run, "2x30", 2)
    samples = [sample for number in range(2) for sample in rows.row(number)]
    assert {len(sample.task.train) for sample in samples} == {2}
    pairs = [pair for sample in samples for pair in (*sample.task.train, *sample.task.test)]
    assert {pair.input.shape for pair in pairs} == {(30, 30)}
    assert {len(sample.encoded) for sample in samples} == {rows.num_tokens}, "of one size, of one length"
    assert rows.num_tokens > 6 * 900


def test_an_adapter_may_look_at_samples_of_fixed_rows(run: Run) -> None:
    rows = rows_of_length(run, 32, 2, packing=False)
    assert [rows[number].encoded is rows.row(number)[0].encoded for number in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("cpu, 2 threads", None),
        ("NVIDIA L400", None),
    ],
)
def test_a_devices_peak_is_found_by_its_name(name: str, expected: float | None) -> None:
    assert training.peak_flops(name, torch.bfloat16) == expected
    assert training.peak_flops(name, torch.float32) is None


def test_utilisation_is_six_flops_a_parameter_and_token_of_all_gpus(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "peak_flops", lambda name, dtype: 1e15)
    assert training.utilisation(run, 500_000_000, 100_000) == pytest.approx(0.3)
    run.config.hardware.parallelism = "split"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert training.utilisation(run, 500_000_000, 100_000) == pytest.approx(0.1)


def test_packed_4_bit_weights_count_in_full(base: Path) -> None:
    plain, packed = (toy_models.settings(base, quantisation=name) for name in ("none", "4bit"))
    packed_base = toy_models.load_base(
        packed, dtype=torch.float32, device=torch.device("cpu")
    ).num_parameters()
    assert packed_base == toy_models.load(replace(plain, lora=None)).num_parameters()


def test_peak_memory_is_that_of_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda number: [5, 7][number])
    assert environment.peak_memory_bytes(torch.device("cuda")) == 12


# Answers


def test_answers_in_batches_are_measured_against_one_at_a_time(run: Run) -> None:
    result = answers.measure_generation(run)
    assert_summarised(result, "tokens_per_second", "one_at_a_time_tokens_per_second", "speedup")
    assert (result["num_prompts"], result["new_tokens"]) == (3, 4)


def test_generation_without_prompts_is_refused(run: Run) -> None:
    run.requests = []
    with pytest.raises(ValueError, match=r"inference\.limit=0"):
        answers.measure_generation(run)


def test_candidates_behind_one_prompt_are_measured_against_a_row_each(run: Run) -> None:
    vars(run.config.benchmark).update(candidates=3, prompt_tokens=50)
    result = answers.measure_scoring(run)
    assert_summarised(result, "candidates_per_second", "plain_candidates_per_second", "speedup")
    frame_and_end = 111
    assert (result["candidates"], result["prompt_tokens"]) == (3, 50)
    assert result["candidate_tokens"] == frame_and_end
    assert result["largest_difference"] < 1e-3


# The plan


def trainings(run: Run, **benchmark: Any) -> list[Cell]:
    vars(run.config.benchmark).update(benchmark)
    return [cell for cell in plan(run.folder, run.config) if cell.measure == "training"]


def test_every_combination_is_a_cell_of_its_own(run: Run) -> None:
    planned = trainings(run, lengths=[32, 64], input_sizes=["1x10"], vary=["model.attention=sdpa,eager"])
    assert len(planned) == len({cell.folder.path for cell in planned}) == 2 * 3 * 2
    assert all(cell.row["packing"] is False for cell in planned)
    assert {
        (cell.changes["hardware.per_device_batch_size"], cell.changes["model.attention"]) for cell in planned
    } == {(size, attention) for size in (1, 2) for attention in ("sdpa", "eager")}
    assert all(cell.changes["optim.batch_size"] == cell.row["per_device_batch_size"] for cell in planned)


def test_a_cells_composition_is_what_its_row_says(run: Run) -> None:
    planned = trainings(run, batch_sizes=[2], vary=["model.vocabulary=full,arc", "model.lora.rank=8"])
    freeze_cells(planned, run.config)
    assert [cell.row["vocabulary"] for cell in planned] == ["full", "arc"]
    for cell in planned:
        config = load_run(cell.folder.path).config
        assert config.model.vocabulary == cell.row["vocabulary"]
        assert config.model.lora is not None
        assert config.model.lora.rank == cell.row["model.lora.rank"] == 8
        assert config.hardware.per_device_batch_size == cell.row["per_device_batch_size"] == 2
        assert cell.folder.read_json("cell.json")["shape"] == {"length": 64, "packing": False}


def test_only_training_is_measured_with_several_processes(run: Run) -> None:
    hardware, run.config.benchmark.accumulation = run.config.hardware, 3
    hardware.num_processes, hardware.gpu_ids = 2, [3, 1]
    for cell in plan(run.folder, run.config):
        several = cell.measure == "training"
        assert cell.changes["hardware.num_processes"] == (2 if several else 1)
        assert cell.changes["hardware.gpu_ids"] == ([3, 1] if several else [3])
        if several:
            assert cell.row["num_processes"] == 2
            assert cell.changes["optim.batch_size"] == 2 * 3 * cell.row["per_device_batch_size"]


def test_a_split_model_keeps_all_its_gpus(run: Run) -> None:
    run.config.hardware.gpu_ids, run.config.hardware.parallelism = [0, 1], "split"
    assert all(cell.changes["hardware.gpu_ids"] == [0, 1] for cell in plan(run.folder, run.config))


def test_the_number_of_processes_can_be_varied(run: Run) -> None:
    planned = trainings(run, batch_sizes=[1], vary=["hardware.num_processes=1,2"])
    assert [cell.changes["hardware.num_processes"] for cell in planned] == [1, 2]
    assert [cell.changes["optim.batch_size"] for cell in planned] == [1, 2]


@pytest.mark.slow
def test_a_training_of_two_processes_is_measured(tmp_path: Path) -> None:
    run = compose([*SMALL, "hardware.num_processes=2", "benchmark.rounds=1"], tmp_path)
    (cell,) = trainings(run, batch_sizes=[1])
    freeze_cells([cell], run.config)
    run_cell(cell, 300)
    result = cell.result
    assert result is not None
    assert "error" not in result, (cell.folder / "output.log").read_text()
    assert result["num_processes"] == 2
    assert_summarised(result, "tokens_per_second", "bare_tokens_per_second", "relative_speed")


def test_only_the_parts_asked_for_are_planned(run: Run) -> None:
    run.config.benchmark.parts = ["scoring", "generation"]
    assert [cell.measure for cell in plan(run.folder, run.config)] == ["scoring", "generation"]


# What is refused


def mistakes(config: Config, **benchmark: Any) -> str:
    config = copy.deepcopy(config)
    vars(config.benchmark).update(benchmark)
    return "\n".join(check_sections(config))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("parts", ["samples"], "stream, loading, training, generation, scoring"),
        ("parts", [], "nothing to measure"),
        ("workers", [], "nothing to measure"),
        ("workers", [-1], "at least 0"),
        ("batch_sizes", [], "nothing to measure"),
        ("batch_sizes", [0], "at least 1"),
        ("batch_sizes", [2, 2], "names a value twice"),
        ("packing", [], "nothing to measure"),
        ("lengths", [1], "at least 2"),
        ("lengths", [], "no rows to train on"),
        ("input_sizes", ["2x31"], "2x30"),
        ("vary", ["model.attention"], "model.attention=sdpa,eager"),
        ("vary", ["hardware.gpu_ids=[0,1]"], "is not <key>=<value>,<value>"),
        ("vary", ["model.dtype=auto", "model.dtype=float32"], "names model.dtype twice"),
        ("vary", ["hardware.per_device_batch_size=1,2"], "benchmark.batch_sizes"),
        ("vary", ["optim.pack_length=64"], "benchmark.packing"),
        ("vary", ["optim.batch_size=8"], "benchmark.accumulation"),
        ("vary", ["optim.max_steps=8"], "benchmark.max_seconds"),
        ("vary", ["model.colour=1"], "model.colour: there is no such key"),
        ("vary", ["model.dtype.bits=8"], "model.dtype.bits: there is no such key"),
        ("vary", ["prompt=arc24,minimal"], "--multirun job=benchmark prompt=..."),
        ("vary", ["prompt.grid=minimal"], "is a group of keys"),
    ],
)
def test_what_cannot_be_measured_is_refused(run: Run, key: str, value: Any, expected: str) -> None:
    message = mistakes(run.config, **{key: value})
    assert f"benchmark.{key}" in message
    assert expected in message


def test_another_jobs_run_of_an_earlier_version_may_name_a_part_that_is_gone(run: Run) -> None:
    run.config.job.name = "evaluate"
    assert not mistakes(run.config, parts=["stream", "startup"])


def test_any_key_of_the_composition_can_be_varied(run: Run) -> None:
    vary = ["model.lora.rank=8,64", "prompt.grid._target_=a.b", "model.adapter=null,~/x", "optim.name=sgd"]
    assert not mistakes(run.config, vary=vary)
    assert not mistakes(run.config, lengths=[], input_sizes=["1x10"])


def test_an_impossible_benchmark_is_refused_at_composition() -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["job=benchmark", "benchmark.vary=[optim.batch_size=8]", "benchmark.workers=[]"])
    assert len(error.value.mistakes) == 2


@pytest.mark.parametrize("value", ["model.lora.rank=many", "model.attention=flash"])
def test_an_impossible_varied_value_is_refused_before_anything_is_measured(run: Run, value: str) -> None:
    planned = trainings(run, vary=[value])
    with pytest.raises(ConfigError, match=value.partition("=")[0].replace(".", r"\.")):
        freeze_cells(planned, run.config)


def test_hardware_and_benchmark_options_name_the_folder_of_a_benchmark_and_of_no_other_job(run: Run) -> None:
    def name(**changes: Any) -> str:
        node = typed(asdict(run.config))
        for key, value in changes.items():
            OmegaConf.update(node, key, value)
        return folder_name(node)

    workers, rounds, finetune = {"num_workers": 2}, {"rounds": 5}, {"name": "finetune"}
    assert len({name(), name(hardware=workers), name(benchmark=rounds)}) == 3
    assert len({name(job=finetune), name(job=finetune, hardware=workers, benchmark=rounds)}) == 1


# Cells


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("kill -9 $$", "out of memory (killed by signal 9)"),
        ("kill -11 $$", "killed by signal 11"),
        ("exit 3", "ended with exit code 3"),
        ("sleep 60", "not done after 1 s"),
    ],
)
def test_a_cell_that_dies_is_marked(
    script: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(cells.sys, "executable", str(interpreter))
    cell = Cell(folder=RunFolder(tmp_path), measure="training", row={"length": 64})
    assert cell.result is cell.outcome is None
    run_cell(cell, 1)
    assert cell.result == {"length": 64, "error": expected}
    assert cell.outcome == ("out_of_memory" if "memory" in expected else "failed")


def test_a_cell_of_a_sweeps_job_keeps_the_jobs_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\necho ${cores_and_gpus.PLACE} of ${cores_and_gpus.NUM_PLACES}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(cells.sys, "executable", str(interpreter))
    for name, value in cores_and_gpus.environment(1, 2).items():
        monkeypatch.setenv(name, value)
    run_cell(Cell(folder=RunFolder(tmp_path), measure="stream"), 5)
    assert (tmp_path / "output.log").read_text() == "1 of 2\n"


def test_one_of_several_processes_killed_for_memory_is_out_of_memory() -> None:
    told = "process 1 of 2 killed by signal 9 (out of memory?)"
    assert cells._death(told, 1) == f"out of memory ({told})"


def test_an_error_is_a_result_in_one_line(run: Run, tmp_path: Path) -> None:
    cell = Cell(folder=RunFolder(tmp_path / "cell"), measure="generation", shape={"rounds": "many"})
    freeze_cells([cell], run.config)
    with pytest.raises(SystemExit):
        cell_process.main(cell.folder, load_run(cell.folder.path).config)
    assert cell.result is not None
    assert "argument" in cell.result["error"]


def test_a_result_names_the_machine_and_the_threads_apart(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(folder=RunFolder(tmp_path / "cell"), measure="generation")
    freeze_cells([cell], run.config)
    monkeypatch.setattr(answers, "measure_generation", lambda run: {"speed": 1})
    cell_process.main(cell.folder, load_run(cell.folder.path).config)
    assert cell.result is not None
    assert cell.result["threads"] == cell.result["speed"] == 1
    machine = cell.result["machine"]
    assert machine["device"] == "cpu"
    assert machine["packages"]["torch"] == torch.__version__
    assert "threads" not in machine


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_way_of_running_out_of_memory_is_called_the_same(error: Exception) -> None:
    assert cell_process.explain(error) == "out of memory"


def test_a_process_ends_with_the_one_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(cores_and_gpus.os, "_exit", lambda code: ended.set())
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            cores_and_gpus.die_with(other.pid)
            assert not ended.wait(0.7)
        finally:
            other.kill()
    assert ended.wait(10)


@pytest.mark.slow
def test_a_cell_of_several_processes_ends_with_their_starter(run: Run, tmp_path: Path) -> None:
    cell = Cell(folder=RunFolder(tmp_path / "cell"), measure="generation", shape={"no_such": "shape"})
    freeze_cells([cell], run.config)
    with subprocess.Popen(["true"]) as starter:
        pass
    command = [sys.executable, "-m", "arc_experiments.benchmarking.measure", str(cell.folder.path)]
    done = subprocess.run(
        command, env={**os.environ, cores_and_gpus.STARTER: str(starter.pid)}, capture_output=True
    )
    assert done.returncode == 1
    assert cell.result is None, "it ended before it could report its mistake"


@pytest.mark.parametrize(
    ("gpus", "rank", "expected"), [(None, None, "4"), ([2], None, "2"), (None, "1", "4,5"), ([2], "1", "4,5")]
)
def test_a_cell_of_one_process_sees_one_gpu(
    gpus: list[int] | None,
    rank: str | None,
    expected: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    if rank is not None:  # what starts several has shown them theirs
        monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(cell_process, "main", lambda *_: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    cell = Cell(folder=RunFolder(tmp_path / "cell"), measure="x", changes={"hardware.gpu_ids": gpus})
    run.config.hardware.device = "auto"
    freeze_cells([cell], run.config)
    cell_process._start(cell.folder)
    assert seen == [expected]


def test_a_benchmarks_own_process_hides_no_gpu_from_its_cells(
    composed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in worker.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr(job, "main", lambda run, console: None)
    worker._run_job(composed.folder, composed.config, Console(quiet=True))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"


def test_cells_of_two_machines_are_both_named(tmp_path: Path) -> None:
    planned = []
    for name in ("one", "two", "two"):
        cell = Cell(folder=RunFolder(tmp_path / str(len(planned))), measure="training", row={"length": 1})
        cell.folder.path.mkdir()
        cell.folder.write_json("result.json", {"machine": {"device": name}})
        planned.append(cell)
    assert [machine["device"] for machine in collect(planned)["machines"]] == ["one", "two"]


# The whole job


MACHINE = {
    "device": "cpu", "system": "Linux", "python": "3.11", "commit": "abc",
    "packages": {"torch": "2", "transformers": "5", "trl": "1"},
}  # fmt: skip


def trained(speed: float, **more: Any) -> dict[str, Any]:
    return {
        **summary("tokens_per_second", [speed]), **summary("bare_tokens_per_second", [2 * speed]),
        **summary("relative_speed", [0.5]),
        "peak_memory_bytes": 2_000_000_000, "flops_utilisation": 0.25, **more,
    }  # fmt: skip


CANNED = {
    "stream": summary("samples_per_second", [90.0, 110.0])
    | {"text_path_samples_per_second": 50.0, "stage_share": {"draw": 0.25, "encode": 0.75}},
    "loading": {
        "consumer_tokens_per_second": 60000.0,
        "rows": [{"num_workers": number, "data_wait_fraction": number / 4} for number in (0, 1)],
    },
    "training": trained(1000.0),
    "generation": {"error": "no [such] | model"},
    "scoring": {"candidates_per_second": 40.0, "plain_candidates_per_second": 10.0},
}


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> RunFolder:
    """A benchmark that is frozen and not begun."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write("run.yaml", OmegaConf.to_yaml(typed(asdict(run.config))))
    folder.write_json("environment.json", {"command": ["python", "-m", "arc_experiments", *SMALL]})
    return folder


def run_job(folder: RunFolder, results: dict[str, Any], *, kill_after: int = 99) -> tuple[list[str], str]:
    """The cells that were measured, and what was printed."""
    console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: SIM115
    measured: list[str] = []

    def measure(cell: Cell, max_seconds: float) -> None:
        if len(measured) == kill_after:
            raise KeyboardInterrupt
        measured.append(cell.folder.path.name)
        cell.folder.write_json("result.json", {"machine": MACHINE} | results[cell.measure])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "run_cell", measure)
        job.main(load_run(folder.path), console)
    return measured, console.export_text()


RIGHT = CANNED | {"generation": {"tokens_per_second": 7.0, "one_at_a_time_tokens_per_second": 3.5}}


def test_the_job_writes_figures_a_table_and_a_picture(folder: RunFolder) -> None:
    measured, printed = run_job(folder, RIGHT)
    assert measured == [
        "stream", "loading", "training-batch_1-length_64-packing_False",
        "training-batch_2-length_64-packing_False", "generation", "scoring",
    ]  # fmt: skip
    results = folder.read_json("benchmark.json")
    assert results["num_measured"] == results["num_cells"] == 6
    assert results["stream"]["samples_per_second"] == 100
    assert results["loading"][1] == {
        "consumer_tokens_per_second": 60000.0, "num_workers": 1, "data_wait_fraction": 0.25
    }  # fmt: skip
    identity = {"length": 64, "packing": False, "vocabulary": "full", "num_processes": 1}
    for size, row in enumerate(results["training"], start=1):
        assert row == {"per_device_batch_size": size, **identity, **CANNED["training"]}
    assert results["machines"] == [MACHINE]
    assert "6 of 6 measurements made." in (folder / "benchmark.md").read_text()
    assert ElementTree.parse(folder / "benchmark.svg").getroot().tag.endswith("svg")
    assert printed.splitlines()[-1] == str(folder)


def test_a_finished_benchmark_shows_its_tables_again_and_measures_nothing(folder: RunFolder) -> None:
    run_job(folder, RIGHT)
    for name in ("benchmark.json", "benchmark.md", "benchmark.svg"):
        (folder / name).unlink()  # as if killed after the last result and before these
    measured, printed = run_job(folder, {})
    assert measured == []
    assert "6 measurements, 6 made already" in printed
    assert "100 (90 to 110)".replace("90", "90.00") in printed
    assert folder.read_json("benchmark.json")["num_measured"] == 6


def test_a_killed_benchmark_resumes_with_the_missing_cells(folder: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_job(folder, RIGHT, kill_after=4)
    assert folder.read_json("benchmark.json")["num_measured"] == 4
    measured, _ = run_job(folder, RIGHT)
    assert measured == ["generation", "scoring"]


def test_a_failed_measurement_fails_the_job_and_is_retried(folder: RunFolder) -> None:
    with pytest.raises(RuntimeError, match="1 of 6 measurements failed"):
        run_job(folder, CANNED)
    assert "5 of 6 measurements made, 1 failed." in (folder / "benchmark.md").read_text()
    measured, _ = run_job(folder, RIGHT)
    assert measured == ["generation"]


def test_running_out_of_memory_fails_nothing(folder: RunFolder) -> None:
    run_job(folder, RIGHT | {"training": {"error": "out of memory"}})
    assert "4 of 6 measurements made, 2 out of memory." in (folder / "benchmark.md").read_text()
    assert run_job(folder, {})[0] == []


@pytest.mark.slow
def test_the_real_command_measures_in_processes_of_their_own(tmp_path: Path) -> None:
    more = ["benchmark.parts=[generation]", "benchmark.rounds=1", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "arc_experiments", *SMALL, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run")
    results = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert results["num_measured"] == 1
    assert_summarised(results["generation"], "tokens_per_second", "speedup")


# What is shown


def results_with(**parts: Any) -> dict[str, Any]:
    counts = {"num_cells": 3, "num_measured": 3, "num_out_of_memory": 0, "num_failed": 0}
    return {"machines": [], **counts, **parts}


def row(size: int, **more: Any) -> dict[str, Any]:
    return {"per_device_batch_size": size, "length": 512, "packing": False, **more}


def table(text: str) -> list[list[str]]:
    """The cells of the one table of a page, without its rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


def test_every_training_is_a_line_of_the_table_and_a_failed_one_says_why() -> None:
    rows = [row(1, **trained(1000.0)), row(2, **trained(1500.0)), row(4, error="out of memory")]
    text = markdown(results_with(training=rows))
    head, *lines = table(text)
    assert [line[0] for line in lines] == ["1", "2", "4"]
    assert [dict(zip(head, line, strict=True))["error"] for line in lines] == ["–", "–", "`out of memory`"]  # noqa: RUF001
    first = dict(zip(head, lines[0], strict=True))
    assert first["relative speed"] == "0.50 (0.50 to 0.50)"
    assert first["flops utilisation"] == "25.0%"
    assert first["peak memory"] == "2.0 GB"
    assert "The same in all: length 512, packing False." in text


def test_a_single_training_has_its_figures_in_columns() -> None:
    head, line = table(markdown(results_with(training=[row(1, **trained(1000.0))])))
    assert head == [
        "tokens per second", "bare tokens per second", "relative speed", "peak memory", "flops utilisation",
    ]  # fmt: skip
    assert line[0] == "1,000 (1,000 to 1,000)"


def test_what_was_varied_is_a_column() -> None:
    rows = [row(1, **{"model.attention": name}, **trained(1000.0)) for name in ("sdpa", "eager")]
    assert table(markdown(results_with(training=rows)))[0] == ["model.attention"]


def test_shares_are_percentages_and_every_value_has_its_range() -> None:
    lines = table(markdown(results_with(stream=CANNED["stream"])))
    assert lines[1:] == [
        ["samples per second", "100 (90.00 to 110)"], ["text path samples per second", "50.00"],
        ["draw stage share", "25.0%"], ["encode stage share", "75.0%"],
    ]  # fmt: skip


def test_the_machine_is_named_with_its_versions() -> None:
    assert "Machine: cpu, Linux, Python 3.11, torch 2, transformers 5, trl 1, commit abc." in markdown(
        results_with() | {"machines": [MACHINE]}
    )


def test_a_failed_part_shows_its_error_also_in_the_terminal() -> None:
    text = markdown(results_with(generation={"error": "no [such] <model> | a*b*c"}))
    assert table(text)[1] == ["error", "`no [such] <model> / a*b*c`"]
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(job.Markdown(text))
    assert "no [such] <model> / a*b*c" in console.export_text()
    ElementTree.fromstring(draw(results_with(generation={"error": "no [such] model"})).svg())


def test_the_picture_has_a_bar_for_each_figure_and_none_for_what_failed() -> None:
    rows = [row(1, **trained(1000.0)), row(4, error="out of memory")]
    picture = draw(results_with(training=rows)).svg()
    words = [text.text for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    expected = [
        "per device batch size 1",
        "per device batch size 1, bare loop",
        "training, tokens/s",
        "1,000",
        "2,000",
    ]
    assert sorted(map(str, words)) == sorted(expected)
    assert "http://" not in picture.replace("http://www.w3.org/2000/svg", ""), "it fetches nothing"
    assert picture == draw(results_with(training=rows)).svg()


def test_bars_have_different_names() -> None:
    rows = [row(1, **trained(9.0)) | {"packing": packing} for packing in (False, True)]
    picture = draw(results_with(training=rows)).svg()
    for name in ("packing False", "packing False, bare loop", "packing True", "packing True, bare loop"):
        assert picture.count(f">{name}<") == 1


def test_rounds_are_summarised_as_median_and_range() -> None:
    assert summary("speed", [3.0, 1.0, 2.0]) == {"speed": 2.0, "speed_range": [1.0, 3.0]}
