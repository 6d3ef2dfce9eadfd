"""What only a GPU can prove: precisions, quantised bases, attention kernels, a real lack of memory.

`make test-gpu` runs them. With ARC_EXPERIMENTS_GPU_TESTS_ON=cpu those that mean something on a CPU run there,
to see that the tests themselves are right.
"""

import contextlib
import gc
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adapt_tools
import pytest
import test_ranks
import torch
from prompt_tools import TINY
from small_training import logged, overflow, same, small_run, trained, weights
from test_optim import SPIKY, Shake
from toy_models import make_base
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from arc_experiments import compose
from arc_experiments.benchmarking import answers, training
from arc_experiments.benchmarking.rows import FixedRows
from arc_experiments.config.schema import Hardware
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Limits
from arc_experiments.generation.threshold_search import Threshold
from arc_experiments.launching.worker import ENVIRONMENT
from arc_experiments.run import Run
from arc_experiments.runs.environment import make_repeatable
from arc_experiments.training.divergence import LossSpike, NonFiniteGradients, SkippedSteps

ON_CPU = os.environ.get("ARC_EXPERIMENTS_GPU_TESTS_ON") == "cpu"
HERE = f"hardware.device={'cpu' if ON_CPU else 'cuda'}"
NUM_GPUS = 0 if ON_CPU else torch.cuda.device_count()
ACCURATE = {
    "float32": 1e-4,
    "bfloat16": 0.03,
    "float16": 0.05,
}  # how far losses of one computation may differ

pytestmark = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(ON_CPU, reason="means nothing on a CPU")
needs_flash = pytest.mark.skipif(
    ON_CPU or importlib.util.find_spec("flash_attn") is None, reason="the package flash-attn is not installed"
)
Say = Callable[[str], None]


@pytest.fixture(scope="module", autouse=True)
def _as_in_a_worker() -> Iterator[None]:
    """Environment and determinism of a run's own process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        make_repeatable(Hardware(threads=1 if ON_CPU else None))
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _free_memory() -> Iterator[None]:
    """Trainers hold themselves in circles, and what is left of a test must not count in the next."""
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints figures also of a test that passes."""

    def write(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="")

    return write


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The overrides for saved random weights of a size that the kernels and bitsandbytes take."""
    shape = {
        "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.05,
    }  # fmt: skip
    folder = make_base(tmp_path_factory.mktemp("base") / "qwen", AutoTokenizer.from_pretrained(TINY), **shape)
    return [
        HERE,
        f"model.path={folder}",
        "model.name=toy",
        "model.weights=pretrained",
        "optim.learning_rate=1e-3",
    ]


@contextlib.contextmanager
def memory_limit(num_bytes: int) -> Iterator[None]:
    """Let CUDA run out of memory, really, beyond so many bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(num_bytes / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# Training


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_in_half_precision_follows_float32(dtype: str, model: list[str], tmp_path: Path) -> None:
    truth = logged(trained(small_run(tmp_path / "32", *model, "model.dtype=float32")), "loss")
    run = small_run(tmp_path / "16", *model, f"model.dtype={dtype}")
    trainer = trained(run)
    assert logged(trainer, "loss") == pytest.approx(truth, abs=ACCURATE[dtype])
    assert {value.dtype for value in weights(trainer.model).values()} == {torch.float32}
    assert (trainer.accelerator.scaler is not None) == (dtype == "float16")
    if dtype == "float16":
        assert trainer.accelerator.scaler.get_scale() >= 1


def test_float16_skips_a_step_that_overflows_and_trains_on(model: list[str], tmp_path: Path) -> None:
    run = small_run(tmp_path, *model, "model.dtype=float16")
    trainer = run.trainer(run.model())
    before = overflow(trainer, at={2})
    trainer.resume_or_start()
    assert trainer.state.global_step == 8
    assert all(map(math.isfinite, logged(trainer, "loss")))
    assert not same(before[0], weights(trainer.model))
    assert all(value.isfinite().all() for value in weights(trainer.model).values())


def test_float16_that_overflows_step_after_step_stops_with_the_weights_as_they_were(
    model: list[str], tmp_path: Path
) -> None:
    run = small_run(tmp_path, *model, "model.dtype=float16", "optim.max_skipped_steps=3")
    trainer = run.trainer(run.model())
    before = overflow(trainer, at={4, 5, 6})
    with pytest.raises(SkippedSteps, match=r"3 steps in a row .*checkpoint-4$"):
        trainer.resume_or_start()
    assert same(before[0], weights(trainer.model))


def test_infinite_gradients_stop_bfloat16_before_the_weights_change(model: list[str], tmp_path: Path) -> None:
    run = small_run(tmp_path, *model, "model.dtype=bfloat16")
    trainer = run.trainer(run.model())
    before = overflow(trainer, at={5})
    with pytest.raises(NonFiniteGradients, match=r"step 6 .*checkpoint-4$"):
        trainer.resume_or_start()
    assert same(before[0], weights(trainer.model))


def test_a_loss_spike_stops_the_training_if_asked(model: list[str], tmp_path: Path) -> None:
    run = small_run(tmp_path, *model, *SPIKY, "model.dtype=bfloat16", "optim.stop_on_spike=true")
    with pytest.raises(LossSpike, match=r"step 13: .*checkpoint-12$"):
        trained(run, (Shake(),))


@pytest.mark.parametrize(("quantisation", "accuracy"), [("4bit", 0.6), ("8bit", 0.1)])
def test_an_adapter_trains_on_a_quantised_base_and_loads_again(
    quantisation: str, accuracy: float, model: list[str], tmp_path: Path, say: Say
) -> None:
    half = [*model, "model.dtype=bfloat16"]
    plain = trained(small_run(tmp_path / "plain", *half))
    run = small_run(tmp_path / "small", *half, f"model.quantisation={quantisation}")
    trainer = trained(run)
    losses, true_losses = logged(trainer, "loss"), logged(plain, "loss")
    assert losses == pytest.approx(true_losses, abs=accuracy)
    small, large = (each.model.get_memory_footprint() for each in (trainer, plain))
    say(f"{quantisation}: {small / 1e6:.1f} MB, not {large / 1e6:.1f} MB; last losses {losses[-1]:.3f} and "
        f"{true_losses[-1]:.3f}")  # fmt: skip
    assert small < 0.8 * large
    run.save_weights(trainer.model)
    loss, again = (run.validation_loss(each.eval()) for each in (trainer.model, run.trained_model()))
    assert again.token_mean == pytest.approx(loss.token_mean, abs=0.01)


@pytest.mark.parametrize(
    ("attention", "dtype"),
    [("sdpa", "float32"), ("sdpa", "bfloat16"), ("eager", "float32"),
     pytest.param("flash_attention_2", "bfloat16", marks=needs_flash)],
)  # fmt: skip
def test_packed_rows_train_like_the_same_samples_in_rows_of_their_own(
    attention: str, dtype: str, model: list[str], tmp_path: Path
) -> None:
    shared = [*model, f"model.attention={attention}", f"model.dtype={dtype}", "optim.max_steps=1",
              "optim.save_steps=1"]  # fmt: skip
    packing = small_run(tmp_path / "packed", *shared, "optim.pack_length=2000")
    stream = packing.stream()
    samples = stream.row(0)
    assert len(samples) > 2
    packed = packing.trainer(packing.model(), stream=FixedRows([samples], stream.parts, 2000))
    alone = small_run(tmp_path / "alone", *shared, f"optim.batch_size={len(samples)}")
    rows = FixedRows([(sample,) for sample in samples], stream.parts)
    single = alone.trainer(alone.model(), stream=rows)
    for trainer in (packed, single):
        trainer.resume_or_start()
    assert packed.counts.samples == single.counts.samples == len(samples)
    for name in ("loss", "grad_norm"):
        assert logged(packed, name) == pytest.approx(logged(single, name), rel=ACCURATE[dtype])


def test_a_run_resumes_bit_for_bit(model: list[str], tmp_path: Path) -> None:
    options = [*model, "model.dtype=bfloat16", "model.lora.dropout=0.1", "optim.batch_size=4",
               "hardware.per_device_batch_size=2"]  # fmt: skip
    through = trained(small_run(tmp_path / "through", *options))
    trained(small_run(tmp_path / "stopped", *options, "optim.stop_after=4"))
    resumed = trained(small_run(tmp_path / "stopped", *options))
    assert logged(resumed, "loss") == logged(through, "loss")
    assert same(weights(resumed.model), weights(through.model))


# Memory


@needs_cuda
def test_the_largest_batch_that_fits_is_found_by_running_out_of_memory(
    model: list[str], tmp_path: Path, say: Say
) -> None:
    options = [
        *model,
        "model.dtype=bfloat16",
        "optim.batch_size=64",
        "optim.max_steps=1",
        "optim.save_steps=1",
    ]
    measured = small_run(tmp_path / "4", *options, "hardware.per_device_batch_size=4")
    torch.cuda.reset_peak_memory_stats()
    ids = torch.ones((4, measured.config.prompt.max_length), dtype=torch.int64, device="cuda")
    net = measured.model()
    with measured.autocast():
        net.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    peak = torch.cuda.max_memory_reserved()
    del net, ids
    run = small_run(tmp_path / "auto", *options, "hardware.per_device_batch_size=auto")
    with memory_limit(int(1.4 * peak)):
        size = run.per_device_batch_size
        say(f"per_device_batch_size=auto found {size} within {1.4 * peak / 1e6:.0f} MB")
        assert 1 < size < 16
        assert trained(run).counts.samples == 64


@needs_cuda
def test_answers_that_run_out_of_memory_are_halved_and_stay_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, say: Say
) -> None:
    def asking(name: str) -> Run:
        return tiny_run(tmp_path / name, "inference.batch_tokens=1000000")

    run = asking("all")
    net = run.model()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    whole = run.predict(net)
    peak = torch.cuda.max_memory_allocated() - before
    del net
    run = asking("limited")
    net = run.model()
    with memory_limit(torch.cuda.memory_allocated() + int(0.6 * peak)):
        halved = run.predict(net)
    say(f"answers: {run.predictor.budget.tokens:,} tokens at once within {0.6 * peak / 1e6:.0f} MB")
    assert run.predictor.budget.tokens < run.predictor.budget.planned
    assert "out of memory: at most" in caplog.text
    assert [each.text for each in halved] == [each.text for each in whole]


# Answers


def tiny_run(folder: Path, *overrides: str) -> Run:
    """The package's trained model in float32: its answers are no coin tosses, which rounding could turn."""
    options = [HERE, "experiment=smoke", "tracking=off", "inference.limit=8", "inference.num_views=2"]
    return compose([*options, *overrides], folder)


def test_answers_in_batches_are_those_of_one_prompt_at_a_time(tmp_path: Path) -> None:
    batched, single = (
        run.predict(run.model())
        for run in (tiny_run(tmp_path / "a"), tiny_run(tmp_path / "b", "inference.batch_tokens=1"))
    )
    assert [each.text for each in batched] == [each.text for each in single]
    assert [each.log_probability for each in batched] == pytest.approx(
        [each.log_probability for each in single], abs=1e-3
    )


def test_threshold_search_finds_what_it_finds_on_the_cpu(tmp_path: Path) -> None:
    torch.manual_seed(3)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    net = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=10, num_key_value_heads=1, initializer_range=0.4, **shape)
    ).eval()
    prompts = [torch.randint(2, 10, (length,)).numpy() for length in (3, 1, 20, 7)]
    limits = Limits(max_new_tokens=6, stop_ids=(0, 1), pad_id=0)

    def found(engine: Any) -> list[dict[Any, float]]:
        answers = engine.answer(net, prompts, [("", 0, 0)] * len(prompts), limits)
        return [{(each.ids, each.finished): each.log_probability for each in some} for some in answers]

    engines = (Threshold(threshold=0.02), Transformers())
    on_cpu = [found(engine) for engine in engines]
    net = net.to("cpu" if ON_CPU else "cuda")
    for engine, expected in zip(engines, on_cpu, strict=True):
        for ours, truth in zip(found(engine), expected, strict=True):
            assert ours == pytest.approx(truth, abs=1e-3)


def test_likelihoods_behind_a_prompt_read_once_are_those_of_whole_rows(tmp_path: Path, say: Say) -> None:
    result = answers.measure_scoring(benchmark_of(tmp_path, "model=tiny"))
    say(f"likelihoods: {result['candidates_per_second']:.0f} candidates/s, {result['speedup']:.1f} times as "
        f"many as in whole rows; largest difference {result['largest_difference']:.1g}")  # fmt: skip
    assert result["largest_difference"] < 1e-3


# Test-time adaptation


def test_adapters_trained_at_once_answer_like_those_trained_one_by_one(tmp_path: Path, say: Say) -> None:
    tasks = adapt_tools.make_tasks(tmp_path / "tasks", 6)
    runs = {}
    for together in (1, 3):
        options = [HERE, f"adapt.together={together}", "model.dtype=float32", "optim.batch_size=2"]
        runs[together], _ = adapt_tools.adapted(tmp_path / str(together), tasks, *options)
    seconds = {n: run.folder.read_json("metrics.json")["seconds"]["training"] for n, run in runs.items()}
    say(f"adaptation: {seconds[1]:.1f} s of training one by one, {seconds[3]:.1f} s three at once")
    alone, at_once = (adapt_tools.predictions(run) for run in runs.values())
    assert len(alone) == len(at_once) > 0
    for one, other in zip(alone, at_once, strict=True):
        assert one.pop("log_probability") == pytest.approx(other.pop("log_probability"), abs=0.01)
        assert one == other


# Speed


def benchmark_of(folder: Path, *overrides: str) -> Run:
    size = 4 if ON_CPU or torch.cuda.get_device_properties(0).total_memory > 20e9 else 1
    options = [HERE, "job=benchmark", "experiment=smoke", "tracking=off", "benchmark.rounds=1",
               "benchmark.max_seconds=6", "benchmark.prompts=16", "benchmark.new_tokens=16"]  # fmt: skip
    endless = ["optim.max_steps=100000", "optim.save_steps=100000", "optim.batch_size=4",
               f"hardware.per_device_batch_size={size}", f"benchmark.accumulation={4 // size}"]  # fmt: skip
    small = ["benchmark.prompt_tokens=200", "benchmark.candidates=3"] if ON_CPU else []
    return compose([*options, *endless, *small, *overrides], folder)


def test_speed_memory_and_utilisation_are_measured(tmp_path: Path, say: Say) -> None:
    """Train and answer with random weights in the shape of Qwen2.5-0.5B; on a CPU with the tiny model."""
    overrides = [] if ON_CPU else shape_of_qwen(tmp_path / "qwen")
    run = benchmark_of(tmp_path / "run", *overrides)
    result = training.measure_training(run, length=64 if ON_CPU else 1024, packing=False)
    used = result["flops_utilisation"]
    say(f"training: {result['num_parameters'] / 1e6:.0f} million parameters, {run.dtype}, "
        f"{result['tokens_per_second']:,.0f} tokens/s (bare loop: {result['bare_tokens_per_second']}), "
        f"peak memory {result['peak_memory_bytes'] / 1e9:.1f} GB, "
        f"MFU {'not known for this device' if used is None else format(used, '.1%')}")  # fmt: skip
    assert result["tokens_per_second"] > 0
    assert result["relative_speed"] is None or result["relative_speed"] > 0.3, (
        "None: the bare loop does not fit"
    )
    assert result["peak_memory_bytes"] > result["num_parameters"]
    assert used is None or 0 < used < 1
    answering = answers.measure_generation(run)
    speed, speedup = answering["tokens_per_second"], answering["speedup"]
    say(f"answers: {speed:,.0f} tokens/s in batches, {speedup:.1f} times as many as one at a time")
    assert ON_CPU or speedup > 1


def shape_of_qwen(folder: Path) -> list[str]:
    folder.mkdir()
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    Qwen2Config(
        architectures=["Qwen2ForCausalLM"], vocab_size=151936, hidden_size=896, intermediate_size=4864,
        num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    ).save_pretrained(folder)  # fmt: skip
    return [
        f"model.path={folder}", "model.name=toy", "model.weights=random", "model.dtype=auto",
        "model.lora.rank=128",
    ]  # fmt: skip


# Which GPUs


@needs_cuda
@pytest.mark.skipif(
    "CUDA_VISIBLE_DEVICES" in os.environ, reason="CUDA_VISIBLE_DEVICES gives GPUs other numbers"
)
def test_a_run_sees_the_gpu_that_it_names() -> None:
    last = NUM_GPUS - 1
    script = (
        "from arc_experiments.config.schema import Hardware\n"
        "from arc_experiments.runs.cores_and_gpus import show_gpus\n"
        f"show_gpus(Hardware(gpu_ids=[{last}]))\n"
        "import torch\n"
        "print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", str(torch.cuda.get_device_properties(last).uuid)]


@pytest.mark.skipif(NUM_GPUS < 2, reason="needs two GPUs")
@pytest.mark.parametrize("parallelism", ["data", "fsdp"])
def test_two_processes_train_and_answer_like_one(parallelism: str, tmp_path: Path) -> None:
    options = [HERE, "model.dtype=float32", "optim.max_steps=4", "optim.save_steps=4"]
    two = ["hardware.num_processes=2", f"hardware.parallelism={parallelism}"]
    for name, more in (("one", []), ("two", two)):
        code, output = test_ranks.run_command(tmp_path / name, *options, *more)
        assert code == 0, output
    assert test_ranks.losses(tmp_path / "two") == pytest.approx(test_ranks.losses(tmp_path / "one"), abs=1e-3)


def test_the_command_trains_and_answers_here(tmp_path: Path) -> None:
    code, output = test_ranks.run_command(tmp_path / "run", HERE, "model.dtype=bfloat16")
    assert code == 0, output
    assert (tmp_path / "run/report.html").exists()
    environment = (tmp_path / "run/environment.json").read_text()
    assert ON_CPU or torch.cuda.get_device_name(0) in environment
