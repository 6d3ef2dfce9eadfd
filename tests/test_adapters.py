"""Adapters: every kind is trained, saved and loaded again, on plain and on quantised bases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from quick_compose import compose
from safetensors.torch import load_file
from toy_models import IDS, load, logits, saved_adapter, settings, untrained
from transformers import AutoModelForCausalLM

from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import Lora
from arc_experiments.models.adapters import add_adapter, save_weights
from arc_experiments.models.hub import ModelError
from arc_experiments.models.loading import load_base
from arc_experiments.models.notes import notes
from arc_experiments.models.tokenizer import load_tokenizer
from arc_experiments.run import Run

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = [
    *untrained(),
    "experiment=smoke",
    "tracking=off",
    "data.limit=3",
    "prompt.max_length=600",
    "optim.max_steps=2",
]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_eva_refuses_samples_shorter_than_its_rank(base: Path) -> None:
    model = settings(base, lora=Lora(rank=8, initialisation="eva"))
    loaded = load_base(model, dtype=torch.float32, device=torch.device("cpu"))
    with pytest.raises(ModelError, match=r"no sample has as many tokens as model\.lora\.rank=8"):
        add_adapter(loaded, model, seed=1, trainable=True, samples=[np.arange(7, dtype=np.int32)])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            Lora(target_modules=["q_proj", "qproj"]),
            r"target_modules: .* has no layer qproj; it has: .*q_proj",
        ),
        (Lora(target_modules=["q_proj", "mlp.v_proj"]), r"has no layer mlp\.v_proj"),
        (Lora(modules_to_save=["mlp.lm_head"]), r"has no module mlp\.lm_head"),
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
        (
            ["model.lora.initialisation=olora", "model.lora.dora=true"],
            "does not go with model.lora.dora=true",
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


@pytest.mark.slow
@pytest.mark.parametrize("quantisation", ["4bit", "8bit"])
def test_a_quantised_training_goes_on_as_if_it_had_not_stopped(
    base: Path, tmp_path: Path, quantisation: str
) -> None:
    options = [
        *SMALL, "model=custom", f"model.path={base}", "model.weights=pretrained", "model.dtype=float32",
        f"model.quantisation={quantisation}",
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
