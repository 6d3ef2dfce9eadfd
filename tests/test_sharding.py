"""Sharded weights: what is refused; two processes train, stop, resume and answer like one whole model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file
from small_training import small_run
from toy_models import make_base
from transformers import AutoModelForCausalLM

from arc_experiments import compose, load_run
from arc_experiments.config.check import ConfigError
from arc_experiments.jobs import finetune
from arc_experiments.runs.folder import RunFolder
from arc_experiments.training.recording import read_log
from arc_experiments.training.sharding import SHARDED_WEIGHTS, ShardingError, check_checkpoint

FSDP = ["hardware.parallelism=fsdp", "hardware.num_processes=2"]


@pytest.mark.parametrize(
    "excluded",
    [
        "hardware.num_processes=1",
        "hardware.per_device_batch_size=auto",
        "model.quantisation=4bit",
        "model.dtype=float16",
        "model.compile=true",
        "model.lora.initialisation=eva",
        "model.lora.modules_to_save=[lm_head]",
        "optim.name=adamw_8bit",
        "optim.load_state=.",
        "optim.best_by=pass_at_2",
        "job=benchmark",
    ],
)
def test_what_does_not_go_with_shards_is_refused_before_anything_is_loaded(
    tmp_path: Path, excluded: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        compose([*FSDP, "hardware.device=cpu", excluded], tmp_path)
    key = excluded.partition("=")[0]
    assert f"hardware.parallelism=fsdp does not go with {key}=" in str(raised.value)


def test_all_that_is_left_out_can_be_named_and_a_launcher_may_say_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose([*FSDP, "model.lora=null", "optim.name=sgd"], tmp_path / "all")
    monkeypatch.setenv("RANK", "0")
    compose(["hardware.parallelism=fsdp"], tmp_path / "launched")


def test_one_process_is_refused_where_only_the_machine_tells(tmp_path: Path) -> None:
    run = small_run(tmp_path, *FSDP, "optim.batch_size=2")
    with pytest.raises(ShardingError, match=r"there is one: set hardware.num_processes"):
        run.trainer(run.model(), [])


def test_an_adapter_that_trains_embeddings_is_refused_also_where_it_was_loaded(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=False)
    custom = ["model=custom", f"model.path={base}", "optim.batch_size=2"]
    whole = small_run(tmp_path / "a", *custom, "model.lora.target_modules=[q_proj,lm_head]")
    sharded = small_run(tmp_path / "b", *custom, *FSDP)
    with pytest.raises(ShardingError, match="does not train an adapter's embedding or LM head"):
        sharded.trainer(whole.model(), [])


def test_a_checkpoint_of_the_other_kind_is_refused_with_the_remedy(tmp_path: Path) -> None:
    check_checkpoint(tmp_path, is_sharded=False)
    with pytest.raises(ShardingError, match=r"parallelism=data and cannot .* with fsdp: set .*=data, or"):
        check_checkpoint(tmp_path, is_sharded=True)
    (tmp_path / SHARDED_WEIGHTS).mkdir()
    check_checkpoint(tmp_path, is_sharded=True)
    with pytest.raises(ShardingError, match=r"parallelism=fsdp and cannot .* with data: set .*=fsdp, or"):
        check_checkpoint(tmp_path, is_sharded=False)


# Two processes. Each start costs seconds, so one start does all; the reference is computed here.

TRAINING = [
    "experiment=smoke", "tracking=off", "data.limit=4", "prompt.max_length=900", "model=custom",
    "model.dtype=float32", "model.lora.rank=4", "optim.batch_size=4", "optim.max_steps=5",
    "optim.save_steps=1", "optim.eval_steps=1", "hardware=cpu", "hardware.threads=1",
    "hardware.per_device_batch_size=2",
    "inference.limit=1", "inference.max_new_tokens=4", "optim.best_by=validation_loss", "optim.min_delta=0.5",
    "optim.max_grad_norm=0.1", "optim.learning_rate=0.02",
]  # fmt: skip

PROCESS = """
import gc, sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from arc_experiments.launching import worker
from arc_experiments import compose
from arc_experiments.runs.cores_and_gpus import join_processes
from arc_experiments.run import Run
from arc_experiments.training.trainer import StreamTrainer

torch.set_num_threads(1)
processes = join_processes(torch.device("cpu"))
rank, step, load = processes.process_index, StreamTrainer.training_step, Run.trained_model
folder, overrides = Path(sys.argv[1]), sys.argv[2:]

def work(name, *more):
    if rank == 0:
        compose([*overrides, *more], folder / name)
    processes.wait_for_everyone()
    code = worker.main([str(folder / name)])
    with (folder / f"{name}-{rank}.codes").open("a") as file:
        print(code, file=file)
    processes.wait_for_everyone()

def looked_at(self, model, *rest, **more):
    parameters = [p for name, p in model.named_parameters() if ".layers." in name]
    assert all(isinstance(p, DTensor) for p in parameters)
    assert sum(p.to_local().numel() for p in parameters) < 0.6 * sum(p.numel() for p in parameters)
    return step(self, model, *rest, **more)

def poisoned(self, model, *rest, **more):
    loss = step(self, model, *rest, **more)
    if rank == 1 and self.state.global_step == 2:
        gradient = next(p.grad for p in model.parameters() if p.grad is not None)
        gradient.to_local().fill_(float("nan"))
    return loss

def alone(self):
    shards = [each for each in gc.get_objects() if issubclass(type(each), DTensor)]
    assert not shards, "the whole model comes in place of its shards"
    return load(self)

StreamTrainer.training_step, Run.trained_model = looked_at, alone
work("through")
work("stopped", "optim.stop_after=3")
work("stopped")
if rank == 0:
    for name in (".trained.json", "metrics.json"):
        (folder / "through" / name).rename(folder / name)
work("through")
StreamTrainer.training_step = poisoned
work("poisoned")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole`, trained here; `through` in shards, and its end again; `stopped`, resumed; `poisoned`."""
    folder = tmp_path_factory.mktemp("sharded")
    training = [*TRAINING, f"model.path={make_base(folder / 'base')}"]
    torch.set_num_threads(1)
    finetune.main(compose(training, folder / "whole"), Console(quiet=True))
    (folder / "process.py").write_text(PROCESS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(
        [*torchrun, str(folder / "process.py"), str(folder), *training, *FSDP],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def codes(folder: Path, name: str) -> list[list[int]]:
    return [[int(code) for code in (folder / f"{name}-{rank}.codes").read_text().split()] for rank in (0, 1)]


def logged(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_log(folder / "train_log.jsonl") if name in line]


@pytest.mark.slow
def test_shards_train_like_whole_models_and_their_adapter_fits_anywhere(folder: Path) -> None:
    assert codes(folder, "through") == [[0, 0], [0, 0]]
    for name, rounding in (("loss", 1e-5), ("validation_loss", 1e-5), ("grad_norm", 1e-4)):
        assert logged(folder / "through", name) == pytest.approx(logged(folder / "whole", name), rel=rounding)
    assert min(logged(folder / "whole", "grad_norm")) > 0.1, "gradients are clipped"
    whole, ours = (RunFolder(folder / name).read_json("metrics.json") for name in ("whole", "through"))
    assert ours["score"] == whole["score"]
    assert ours["train"]["tokens"] == whole["train"]["tokens"]
    expected, saved = (
        load_file(folder / name / "adapter/adapter_model.safetensors") for name in ("whole", "through")
    )
    assert saved.keys() == expected.keys()
    torch.testing.assert_close(saved, expected, atol=1e-5, rtol=0)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "through/adapter"
    )
    loss = load_run(folder / "through").validation_loss(model).token_mean
    assert loss == pytest.approx(ours["validation"]["loss"]["token_mean"], abs=1e-5)


@pytest.mark.slow
def test_shards_that_stopped_go_on_as_if_they_had_not(folder: Path) -> None:
    assert codes(folder, "stopped") == [[0, 0], [0, 0]]
    for name in ("loss", "grad_norm"):
        assert logged(folder / "stopped", name) == logged(folder / "through", name)
    adapters = [
        (folder / name / "adapter/adapter_model.safetensors").read_bytes() for name in ("stopped", "through")
    ]
    assert adapters[0] == adapters[1]


@pytest.mark.slow
def test_the_best_weights_of_shards_are_kept_also_where_only_the_end_is_repeated(folder: Path) -> None:
    metrics = RunFolder(folder / "through").read_json("metrics.json")
    step, value = metrics["best"]["step"], metrics["best"]["value"]
    assert 1 < step < 5, "neither the untrained weights nor the last ones"
    assert value == logged(folder / "through", "validation_loss")[step]
    assert metrics["validation"]["loss"]["token_mean"] == pytest.approx(value, abs=1e-6)
    before = json.loads((folder / "metrics.json").read_text())
    assert {name: metrics[name] for name in ("best", "validation", "score")} == {
        name: before[name] for name in ("best", "validation", "score")
    }


@pytest.mark.slow
def test_a_gradient_that_is_no_number_in_one_shard_stops_all_processes(folder: Path) -> None:
    assert codes(folder, "poisoned") == [[1], [1]]
    assert "the gradients of step 3 are not finite" in RunFolder(folder / "poisoned").status["error"]
    assert len(logged(folder / "poisoned", "loss")) == 2
