"""Base models: what is loaded, what it computes in, what is refused."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from quick_compose import compose
from safetensors.torch import load_file, save_file
from toy_models import byte_tokenizer, load, logits, saved_adapter, settings
from transformers import BertConfig, BertForMaskedLM, ViTConfig

from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import Hardware, Lora, Model
from arc_experiments.models import hub
from arc_experiments.models.hub import ModelError, files_of
from arc_experiments.models.notes import notes
from arc_experiments.models.precision import pick_attention, pick_device, pick_dtype
from arc_experiments.models.tokenizer import load_tokenizer

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = [
    "experiment=smoke",
    "prompt=compact",
    "tracking=off",
    "data.limit=3",
    "prompt.max_length=600",
    "optim.max_steps=2",
]


# Where and in what it computes


def test_attention_is_flash_only_where_it_can_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    half = torch.bfloat16
    monkeypatch.setattr("arc_experiments.models.precision.is_flash_attn_2_available", lambda: True)
    assert pick_attention("auto", device=GPU, dtype=half) == "flash_attention_2"
    assert pick_attention("auto", device=GPU, dtype=torch.float32) == "sdpa"
    assert pick_attention("auto", device=CPU, dtype=half) == "sdpa"
    assert pick_attention("eager", device=GPU, dtype=half) == "eager"
    with pytest.raises(ModelError, match=r"flash_attention_2 computes in bfloat16 or float16 only"):
        pick_attention("flash_attention_2", device=GPU, dtype=torch.float32)
    assert pick_attention("auto", device=GPU, dtype=half, packs_rows=True) == "sdpa"
    with pytest.raises(ModelError, match=r"see each other unless hardware\.per_device_batch_size=1"):
        pick_attention("flash_attention_2", device=GPU, dtype=half, packs_rows=True)
    monkeypatch.setattr("arc_experiments.models.precision.is_flash_attn_2_available", lambda: False)
    assert pick_attention("auto", device=GPU, dtype=half) == "sdpa"
    with pytest.raises(ModelError, match="flash-attn, which is not installed"):
        pick_attention("flash_attention_2", device=GPU, dtype=half)
    with pytest.raises(ModelError, match=r"flash_attention_2 needs a GPU: use model\.attention=auto"):
        pick_attention("flash_attention_2", device=CPU, dtype=half)


@pytest.mark.parametrize("name", ["auto", "sdpa", pytest.param("flex_attention", marks=pytest.mark.slow)])
def test_every_attention_gives_the_same_logits(name: str, base: Path) -> None:
    truth = logits(load(settings(base, attention="eager")))
    assert torch.allclose(logits(load(settings(base, attention=name))), truth, atol=1e-4)


def test_weights_stored_quantised_are_loaded_if_asked_for(base: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    load(settings(base, quantisation="4bit"), trainable=False).save_pretrained(stored)
    with pytest.raises(ModelError, match=r"has quantised weights .* add model\.quantisation=4bit, or use"):
        load(settings(stored))
    again, first = (load(settings(path, quantisation="4bit"), trainable=False) for path in (stored, base))
    assert torch.allclose(logits(again), logits(first), atol=1e-4)


def test_float16_must_be_named() -> None:
    assert pick_dtype("auto", CPU) in (torch.bfloat16, torch.float32)
    assert [pick_dtype("float16", device) for device in (CPU, GPU)] == [torch.float16] * 2


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=r"hardware\.device=cuda"):
        pick_device(Hardware(device="cuda"))


def told(monkeypatch: pytest.MonkeyPatch, model: Model, dtype: torch.dtype, *, bfloat16: bool) -> list[str]:
    """The notes on a GPU that has bfloat16 or not."""
    monkeypatch.setattr("arc_experiments.models.notes.has_bfloat16", lambda device: bfloat16)
    return notes(model, dtype=dtype, device=GPU, trainable=True)


def test_an_old_gpu_is_told_of_float16_and_float16_of_its_danger(
    monkeypatch: pytest.MonkeyPatch, base: Path
) -> None:
    auto, half = settings(base), settings(base, dtype="float16")
    (note,) = told(monkeypatch, auto, torch.float32, bfloat16=False)
    assert "model.dtype=float16 is about four times as fast" in note
    assert told(monkeypatch, auto, torch.bfloat16, bfloat16=True) == []
    assert told(monkeypatch, settings(base, dtype="float32"), torch.float32, bfloat16=False) == []
    (note,) = told(monkeypatch, half, torch.float16, bfloat16=True)
    assert "diverged" in note
    assert "CPU" not in note
    (note,) = notes(half, dtype=torch.float16, device=CPU, trainable=True)
    assert "most CPUs are slow in it" in note
    (note,) = told(monkeypatch, settings(base, dtype="bfloat16"), torch.bfloat16, bfloat16=False)
    assert "emulated" in note


def test_initialisations_that_are_known_for_trouble_say_so(base: Path) -> None:
    pissa = settings(base, lora=Lora(initialisation="pissa"))
    (note,) = notes(pissa, dtype=torch.float32, device=CPU, trainable=True)
    assert "gradients explode" in note
    assert notes(pissa, dtype=torch.float32, device=CPU, trainable=False) == []


def test_a_model_spread_by_a_device_map_is_the_same_model(base: Path) -> None:
    truth = logits(load(settings(base)))
    assert torch.equal(logits(load(settings(base), device_map="auto")), truth)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.slow
def test_compiled_training_gives_the_same_losses(tmp_path: Path) -> None:
    def after_training(folder: Path, *more: str) -> tuple[float, float]:
        run = compose([*SMALL, *more], folder)
        model = run.model()
        trainer = run.trainer(model, [])
        trainer.resume_or_start()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        return losses[-1], run.validation_loss(model).token_mean

    plain = after_training(tmp_path / "plain")
    assert after_training(tmp_path / "compiled", "model.compile=true") == pytest.approx(plain, abs=1e-3)
    saved = "checkpoints/checkpoint-2/adapter_model.safetensors"
    first, second = (load_file(tmp_path / name / saved) for name in ("plain", "compiled"))
    assert first.keys() == second.keys(), "a checkpoint knows nothing of the compiler"


# What cannot be loaded


def copied(base: Path, folder: Path) -> Path:
    return Path(shutil.copytree(base, folder))


def test_an_adapter_named_as_a_model_is_refused_with_the_right_keys(base: Path, tmp_path: Path) -> None:
    adapter = saved_adapter(base, tmp_path / "adapter")
    with pytest.raises(
        ConfigError, match=rf"is an adapter, no model: model\.path={base} model\.adapter={adapter}"
    ):
        compose(["model=custom", f"model.path={adapter}"], tmp_path / "run")


def test_a_torn_weights_file_is_named_so(base: Path, tmp_path: Path) -> None:
    torn = copied(base, tmp_path / "torn")
    file = torn / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"a weights file is torn"):
        load(settings(torn))


def test_weights_that_are_not_all_there_are_not_filled_with_random_ones(base: Path, tmp_path: Path) -> None:
    partial = copied(base, tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    del weights["model.layers.0.self_attn.q_proj.weight"]
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights .*layers\.0\.self_attn\.q_proj\.weight"):
        load(settings(partial))


def test_a_model_without_weights_or_config_is_refused(base: Path, tmp_path: Path) -> None:
    bare = copied(base, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"could not be loaded. Tried: the folder: .*model\.safetensors"):
        load(settings(bare))
    (bare / "config.json").write_text("{torn")
    with pytest.raises(ModelError, match=r"could not be loaded. Tried: the folder: .*not a valid JSON"):
        load(settings(bare))
    (bare / "config.json").unlink()
    with pytest.raises(ModelError, match=r"could not be loaded. Tried: the folder"):
        load(settings(bare))


def test_models_of_another_kind_are_refused_by_what_they_are(tmp_path: Path) -> None:
    tiny = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertForMaskedLM(tiny).save_pretrained(tmp_path / "bert")
    ViTConfig(architectures=["ViTForImageClassification"]).save_pretrained(tmp_path / "vit")
    for name, kind in {"bert": "BertForMaskedLM", "vit": "ViTForImageClassification"}.items():
        with pytest.raises(ModelError, match=f"is a {kind}, which is no causal language model"):
            load(settings(tmp_path / name))


def test_a_folder_without_a_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    mute = copied(base, tmp_path / "mute")
    for file in mute.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer .*tokenizer\.json is missing"):
        load_tokenizer(settings(mute))
    assert len(load_tokenizer(settings(base))) == len(byte_tokenizer())


def test_files_of_a_hub_model_are_found_in_the_cache_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_resolves_hub", lambda: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = Model(name="m", path="someone/model")
    with pytest.raises(ModelError, match="someone/model is not in the local cache, and the hub is out of"):
        files_of(model, ["*"])
    snapshot = tmp_path / "models--someone--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--someone--model" / "refs").mkdir()
    (tmp_path / "models--someone--model" / "refs" / "main").write_text("abc")
    assert files_of(model, ["*"]) == snapshot
