"""What a user should know about a run's model before it starts, a sentence each."""

import json
from pathlib import Path
from typing import Any

import torch

from arc_experiments.config.schema import Model
from arc_experiments.models.precision import has_bfloat16


def notes(model: Model, *, dtype: torch.dtype, device: torch.device, trainable: bool) -> list[str]:
    """The notes that apply to this model on this device; `trainable` adds those about training."""
    found = [_precision_note(model.dtype, dtype, device, has_bfloat16(device))]
    if trainable:
        found += [_adapter_note(model), _initialisation_note(model)]
    if model.weights == "random" and model.adapter is None:
        found.append("model.weights=random: an untrained model: losses fall, scores stay low")
    return [note for note in found if note is not None]


def _precision_note(name: str, dtype: torch.dtype, device: torch.device, bfloat16: bool) -> str | None:
    """`bfloat16`: whether the device computes in bfloat16 without emulation."""
    if dtype == torch.float16:
        slow = ", and most CPUs are slow in it" if device.type == "cpu" else ""
        return (
            "model.dtype=float16: trainings that are stable in bfloat16 have diverged in float16 after hours"
            + slow
        )
    if name == "auto" and device.type == "cuda" and not bfloat16:
        return (
            "this GPU has no bfloat16, so model.dtype=auto computes in float32. model.dtype=float16 is about "
            "four times as fast here and takes half the memory, but can diverge after hours"
        )
    if name == "bfloat16" and not bfloat16:
        return f"model.dtype=bfloat16 is emulated on this {device.type}, and slow: use model.dtype=auto"
    return None


def _initialisation_note(model: Model) -> str | None:
    if model.adapter is None and model.lora is not None and model.lora.initialisation in ("pissa", "olora"):
        return (
            f"model.lora.initialisation={model.lora.initialisation}: others saw its gradients explode on "
            "ARC; watch the gradient norms, and lower optim.learning_rate if they grow"
        )
    return None


def _adapter_note(model: Model) -> str | None:
    """The LoRA settings in use: the adapter's own, whatever `model.lora` says."""
    file = Path(model.adapter).expanduser() / "adapter_config.json" if model.adapter else None
    if file is None or not file.exists():
        return None
    config: dict[str, Any] = json.loads(file.read_text())
    targets = config.get("target_modules") or []
    names = {targets} if isinstance(targets, str) else {name.rpartition(".")[2] for name in targets}
    return (
        f"model.adapter's own LoRA settings are used, not those of model.lora: rank {config.get('r')}, "
        f"alpha {config.get('lora_alpha')}, on {', '.join(sorted(names))}"
    )
