"""Base models and adapters: what is loaded, trained, saved, and refused."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from toy_models import byte_tokenizer, make_base
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, ViTConfig

from arc_experiments import compose
from arc_experiments.checking import ConfigError
from arc_experiments.config import Hardware, Lora, Model
from arc_experiments.models import (
    ModelError,
    add_adapter,
    load_base,
    load_tokenizer,
    notes,
    pick_attention,
    pick_device,
    pick_dtype,
    save_weights,
)
from arc_experiments.run import Run

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = ["experiment=smoke", "tracking=off", "data.limit=3", "prompt.max_length=600", "optim.max_steps=2"]
IDS = torch.tensor([[5, 40, 41, 7, 40, 60, 3, 90]])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "base")


def settings(path: Path, **more: object) -> Model:
    return Model(name="m", path=str(path), **{"lora": Lora(rank=4), **more})


def load(model: Model, *, trainable: bool = True, **more: object) -> torch.nn.Module:
    loaded = load_base(model, dtype=torch.float32, device=CPU, **more)
    return add_adapter(loaded, model, seed=1, trainable=trainable)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def train_a_little(model: torch.nn.Module, steps: int = 3) -> list[float]:
    """Plain steps on one batch; the losses."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(steps):
        loss = model.train()(input_ids=IDS, labels=IDS, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


# LoRA


@pytest.mark.parametrize(
    "options",
    [
        "model.lora.initialisation=gaussian",
        "model.lora.initialisation=pissa",
        "model.lora.initialisation=olora",
        "model.lora.initialisation=orthogonal",
        "model.lora.initialisation=eva",
        "model.lora.dora=true",
        "model.lora.rslora=true",
        "model.lora.target_modules=[q_proj,v_proj]",
    ],
)
def test_every_kind_of_lora_is_trained_saved_and_loaded_again(tmp_path: Path, options: str) -> None:
    run = compose([*SMALL, "model.lora.rank=4", options], tmp_path)
    model = run.model()
    run.trainer(model, []).resume_or_start()
    run.save_weights(model)
    reloaded = run.validation_loss(run.trained_model()).token_mean
    assert reloaded == pytest.approx(run.validation_loss(model).token_mean, abs=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("initialisation", ["pissa", "olora"])
def test_an_adapter_that_changed_its_base_is_saved_for_the_base_as_published(
    base: Path, tmp_path: Path, initialisation: str, rslora: bool
) -> None:
    lora = Lora(rank=4, alpha=8, rslora=rslora, initialisation=initialisation, modules_to_save=["norm"])
    model = load(settings(base, lora=lora))
    published = AutoModelForCausalLM.from_pretrained(base)
    assert torch.allclose(logits(model), logits(published), atol=1e-4), "it starts as the base"
    train_a_little(model)
    save_weights(model, load_tokenizer(settings(base)), tmp_path, base=str(base))
    plain = PeftModel.from_pretrained(published, str(tmp_path))
    assert plain.peft_config["default"].r == 8
    assert not torch.allclose(logits(model), logits(AutoModelForCausalLM.from_pretrained(base)), atol=1e-2)
    assert torch.allclose(logits(plain), logits(model), atol=1e-4)


def test_a_training_with_pissa_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    pissa = [
        "model.lora.rank=4",
        "model.lora.initialisation=pissa",
        "optim.max_steps=4",
        "optim.save_steps=2",
    ]

    def finished(folder: Path, *stops: str) -> float:
        for stop in stops:
            run = compose([*SMALL, *pissa, stop], folder)
            model = run.model()
            run.trainer(model, []).resume_or_start()
        return run.validation_loss(model).token_mean

    through = finished(tmp_path / "a", "optim.stop_after=null")
    assert finished(tmp_path / "b", "optim.stop_after=2", "optim.stop_after=null") == through


@pytest.mark.slow
def test_eva_looks_at_samples_and_two_runs_start_alike(tmp_path: Path) -> None:
    eva = [*SMALL, "model.lora.rank=4", "model.lora.initialisation=eva"]
    first, second = (compose(eva, tmp_path / name).model() for name in "ab")
    default = compose([*SMALL, "model.lora.rank=4"], tmp_path / "c").model()
    weights = {name: p for name, p in first.named_parameters() if "lora_A" in name}
    assert weights
    assert all(torch.equal(p, second.get_parameter(name)) for name, p in weights.items())
    assert not any(torch.equal(p, default.get_parameter(name)) for name, p in weights.items())
    assert {p.shape[0] for p in weights.values()} == {4}, "every layer has the rank asked for"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            Lora(target_modules=["q_proj", "qproj"]),
            r"target_modules: .* has no layer qproj; it has: .*q_proj",
        ),
        (Lora(target_modules=".*nothing"), r"has no layer \.\*nothing"),
        (Lora(modules_to_save=["head"]), r"modules_to_save: .* has no module head; it has: .*lm_head"),
    ],
)
def test_names_that_no_layer_has_are_refused_with_those_that_there_are(
    base: Path, option: Lora, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load(settings(base, lora=option))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.lora.initialisation=pissa", "model.quantisation=4bit"], "changes the base's weights"),
        (["model.lora.initialisation=olora", "model.lora.dora=true"], "cannot be saved with model.lora.dora"),
        (
            ["model.lora.initialisation=orthogonal", "model.lora.rank=3"],
            "needs an even model.lora.rank, got 3",
        ),
        (["model.lora.target_modules='(q'"], "is no regular expression"),
        (["model.lora=null", "model.quantisation=8bit"], "quantised weights cannot be trained"),
    ],
)
def test_lora_settings_that_cannot_work_are_refused_at_once(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides, tmp_path)


def saved_adapter(base: Path, folder: Path) -> Path:
    model = load(settings(base, lora=Lora(rank=4, alpha=8, target_modules=["q_proj", "v_proj"])))
    save_weights(model, load_tokenizer(settings(base)), folder, base=str(base))
    return folder


def test_an_adapter_keeps_its_own_settings_and_the_plan_says_so(base: Path, tmp_path: Path) -> None:
    model = settings(base, adapter=str(saved_adapter(base, tmp_path)), lora=Lora(rank=16))
    assert load(model).peft_config["default"].r == 4
    (note,) = notes(model, dtype=torch.float32, device=CPU, trainable=True)
    assert "rank 4, alpha 8, on q_proj, v_proj" in note


def test_settings_typed_beside_an_adapter_that_has_others_are_refused(base: Path, tmp_path: Path) -> None:
    chosen = ["model=custom", f"model.path={base}", f"model.adapter={saved_adapter(base, tmp_path / 'x')}"]
    same = [
        "model.lora.rank=4",
        "model.lora.target_modules=[v_proj,q_proj]",
        "model.lora.initialisation=default",
    ]
    compose([*chosen, *same], tmp_path / "a")
    for option, both in {
        "model.lora.rank=64": r"model\.lora\.rank=64, but the adapter in .* has 4",
        "model.lora.alpha=4": r"alpha=4\.0, but .* has 8",
        "model.lora.target_modules=all-linear": r"=all-linear, but .* has \['q_proj', 'v_proj'\]",
        "model.lora.initialisation=pissa": r"=pissa, but .* has default",
    }.items():
        with pytest.raises(ConfigError, match=both):
            compose([*chosen, option], tmp_path / "b")


def test_a_broken_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = saved_adapter(base, tmp_path / "x")
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"model\.adapter=.* does not fit"):
        load(settings(base, adapter=str(adapter)))


# Quantised bases


@pytest.mark.parametrize("quantisation", ["4bit", "8bit"])
def test_an_adapter_on_a_quantised_base_learns_and_is_loaded_again(
    base: Path, tmp_path: Path, quantisation: str
) -> None:
    quantised = settings(base, quantisation=quantisation)
    model = load(quantised)
    before = logits(model)
    losses = train_a_little(model, steps=6)
    assert losses[-1] < losses[0]
    assert not torch.allclose(logits(model), before, atol=1e-3), "the adapter has changed"
    save_weights(model, load_tokenizer(quantised), tmp_path, base=str(base))
    again = load(settings(base, quantisation=quantisation, adapter=str(tmp_path)), trainable=False)
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("quantisation", ["4bit", "8bit"])
def test_a_quantised_training_goes_on_as_if_it_had_not_stopped(
    base: Path, tmp_path: Path, quantisation: str
) -> None:
    options = [
        *SMALL, "model=custom", f"model.path={base}", "model.dtype=float32", f"model.quantisation={quantisation}",
        "model.lora.rank=4", "prompt=compact", "optim.max_steps=4", "optim.save_steps=2",
    ]  # fmt: skip

    def finished(folder: Path, *stops: str) -> tuple[float, Run]:
        for stop in stops:
            run = compose([*options, stop], folder)
            model = run.model()
            run.trainer(model, []).resume_or_start()
        run.save_weights(model)
        return run.validation_loss(model).token_mean, run

    through, run = finished(tmp_path / "a", "optim.stop_after=null")
    stopped, _ = finished(tmp_path / "b", "optim.stop_after=2", "optim.stop_after=null")
    assert stopped == through
    assert run.validation_loss(run.trained_model()).token_mean == through
    weights = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in "ab"]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(float(value.abs().max()) > 0 for name, value in weights[0].items() if "lora_B" in name)


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
    monkeypatch.setattr("arc_experiments.models.precision.is_flash_attn_2_available", lambda: False)
    assert pick_attention("auto", device=GPU, dtype=half) == "sdpa"
    with pytest.raises(ModelError, match="flash-attn, which is not installed"):
        pick_attention("flash_attention_2", device=GPU, dtype=half)
    with pytest.raises(ModelError, match=r"flash_attention_2 needs a GPU: use model\.attention=auto"):
        pick_attention("flash_attention_2", device=CPU, dtype=half)


def test_every_attention_gives_the_same_logits(base: Path) -> None:
    truth = logits(load(settings(base, attention="eager")))
    for name in ("auto", "sdpa", "flex_attention"):
        model = load(settings(base, attention=name))
        assert torch.allclose(logits(model), truth, atol=1e-4), name


def test_float16_must_be_named_and_needs_a_gpu() -> None:
    with pytest.raises(ModelError, match=r"model\.dtype=float16 needs a GPU"):
        pick_dtype("float16", CPU)
    assert pick_dtype("float16", GPU) == torch.float16


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=r"hardware\.device=cuda"):
        pick_device(Hardware(device="cuda"))


def told(monkeypatch: pytest.MonkeyPatch, model: Model, dtype: torch.dtype, *, bfloat16: bool) -> list[str]:
    """The notes on a GPU that has bfloat16 or not."""
    monkeypatch.setattr("arc_experiments.models.advice.has_bfloat16", lambda device: bfloat16)
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
