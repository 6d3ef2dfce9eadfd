"""The checks of `model` in a composition. Nothing here imports torch."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from arc_experiments.config.schema import Lora, Model

# How PEFT names what `model.lora` says, where a saved adapter can differ from it.
LORA_NAMES = {
    "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "rslora": "use_rslora", "dora": "use_dora",
    "target_modules": "target_modules", "modules_to_save": "modules_to_save", "initialisation": "init_lora_weights",
}  # fmt: skip
VOCABULARY_LAYERS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "model.embed_tokens")


def check_model(model: Model) -> Iterator[str]:
    """Combinations of `model`'s values that cannot work, a line each."""
    yield from _check_path(model.path)
    lora = model.lora
    if lora is None:
        if model.quantisation != "none":
            yield f"model.quantisation={model.quantisation} needs model.lora: quantised weights cannot be trained"
        return
    try:
        vocabulary_layers = _vocabulary_layers(lora)
    except re.error as error:
        yield f"model.lora.target_modules={lora.target_modules} is no regular expression: {error}"
        return
    if model.vocabulary == "arc" and vocabulary_layers:
        yield (
            f"model.lora trains {', '.join(vocabulary_layers)}, which model.vocabulary=arc cuts: the adapter would "
            "not fit the base model. Leave it out, or use model.vocabulary=full"
        )
    if lora.initialisation in ("pissa", "olora"):
        if model.quantisation != "none":
            yield (
                f"model.lora.initialisation={lora.initialisation} changes the base's weights, which "
                f"model.quantisation={model.quantisation} has fixed: use initialisation=default"
            )
        if lora.dora or vocabulary_layers:
            what = "model.lora.dora=true" if lora.dora else f"LoRA on {', '.join(vocabulary_layers)}"
            yield f"model.lora.initialisation={lora.initialisation} cannot be saved with {what}"
    if lora.initialisation == "orthogonal" and lora.rank % 2:
        yield f"model.lora.initialisation=orthogonal needs an even model.lora.rank, got {lora.rank}"


def _vocabulary_layers(lora: Lora) -> list[str]:
    """Those of embedding and LM head that this LoRA would train."""
    targets = lora.target_modules
    if isinstance(targets, str):
        named = [
            name for name in VOCABULARY_LAYERS if targets != "all-linear" and re.fullmatch(targets, name)
        ]
    else:
        named = [name for name in targets if name in VOCABULARY_LAYERS]
    return named + [name for name in lora.modules_to_save if name in VOCABULARY_LAYERS]


def _check_path(path: str) -> Iterator[str]:
    """An adapter's folder loads as if it were a model, with its base from wherever its file says."""
    file = Path(path).expanduser() / "adapter_config.json"
    if file.exists() and not (file.parent / "config.json").exists():
        base = json.loads(file.read_text()).get("base_model_name_or_path")
        yield f"model.path={path} is an adapter, no model: model.path={base} model.adapter={path}"


def ignored_lora(model: Model, typed: Iterable[str]) -> Iterator[str]:
    """LoRA settings that were typed beside an adapter that has others, and so would be ignored.

    Those of a model's YAML file are there always: that the adapter's own are used instead is no mistake.

    Args:
        typed: the dotted keys on the command line.
    """
    file = Path(model.adapter or "").expanduser() / "adapter_config.json"
    keys = set(typed)
    if model.adapter is None or not file.exists():
        return
    if model.lora is None:
        if "model.lora" in keys:
            yield f"model.lora=null trains all weights, and model.adapter={model.adapter} is a LoRA: leave one out"
        return
    if "model.lora" in keys:  # as a whole
        keys |= {f"model.lora.{name}" for name in LORA_NAMES}
    saved = json.loads(file.read_text())
    for key in sorted(keys):
        name = key.removeprefix("model.lora.")
        if name == key or name not in LORA_NAMES:
            continue
        ours, its = getattr(model.lora, name), saved.get(LORA_NAMES[name])
        if name == "initialisation" and its is True:
            its = "default"
        if _comparable(ours) != _comparable(its):
            yield f"{key}={ours}, but the adapter in {model.adapter} has {its} and keeps it: leave {key} out"


def _comparable(value: Any) -> Any:
    """Lists without their order; none as an empty one."""
    return sorted(value or []) if isinstance(value, list) or value is None else value
