"""Which layers of a model an adapter may be added to, and which of them see pictures."""

import re

import torch
from transformers import PreTrainedModel

from arc_experiments.config.schema import Model
from arc_experiments.models.hub import ModelError
from arc_experiments.models.processor import sees_pictures


def vision_parts(base: PreTrainedModel) -> list[str]:
    """Return the full names of a model's parts beside its language part: vision tower and connector."""
    if not sees_pictures(base.config):
        return []
    language = base.get_decoder()
    parts = base.base_model.named_children()
    return [f"{base.base_model_prefix}.{name}" for name, part in parts if part is not language]


def vision_pattern(base: PreTrainedModel) -> str | None:
    """Return the regular expression that all layers of the `vision_parts` match; None if there are none."""
    parts = vision_parts(base)
    return rf"({'|'.join(map(re.escape, parts))})(\..*)?" if parts else None


def linear_layers(base: PreTrainedModel, hidden: str | None) -> list[str]:
    """Return the last names of the linear layers that the pattern does not hide, without the LM head."""
    head = base.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, layer in base.named_modules()
            if isinstance(layer, torch.nn.Linear)
            and layer is not head
            and not re.fullmatch(hidden or "", name)
        }
    )


def check_names(base: PreTrainedModel, model: Model) -> None:
    """Refuse names that no layer has: PEFT does so only if none of them is right.

    Raises:
        ModelError: which lists the names of the model's layers.
    """
    assert model.lora is not None
    hidden = None if model.lora.vision else vision_pattern(base)
    modules = {
        name: module
        for name, module in base.named_modules()
        if hidden is None or not re.fullmatch(hidden, name)
    }
    last = {name.rpartition(".")[2]: module for name, module in modules.items()}
    parts = sorted(name for name in last if name and not name.isdigit())
    layers = [name for name in parts if getattr(getattr(last[name], "weight", None), "ndim", 0) == 2]
    targets = model.lora.target_modules
    if isinstance(targets, str):
        is_wrong = targets != "all-linear" and not any(re.fullmatch(targets, name) for name in modules)
        unknown = [targets] if is_wrong else []
    else:
        unknown = [name for name in targets if not _has(modules, name)]
    if unknown:
        beside = "" if hidden is None else "; model.lora.vision=true adds those that see pictures"
        raise ModelError(
            f"model.lora.target_modules: {model.path} has no layer {', '.join(unknown)}; it has: "
            f"{', '.join(layers)} (or all-linear){beside}"
        )
    unknown = [name for name in model.lora.modules_to_save if not _has(modules, name)]
    if unknown:
        raise ModelError(
            f"model.lora.modules_to_save: {model.path} has no module {', '.join(unknown)}; it has: "
            f"{', '.join(parts)}"
        )


def _has(modules: dict[str, torch.nn.Module], part: str) -> bool:
    """Whether some module has this name, or a dotted name that ends with it."""
    return any(f".{name}".endswith(f".{part}") for name in modules)
