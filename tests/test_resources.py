"""What a run needs of memory and disk before it starts: counted without weights, chosen by, and refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from small_training import small_run
from toy_llama_vision import llama_vision
from toy_models import make_base, settings
from transformers import AutoConfig

from arc_experiments.jobs import finetune, resources
from arc_experiments.jobs.resources import check_resources
from arc_experiments.models.adapters import add_adapter
from arc_experiments.models.hub import load
from arc_experiments.models.loading import load_base
from arc_experiments.resources import needs as needs_module
from arc_experiments.resources.choosing import choose
from arc_experiments.resources.disk import written
from arc_experiments.resources.fake_model import FakeModel, fake_model
from arc_experiments.resources.held import Held
from arc_experiments.resources.limits import free_disk, free_host_memory
from arc_experiments.resources.memory import Need, optimizer_bytes
from arc_experiments.resources.workload import AnswerBatch, vision_bytes
from arc_experiments.run import Run

GB = 10**9


def test_what_tensors_hold_is_counted_and_given_back() -> None:
    known = torch.zeros(1000)
    with Held([known]) as held:
        first = known + 1
        view = first[:10]
        assert held.peak == 4000, "a view holds nothing of its own"
        second = first * 2
        del first
        third = second + 1
        assert held.peak == 3 * 4000, "the view still holds the first"
        del view, second, third
        known.add_(1)
        _ = known + 1
    assert held.peak == 3 * 4000


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), vocab_size=400)


def fake(path: Path, **more: object) -> FakeModel:
    return fake_model(settings(path, **more), num_tokens=None, dtype=torch.float32, trainable=True)


def test_the_weights_are_those_of_the_real_model(base: Path) -> None:
    model = settings(base)
    real = add_adapter(
        load_base(model, dtype=torch.float32, device=torch.device("cpu")), model, seed=1, trainable=True
    )
    counted = fake(base)
    parameters = list(real.parameters())
    assert counted.num_trained == sum(each.numel() for each in parameters if each.requires_grad)
    own = sum(each.numel() * 4 for each in {id(each): each for each in parameters}.values())
    assert own <= counted.weights <= 1.01 * own, "buffers are counted too"
    assert fake(base, lora=None).num_trained == counted.num_parameters - counted.num_trained


def real_peak(base: Path, *, rows: int, length: int, labelled: int) -> int:
    """The most that a real pass of the model on the CPU holds at once."""
    model = settings(base)
    real = add_adapter(
        load_base(model, dtype=torch.float32, device=torch.device("cpu")), model, seed=1, trainable=True
    ).train()
    with Held([*real.parameters(), *real.buffers()]) as held:
        for each in real.parameters():
            each.grad = torch.zeros_like(each) if each.requires_grad else None
        ids = torch.ones((rows, length), dtype=torch.int64)
        mask = {"attention_mask": torch.ones_like(ids)} if rows > 1 else {}
        for each in mask.values():
            each[1, -10:] = 0
        logits = real(input_ids=ids, use_cache=False, logits_to_keep=rows * labelled, **mask).logits
        chosen = logits.flatten(0, 1)[torch.arange(rows * labelled)]
        torch.nn.functional.cross_entropy(chosen, torch.ones(rows * labelled, dtype=torch.int64)).backward()
    return held.peak


@pytest.mark.parametrize(("rows", "length"), [(1, 300), (2, 200)])
def test_a_pass_without_weights_holds_what_a_real_one_does(base: Path, rows: int, length: int) -> None:
    counted = fake(base).training(rows=rows, length=length, labelled=20, checkpointing=False)
    assert counted == pytest.approx(real_peak(base, rows=rows, length=length, labelled=20), rel=0.03)


def test_layers_that_look_at_pictures_hold_what_they_do_in_a_real_pass() -> None:
    rows, length, tiles = 2, 60, (2, 40)
    model = settings(llama_vision(), lora=None)
    real = load_base(model, dtype=torch.float32, device=torch.device("cpu")).eval()
    patches = 80 * real.model.vision_model.num_patches
    with Held([*real.parameters(), *real.buffers()]) as held, torch.no_grad():
        ids = torch.ones((rows, length), dtype=torch.int64)
        seen = {
            "cross_attention_states": torch.zeros(rows, patches, 32),
            "cross_attention_mask": torch.ones((rows, length, *tiles), dtype=torch.int64),
        }
        mask = torch.ones_like(ids)
        real(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=False, **seen)
    counted = FakeModel(load(AutoConfig, model), model, num_tokens=None, dtype=torch.float32, trainable=False)
    with_pictures = counted.loss(rows=rows, length=length, answer=1, tiles=tiles)
    assert with_pictures == pytest.approx(held.peak, rel=0.03)
    assert with_pictures > 3 * counted.loss(rows=rows, length=length, answer=1)


def test_what_is_kept_of_pictures_does_not_grow_with_answers() -> None:
    model = settings(llama_vision(), lora=None)
    counted = FakeModel(load(AutoConfig, model), model, num_tokens=None, dtype=torch.float32, trainable=False)
    small, large = (
        counted.answers(AnswerBatch(prompts=2, rows=rows, length=60, new_tokens=10), tiles=(1, 4))
        for rows in (2, 6)
    )
    of_a_token = 4 * 2 * 16  # keys and values of a token or patch in one layer: one looks, the other reads
    assert large - small == 4 * of_a_token * (4 * counted.num_patches + 60 + 10)


def test_a_pass_grows_with_its_tokens_and_shrinks_with_checkpointing(base: Path) -> None:
    model = fake(base)

    def peak(rows: int, length: int, *, checkpointing: bool = False) -> int:
        return model.training(rows=rows, length=length, labelled=20, checkpointing=checkpointing)

    assert 1.8 * peak(1, 500) < peak(1, 1000) < 2.3 * peak(1, 500)
    assert 1.7 * peak(1, 1000) < peak(2, 1000)
    assert peak(2, 1000, checkpointing=True) < 0.8 * peak(2, 1000)
    assert peak(1, 500) == peak(1, 500), "nothing is left over"
    assert model.loss(rows=1, length=1000, answer=20) < peak(1, 1000) / 2


def test_answers_need_room_for_prompts_and_answers_in_all_rows(base: Path) -> None:
    model = fake(base)
    small, large = (
        model.answers(AnswerBatch(prompts=2, rows=rows, length=100, new_tokens=50)) for rows in (2, 8)
    )
    of_a_token = 2 * 2 * 64 * 4  # keys and values of two layers, of width 64 in float32
    assert large - small == 6 * 150 * of_a_token
    assert small > 2 * 150 * of_a_token


def test_quantised_layers_take_half_a_byte_a_weight(base: Path) -> None:
    whole = fake_model(settings(base), num_tokens=None, dtype=torch.bfloat16, trainable=False)
    small = fake_model(
        settings(base, quantisation="4bit"), num_tokens=None, dtype=torch.bfloat16, trainable=False
    )
    in_layers = 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert whole.weights - small.weights == pytest.approx((2 - 0.516) * in_layers, rel=0.001)


def test_a_cut_vocabulary_needs_less(base: Path) -> None:
    whole = fake_model(settings(base), num_tokens=None, dtype=torch.float32, trainable=True)
    cut = fake_model(settings(base), num_tokens=16, dtype=torch.float32, trainable=True)
    assert whole.weights - cut.weights == (400 - 16) * 64 * 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw_torch", 800),
        ("adamw_8bit", 200),
        ("paged_ademamix_8bit", 300),
        ("sgd", 0),
        ("lion_32bit", 400),
    ],
)
def test_optimizers_keep_so_many_bytes_a_weight(name: str, expected: int) -> None:
    assert optimizer_bytes(name, 100) == expected


def test_the_vision_part_takes_more_if_it_is_trained() -> None:
    config = SimpleNamespace(
        vision_config=SimpleNamespace(patch_size=14, temporal_patch_size=2, hidden_size=100, depth=5)
    )
    pictures = {"pixel_values": ((64, 1176), 64 * 1176 * 4), "image_grid_thw": ((1, 3), 24)}
    assert vision_bytes(config, pictures, trained=False) == 34 * 64 * 100
    assert vision_bytes(config, pictures, trained=True) == 5 * 34 * 64 * 100
    assert vision_bytes(config, {}, trained=True) == 0


def by_row(fixed: float, each: float, saved: float = 0.3) -> Callable[[int, bool], int]:
    return lambda rows, checkpointing: int((fixed + rows * each * (saved if checkpointing else 1)) * GB)


@pytest.mark.parametrize(
    ("free", "most_rows", "single", "rows", "checkpointing", "why"),
    [
        (80, 16, None, 16, False, "a step has no more in a process"),
        (24, 16, None, 4, False, "8 would take 34.0 GB of 24.0 GB"),
        (24, 12, None, 4, False, "8 do not divide the 12 of a step"),
        (5, 16, None, 2, True, "a row takes 6.0 GB without it and 3.2 GB with it, and there are 5.0 GB"),
        (5, 16, None, 2, True, "4 would take 6.8 GB of 5.0 GB"),
        (1, 16, None, 1, False, "2 would take 10.0 GB of 1.0 GB"),
        (80, 16, "packed rows are batches", 1, False, "=1: packed rows are batches"),
    ],
)
def test_rows_and_checkpointing_are_chosen_by_what_fits(
    free: float, most_rows: int, single: str | None, rows: int, checkpointing: bool, why: str
) -> None:
    choice = choose(by_row(2, 4), int(free * GB), most_rows=most_rows, single=single, checkpointing=False)
    assert (choice.rows, choice.checkpointing) == (rows, checkpointing)
    assert any(why in reason for reason in choice.reasons)


def group(folder: Path, limit: str, used: int, reclaimable: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {reclaimable}\n")


def test_a_container_has_what_its_groups_leave_it(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    group(tmp_path / "job", "5000", 3000, reclaimable=500)
    group(tmp_path / "job" / "step", "max", 1000)
    assert free_host_memory(tmp_path, own) == 2500
    group(tmp_path / "job" / "step", "1500", 1000)
    assert free_host_memory(tmp_path, own) == 500
    own.write_text("0::/gone\n")
    assert free_host_memory(tmp_path, own) > 5000, "that of the machine"


def test_the_disk_is_that_of_the_folder_that_is_there(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.2)


def test_three_checkpoints_are_on_disk_at_once_and_the_best_weights_beside_them(tmp_path: Path) -> None:
    run = small_run(tmp_path, "optim.max_steps=10", "optim.save_steps=2", "optim.best_by=validation_loss")
    sizes = {"num_parameters": 10**7, "num_trained": 10**6, "tokenizer_bytes": 0, "answer_tokens": 10}
    disk = written(run.config, **sizes, num_tasks=4, num_answers=100, trains=True)
    assert disk.checkpoints[0] == 3
    assert disk.checkpoints[1] == pytest.approx(12 * 10**6, rel=0.01), "weights and two moments"
    assert disk.weights == 2 * 4 * 10**6
    only = written(run.config, **sizes, num_tasks=4, num_answers=100, trains=False)
    assert only.total == only.answers == disk.answers


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path, "optim.max_steps=2", "hardware.per_device_batch_size=null")


def shown(run: Run) -> str:
    console = Console(record=True, width=400)
    check_resources(run, console)
    return console.export_text()


def test_memory_and_disk_are_shown_and_noted_before_the_start(run: Run) -> None:
    text = shown(run)
    assert "chosen       hardware.per_device_batch_size=1: on a CPU one row at a time is fastest" in text
    memory, disk = (line for line in text.splitlines() if line.startswith(("memory", "disk")))
    assert "libraries and data" in memory
    assert "training (1 x " in memory or "answering (" in memory or "validation (" in memory
    assert "1 checkpoint of" in disk
    estimated = run.folder.read_json("environment.json")["estimated"]
    assert estimated.keys() == {"memory", "disk"}
    assert estimated["memory"] > 10**8


def test_what_cannot_fit_is_refused_with_numbers_and_the_remedy(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "free_host_memory", lambda: 0)
    monkeypatch.setattr(resources, "own_host_memory", lambda: 10**8)
    monkeypatch.setattr(resources, "free_disk", lambda folder: 1000)
    with pytest.raises(ValueError, match=r"about .* MB of memory are needed and 100 MB are there, most of it "
                       r"for libraries and data: take fewer processes .*; under 1 MB will be written to .*"
                       r"hydra\.run\.dir.* hardware\.force=true starts all the same"):  # fmt: skip
        shown(run)
    run.config.hardware.force = True
    assert "note         about" in shown(run)


def test_a_training_that_cannot_fit_loads_no_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "free_disk", lambda folder: 0)
    monkeypatch.setattr(Run, "model", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match="will be written to"):
        finetune.main(run, Console(record=True))


def test_a_model_that_cannot_be_counted_is_trained_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: object, **__: object) -> Need:
        raise NotImplementedError("aten::unheard_of")

    monkeypatch.setattr(needs_module, "model_need", odd)
    on_gpus(run, monkeypatch, GB)
    text = shown(run)
    assert "hardware.per_device_batch_size=1: the memory of this model cannot be counted" in text
    assert "libraries and data" in text
    assert run.per_device_batch_size == 1


def on_gpus(run: Run, monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """Make a run believe that it is on GPUs with so many bytes left."""
    run.__dict__["device"] = torch.device("cuda", 0)
    run.__dict__["dtype"] = torch.float32
    run.__dict__.pop("needs", None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    numbers: dict[Any, int] = {torch.device("cuda", 0): free[0], **dict(enumerate(free))}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (numbers[place], 10**11))


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "checkpointing"), [(4, False), (1, False), (1, True)])
def test_a_gpu_is_filled_and_activations_are_recomputed_if_one_row_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, checkpointing: bool
) -> None:
    run = small_run(tmp_path, "optim.batch_size=4", "hardware.per_device_batch_size=null")
    _ = run.processes
    on_gpus(run, monkeypatch, 10**11)
    wanted = run.needs.memory(rows=rows, checkpointing=checkpointing)
    assert wanted is not None
    on_gpus(run, monkeypatch, int(wanted.total / needs_module.USED) + 10)
    assert (run.per_device_batch_size, run.gradient_checkpointing) == (rows, checkpointing)
    text = shown(run)
    assert "of GPU memory: " in text
    assert "libraries of CUDA" in text


def test_a_split_model_has_the_memory_of_all_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path, "hardware.per_device_batch_size=null")
    _ = run.processes
    run.config.hardware.parallelism = "split"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    on_gpus(run, monkeypatch, 3 * GB, 2 * GB)
    assert run.needs.free == 5 * GB
