"""Benchmarks: every cell is planned, measured in its own process, marked when it dies, and shown."""

import contextlib
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import TrainerCallback

from arc_experiments import compose
from arc_experiments.benchmarking import cell as cell_process
from arc_experiments.benchmarking import cells, generation, sampling, startup, training
from arc_experiments.benchmarking.cells import Cell, collect, freeze_cells, plan, run_cell
from arc_experiments.benchmarking.measuring import flops_utilisation, one_core, peak_flops, summary
from arc_experiments.benchmarking.picture import draw
from arc_experiments.benchmarking.rows import rows_of_length, rows_of_size
from arc_experiments.benchmarking.tables import make_tables, markdown, rich_table
from arc_experiments.checking import ConfigError
from arc_experiments.composing import compose_config
from arc_experiments.jobs import benchmark as job
from arc_experiments.run import Run
from arc_experiments.run_folder import folder_name
from arc_experiments.training.dataset import make_row

SMALL = [
    "job=benchmark", "experiment=smoke", "tracking=off", "hardware.threads=1", "benchmark.rounds=2",
    "benchmark.samples=5", "benchmark.max_seconds=0.4", "benchmark.workers=[0,1]", "benchmark.lengths=[64]",
    "benchmark.batch_sizes=[1,2]", "benchmark.prompts=3", "benchmark.new_tokens=4",
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return compose(SMALL, tmp_path_factory.mktemp("run"))


def in_this_process(cell: Cell, max_seconds: float) -> None:
    with contextlib.suppress(SystemExit):
        cell_process.main(cell.folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A benchmark with its cells measured in this process, and what it printed."""
    parts = [
        "benchmark.parts=[stream,training,generation]", "benchmark.batch_sizes=[1]",
        "benchmark.packing=[false,true]",
    ]  # fmt: skip
    run = compose([*SMALL, *parts], tmp_path_factory.mktemp("finished"))
    return run, run_job(run, in_this_process)


def run_job(run: Run, measure) -> str:
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "run_cell", measure)
        job.main(run.folder, console)
    return console.export_text()


@pytest.fixture(scope="module")
def results(finished: tuple[Run, str]) -> dict:
    return json.loads((finished[0].folder / "benchmark.json").read_text())


def assert_summarised(result: dict, *names: str) -> None:
    for name in names:
        low, high = result[f"{name}_range"]
        assert 0 < low <= result[name] <= high


# What is measured


def test_the_stream_is_measured_against_the_text_path(results: dict) -> None:
    result = results["stream"]
    assert_summarised(
        result, "samples_per_second", "tokens_per_second", "text_path_samples_per_second", "speedup"
    )
    assert list(result["stage_seconds"]) == ["draw", "augment", "encode", "choose and fit", "collate"]
    assert all(seconds >= 0 for seconds in result["stage_seconds"].values())
    assert 10 < result["tokens_per_sample"] <= 1024


def test_the_text_path_makes_the_same_tokens(run: Run) -> None:
    samples = [run.stream()[index] for index in range(5)]
    for ids, sample in zip(sampling.write_as_text(run, samples), samples, strict=True):
        assert ids == sample.encoded.input_ids[:-1].tolist(), "all but the end token"


def test_one_core_is_used_and_all_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before


def test_the_loader_is_measured_for_each_number_of_workers(results: dict) -> None:
    result = results["loading"]
    assert [row["num_workers"] for row in result["workers"]] == [0, 1]
    for row in result["workers"]:
        assert 0 <= row["data_wait_fraction"] < 1
        assert row["tokens_per_second"] > row["samples_per_second"] > 0


def test_the_waiting_of_a_real_training_is_measured(results: dict) -> None:
    result = results["waiting"]
    assert [row["num_workers"] for row in result["workers"]] == [0, 1]
    assert all(row["steps"] >= 1 and 0 <= row["data_wait_fraction"] < 1 for row in result["workers"])


def test_training_is_measured_against_a_bare_loop(results: dict) -> None:
    assert [result["packing"] for result in results["training"]] == [False, True]
    for result in results["training"]:
        assert result["length"] == 64
        assert_summarised(result, "tokens_per_second", "bare_tokens_per_second", "relative_speed")
        assert result["peak_memory_bytes"] > 10**8
        assert result["num_parameters"] > 10**6
        assert result["flops_utilisation"] is None, "nobody knows the peak of a CPU"


@pytest.mark.parametrize("packing", [False, True])
def test_the_bare_loop_computes_the_trainers_loss(packing: bool, tmp_path: Path) -> None:
    run = compose([*SMALL, "optim.batch_size=1", "optim.max_steps=1"], tmp_path)
    rows = rows_of_length(run, 1000, 1, packing=packing)
    fixed, losses = training._FixedRun(run, rows), []

    class Listen(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs) -> None:
            losses.extend(value for name, value in logs.items() if name == "loss")

    fixed.trainer(fixed.model(), [Listen()]).resume_or_start()
    (batch,) = training._collated(rows, 1, run.prompt.pad_id)
    assert losses[0] == pytest.approx(fixed.model()(**batch, use_cache=False).loss.item(), abs=1e-3)


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


def test_answers_in_batches_are_measured_against_one_at_a_time(results: dict) -> None:
    result = results["generation"]
    assert_summarised(result, "tokens_per_second", "one_at_a_time_tokens_per_second", "speedup")
    assert (result["num_prompts"], result["new_tokens"]) == (3, 4)


def test_generation_without_prompts_is_told(tmp_path: Path) -> None:
    run = compose([*SMALL, "inference.limit=0"], tmp_path)
    with pytest.raises(ValueError, match=r"inference\.limit=0"):
        generation.measure(run, rounds=1, max_seconds=1, prompts=1, new_tokens=1)


def test_the_phases_of_a_start_are_read_from_its_log(tmp_path: Path) -> None:
    lines = [
        f"2025-11-21 09:30:0{second},250 INFO arc_experiments.worker: {words}"
        for second, words in enumerate(startup.ENDS.values())
    ]
    (tmp_path / "run.log").write_text("\n".join(["noise", *lines, "more noise"]))
    ends = startup.read_ends(tmp_path / "run.log")
    assert list(ends) == list(startup.ENDS)
    values = list(ends.values())
    assert [later - values[0] for later in values] == pytest.approx([0, 1, 2, 3, 4, 5])


@pytest.mark.slow
def test_a_real_start_is_measured_phase_by_phase(tmp_path: Path) -> None:
    run = compose(SMALL, tmp_path)
    result = startup.measure(run, rounds=1, overrides=SMALL)
    phases = ["compose", *startup.ENDS]
    assert all(result[f"{name}_seconds"] >= 0 for name in phases)
    assert result["total_seconds"] == pytest.approx(sum(result[f"{name}_seconds"] for name in phases))
    assert not (tmp_path / "start").exists()


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    run = compose(SMALL, tmp_path)
    with pytest.raises(RuntimeError, match=r"optim\.no_such_key"):
        startup.measure(run, rounds=1, overrides=["optim.no_such_key=1"])


# Figures


def test_rounds_are_summed_up_as_median_and_range() -> None:
    assert summary("speed", [3.0, 1.0, 2.0]) == {"speed": 2.0, "speed_range": [1.0, 3.0]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("cpu, 2 threads", None),
        ("NVIDIA L400", None),
    ],
)
def test_a_devices_peak_is_found_by_its_name(name: str, expected: float | None) -> None:
    assert peak_flops(name, torch.bfloat16) == expected
    assert peak_flops(name, torch.float32) is None


def test_utilisation_is_six_flops_a_parameter_and_token() -> None:
    assert flops_utilisation(500_000_000, 100_000, 1e15) == pytest.approx(0.3)
    assert flops_utilisation(500_000_000, 100_000, None) is None


# The plan


def test_every_combination_is_a_cell_of_its_own(tmp_path: Path) -> None:
    more = ["benchmark.parts=[training]", "benchmark.lengths=[32,64]", "benchmark.input_sizes=[1x10]"]
    run = compose([*SMALL, *more, 'benchmark.vary=["model.attention=sdpa,eager"]'], tmp_path)
    planned = [cell for cell in plan(run.folder, run.config, []) if cell.place == "training[]"]
    assert len(planned) == len({cell.name for cell in planned}) == 2 * 3 * 2
    assert all(cell.row["packing"] is False for cell in planned)
    freeze_cells(planned, run.node)
    opened = [Run(cell.folder).config for cell in planned]
    assert {(each.hardware.per_device_batch_size, each.model.attention) for each in opened} == {
        (size, attention) for size in (1, 2) for attention in ("sdpa", "eager")
    }
    assert all(each.optim.batch_size == 2 * each.hardware.per_device_batch_size for each in opened)


def test_a_row_names_the_vocabulary_it_was_measured_with(tmp_path: Path) -> None:
    more = ["benchmark.parts=[training]", 'benchmark.vary=["model.vocabulary=full,arc"]']
    run = compose([*SMALL, *more, "benchmark.batch_sizes=[1]"], tmp_path)
    planned = [cell for cell in plan(run.folder, run.config, []) if cell.place == "training[]"]
    assert [cell.row["vocabulary"] for cell in planned] == ["full", "arc"]
    freeze_cells(planned, run.node)
    assert [Run(cell.folder).config.model.vocabulary for cell in planned] == ["full", "arc"]


def test_only_training_is_measured_with_several_processes(tmp_path: Path) -> None:
    run = compose(
        [*SMALL, "hardware.num_processes=2", "hardware.gpu_ids=[3,1]", "optim.batch_size=4"], tmp_path
    )
    planned = plan(run.folder, run.config, [])
    freeze_cells(planned, run.node)
    for cell in planned:
        config = Run(cell.folder).config
        several = cell.place == "training[]"
        assert config.hardware.num_processes == (2 if several else 1)
        assert config.hardware.gpu_ids == ([3, 1] if several else [3])
        if several:
            assert config.optim.batch_size == 2 * 2 * config.hardware.per_device_batch_size
    assert {cell.row["num_processes"] for cell in planned if cell.row} == {2}


@pytest.mark.slow
def test_a_training_of_two_processes_is_measured(tmp_path: Path) -> None:
    run = compose([*SMALL, "hardware.num_processes=2"], tmp_path)
    cell = next(cell for cell in plan(run.folder, run.config, []) if cell.place == "training[]")
    freeze_cells([cell], run.node)
    run_cell(cell, 300)
    result = cell.result
    assert result is not None
    assert "error" not in result, (cell.path / "output.log").read_text()
    assert result["num_processes"] == 2
    assert_summarised(result, "tokens_per_second", "bare_tokens_per_second", "relative_speed")


def test_only_the_parts_asked_for_are_planned(tmp_path: Path) -> None:
    run = compose([*SMALL, "benchmark.parts=[generation,startup]"], tmp_path)
    assert [cell.place for cell in plan(run.folder, run.config, [])] == ["generation", "startup"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("benchmark.parts=[samples]", "stream, training, generation, startup"),
        ("benchmark.lengths=[0]", "at least 2"),
        ("benchmark.batch_sizes=[0]", "at least 1"),
        ("benchmark.input_sizes=[2x31]", "2x30"),
        ("benchmark.vary=[model.attention]", "model.attention=sdpa,eager"),
        ("benchmark.rounds=0", "at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(typed: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["job=benchmark", typed])
    assert typed.partition("=")[0] in str(error.value)
    assert expected in str(error.value)


def test_a_varied_key_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    run = compose([*SMALL, 'benchmark.vary=["model.colour=1,2"]'], tmp_path)
    with pytest.raises(ConfigError, match=r"benchmark\.vary: model\.colour"):
        freeze_cells(plan(run.folder, run.config, []), run.node)


def test_the_hardware_is_part_of_what_a_benchmark_is_and_its_options_of_nothing_else() -> None:
    def name(*overrides: str) -> str:
        return folder_name(compose_config([*overrides]))

    assert name("job=benchmark") != name("job=benchmark", "hardware.num_workers=2")
    assert name("job=benchmark") != name("job=benchmark", "benchmark.rounds=5")
    assert name() == name("benchmark.rounds=5") == name("hardware.num_workers=2")


# Cells that die


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("kill -9 $$", "killed (signal 9), most often for memory"),
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
    cell = Cell(tmp_path / "cell", "training[]", "training", {}, row={"length": 64})
    cell.path.mkdir()
    assert cell.result is None
    run_cell(cell, 1)
    assert cell.result == {"length": 64, "error": expected}


def test_an_error_is_a_result_in_one_line(run: Run, tmp_path: Path) -> None:
    cell = Cell(tmp_path / "cell", "generation", "generation", {"rounds": "many"})
    freeze_cells([cell], run.node)
    in_this_process(cell, 1)
    assert cell.result is not None
    assert "argument" in cell.result["error"]


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


@pytest.mark.slow
def test_a_cells_process_ends_with_the_job_that_started_it(run: Run, tmp_path: Path) -> None:
    cell = Cell(tmp_path / "cell", "loading", "loading", {})
    cell.path.mkdir()
    job = subprocess.Popen(["sleep", "600"])
    cell.folder.write_json("cell.json", {"measure": "loading", "options": {}, "job_pid": job.pid})
    os.mkfifo(cell.path / "run.yaml")  # the cell waits for its composition for ever
    process = subprocess.Popen([sys.executable, "-m", "arc_experiments.benchmarking.cell", str(cell.path)])
    time.sleep(5)
    assert process.poll() is None
    job.kill()
    job.wait()
    assert process.wait(60) == 1
    assert cell.result is None


# The whole job


def test_the_job_writes_figures_a_table_and_a_picture(finished: tuple[Run, str], results: dict) -> None:
    run, printed = finished
    assert results["num_measured"] == results["num_cells"] == 6
    row = results["training"][0]
    expected = {
        "per_device_batch_size": 1, "length": 64, "packing": False, "vocabulary": "full", "num_processes": 1,
    }  # fmt: skip
    assert expected.items() <= row.items()
    (machine,) = results["machines"]
    assert machine["packages"]["torch"] == torch.__version__
    assert "Training" in (run.folder / "benchmark.md").read_text()
    assert ElementTree.parse(run.folder / "benchmark.svg").getroot().tag.endswith("svg")
    assert printed.splitlines()[-1] == str(run.folder)


def test_a_finished_benchmark_shows_its_table_again_and_measures_nothing(finished: tuple[Run, str]) -> None:
    run, _ = finished

    def refuse(cell: Cell, max_seconds: float) -> None:
        raise AssertionError("nothing is left to measure")

    printed = run_job(run, refuse)
    assert "6 measurements, 6 made already" in printed
    assert "stream / text and tokenizer" in printed


def test_a_benchmark_that_was_killed_goes_on_with_the_cells_it_has_not(finished: tuple[Run, str]) -> None:
    run, _ = finished
    (run.folder / "cells" / "generation" / "result.json").unlink()
    before = (run.folder / "cells" / "stream" / "result.json").stat().st_mtime_ns
    gone_on_with = []

    def note(cell: Cell, max_seconds: float) -> None:
        gone_on_with.append(cell.name)
        in_this_process(cell, max_seconds)

    run_job(run, note)
    assert gone_on_with == ["generation"]
    assert (run.folder / "cells" / "stream" / "result.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_real_command_measures_in_processes_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arc_experiments", *SMALL, "benchmark.parts=[stream]"]
    done = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path / 'run'}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run")
    results = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert "error" not in results["stream"]
    assert "error" not in results["loading"]


# What is shown


def trained(size: int, **more: object) -> dict:
    identity = {"packing": False, "vocabulary": "full", "num_processes": 1}
    return {"per_device_batch_size": size, "length": 512, **identity, **more}


def measured(size: int, speed: float) -> dict:
    return trained(
        size,
        **summary("tokens_per_second", [speed]),
        **summary("bare_tokens_per_second", [2 * speed]),
        **summary("relative_speed", [0.5]),
        peak_memory_bytes=2e9,
        flops_utilisation=0.25,
    )


def results_with(**parts: object) -> dict:
    return {"machines": [], "num_cells": 3, "num_measured": 3, **parts}


def test_every_training_is_a_line_of_the_table_and_a_failed_one_says_why() -> None:
    rows = [measured(1, 1000.0), measured(2, 1500.0), trained(4, error="out of memory")]
    (table,) = make_tables(results_with(training=rows))
    assert [row[0] for row in table.rows] == ["1", "2", "4"]
    assert "out of memory" in table.rows[2]
    assert "0.50 (0.50 to 0.50)" in table.rows[0]
    assert "25.0%" in table.rows[0]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert "length 512" in table.title, "what is the same in all rows is told once"
    text = markdown(results_with(training=rows))
    assert text.count("\n| ") == 2 + len(rows)


def test_what_was_varied_is_a_column() -> None:
    rows = [
        measured(1, 1000.0) | {"model.attention": "sdpa"},
        measured(1, 900.0) | {"model.attention": "eager"},
    ]
    (table,) = make_tables(results_with(training=rows))
    assert table.columns[0] == "model.attention"


def test_a_part_that_failed_is_shown_as_such() -> None:
    results = results_with(stream={"error": "no [such] model"})
    (table,) = make_tables(results)
    assert table.rows == (("no [such] model",),)
    console = Console(record=True, width=80, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(rich_table(table))
    assert "no [such] model" in console.export_text()
    ElementTree.fromstring(draw(results))


def test_the_picture_has_a_bar_for_each_figure_and_none_for_what_failed() -> None:
    rows = [measured(1, 1000.0), trained(4, error="out of memory")]
    picture = draw(results_with(training=rows))
    root = ElementTree.fromstring(picture)
    bars = [element for element in root.iter() if element.get("class") in ("ours", "other")]
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert len(widths) == 2
    assert widths[0] / widths[1] == pytest.approx(0.5, abs=0.01)
    assert "http://" not in picture.replace("http://www.w3.org/2000/svg", ""), "it fetches nothing"


def test_cells_of_two_machines_are_both_named(tmp_path: Path) -> None:
    planned = []
    for name in ("one", "two", "two"):
        cell = Cell(tmp_path / f"{len(planned)}", "training[]", "training", {}, row={"length": 1})
        cell.path.mkdir()
        cell.folder.write_json("result.json", {"machine": {"device": name}})
        planned.append(cell)
    assert [machine["device"] for machine in collect(planned)["machines"]] == ["one", "two"]
