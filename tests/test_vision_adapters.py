"""LoRA on models that see pictures: on their language part alone, or on all of them."""

import json
import re
from pathlib import Path

import pytest
import torch
from toy_models import load, settings
from toy_vision import FAMILIES, TRAINED, vision_model

from arc_experiments.config.schema import Lora
from arc_experiments.models.adapters import save_weights
from arc_experiments.models.hub import ModelError
from arc_experiments.models.precision import pick_attention

SEES = re.compile(r"\.(visual|vision_model|vision_tower|connector|multi_modal_projector)\.")
LANGUAGE = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def trained_names(family: str, **lora: object) -> list[str]:
    model = load(settings(vision_model(family), lora=Lora(rank=4, **lora)))
    return [name for name, weight in model.named_parameters() if weight.requires_grad]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_the_language_part_unless_vision_is_asked_for(family: str, tmp_path: Path) -> None:
    model = load(settings(vision_model(family)))
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert names
    assert not any(SEES.search(name) for name in names)
    save_weights(model, None, tmp_path, base="base")
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["target_modules"] == LANGUAGE
    assert len(saved["exclude_modules"]) < 80
    wider = trained_names(family, vision=True)
    assert set(names) < set(wider)
    assert any(SEES.search(name) for name in wider)
    assert not any("lm_head" in name for name in wider)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], r".*\.(q_proj|v_proj)"])
def test_layers_are_named_by_lists_and_regular_expressions(targets: object) -> None:
    names = trained_names("idefics3", target_modules=targets)
    assert len(names) == 2 * 2 * 2
    assert not any(SEES.search(name) for name in names)
    wider = trained_names("idefics3", target_modules=targets, vision=True)
    assert len(wider) == 2 * len(names), "its vision tower has layers of the same names"


@pytest.mark.parametrize("targets", [["qkv"], r".*\.visual\..*"])
def test_a_layer_that_only_the_vision_tower_has_is_unknown_without_it(targets: object) -> None:
    assert trained_names("qwen2_5_vl", target_modules=["qkv"], vision=True)
    with pytest.raises(ModelError, match=r"has no layer .*q_proj.*model\.lora\.vision=true"):
        trained_names("qwen2_5_vl", target_modules=targets)
    with pytest.raises(ModelError, match="has no layer nonsense"):
        trained_names("qwen2_5_vl", target_modules=["nonsense"], vision=True)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("family", TRAINED)
def test_what_sees_pictures_is_not_quantised(family: str, bits: str) -> None:
    model = load(settings(vision_model(family), quantisation=bits)).get_base_model()
    kinds = {name: type(layer).__name__ for name, layer in model.named_modules()}
    linear = {name: kind for name, kind in kinds.items() if kind.startswith("Linear")}
    small = {name for name, kind in linear.items() if kind != "Linear"}
    assert not any(SEES.search(f".{name}.") for name in small)
    assert all(any(f".{each}" in name for name in small) for each in LANGUAGE)
    assert linear["lm_head"] == "Linear"


def test_mllama_takes_no_flash_attention() -> None:
    gpu, half = torch.device("cuda"), torch.bfloat16
    assert pick_attention("auto", device=gpu, dtype=half, kind="mllama") == "sdpa"
    with pytest.raises(ModelError, match="not possible with a model of the kind mllama"):
        pick_attention("flash_attention_2", device=gpu, dtype=half, kind="mllama")
