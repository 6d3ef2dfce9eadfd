"""Adapters: make a new LoRA on a base model, load a saved one, save one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft import initialize_lora_eva_weights as eva_weights
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from arc_experiments.config.paths import path_outside
from arc_experiments.config.schema import Lora, Model
from arc_experiments.models.hub import ModelError
from arc_experiments.models.layers import check_names, linear_layers, vision_pattern
from arc_experiments.models.tokenizer import ArcTokenizer

if TYPE_CHECKING:
    from peft import PeftMixedModel

CHANGES_BASE = ("pissa", "olora")  # initialisations that subtract the adapter from the base's weights
WEIGHTS = "adapter_model.safetensors"


def begins_as_base(model: Model) -> bool:
    """Whether the untrained model computes exactly what its base does: a new LoRA adds nothing."""
    lora = model.lora
    return lora is not None and not model.adapter and not lora.dora and lora.initialisation == "default"


def needs_samples(model: Model) -> bool:
    """Whether `add_adapter` needs samples for the first weights."""
    return model.adapter is None and model.lora is not None and model.lora.initialisation == "eva"


def add_adapter(
    base: PreTrainedModel,
    model: Model,
    *,
    seed: int,
    trainable: bool,
    samples: Sequence[NDArray[Any]] = (),
) -> "PreTrainedModel | PeftModel | PeftMixedModel":
    """Add `model.adapter` to the base, or else a new LoRA if trainable.

    A saved adapter keeps its own LoRA settings; `model.lora` is ignored then.

    Args:
        seed: of a new LoRA's first weights.
        samples: token ids for `initialisation=eva`, each of shape (tokens,).

    Raises:
        ModelError: the adapter does not fit the base.
    """
    if model.adapter is not None:
        try:
            return PeftModel.from_pretrained(
                base, str(Path(model.adapter).expanduser()), is_trainable=trainable
            )
        except torch.OutOfMemoryError:  # a RuntimeError, too
            raise
        except (ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise ModelError(
                f"model.adapter={model.adapter} does not fit model.path={model.path}: {str(error)[:500]}"
            ) from error
    if model.lora is None or not trainable:
        return base.requires_grad_(trainable)
    check_names(base, model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(base, _lora_config(model.lora, base))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"model.lora does not fit model.path={model.path}: {str(error)[:500]}"
            ) from error
        if needs_samples(model):
            _eva(adapted, model.lora.rank, samples)
    if model.lora.initialisation in CHANGES_BASE:
        adapted.first_weights = {
            name: value.detach().cpu().clone() for name, value in get_peft_model_state_dict(adapted).items()
        }
    return adapted


def _lora_config(lora: Lora, base: PreTrainedModel) -> LoraConfig:
    hidden = None if lora.vision else vision_pattern(base)
    targets = lora.target_modules
    if hidden is not None and targets == "all-linear":  # PEFT would name those of the hidden parts as well
        targets = linear_layers(base, hidden)
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        exclude_modules=hidden,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=True if lora.initialisation == "default" else lora.initialisation,
        # rho=1 gives every layer the configured rank; more would move rank between layers
        eva_config=EvaConfig(rho=1.0) if lora.initialisation == "eva" else None,
        modules_to_save=lora.modules_to_save or None,
        task_type="CAUSAL_LM",
    )


def _eva(adapted: Any, rank: int, samples: Sequence[NDArray[Any]]) -> None:
    """Compute the first weights from the activations of samples (EVA, arXiv 2410.07170)."""
    batches = [
        {"input_ids": torch.from_numpy(ids).long()[None].to(adapted.device)}
        for ids in samples
        if len(ids) >= rank  # PEFT skips shorter ones, and loops forever if there are no others
    ]
    if not batches:
        raise ModelError(
            f"model.lora.initialisation=eva: no sample has as many tokens as model.lora.rank={rank}: use "
            "a smaller rank, a larger prompt.max_length or another initialisation"
        )
    eva_weights(adapted, batches, gather_distributed_inputs=False, show_progress_bar=False)


def merge(model: Any) -> Any:
    """Merge the adapter into its model in place, if that is exact to rounding (plain float32 weights)."""
    return model.merge_and_unload() if can_merge(model) else model


def can_merge(model: Any) -> bool:
    """Whether the adapter can be merged into its model, which answers without it from then on."""
    return (
        isinstance(model, PeftModel) and model.dtype == torch.float32 and not hasattr(model, "hf_quantizer")
    )


def save_weights(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    base: str,
    revision: str | None = None,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Save an adapter, or a whole model with its tokenizer; the same weights give the same bytes.

    PEFT loads the adapter with its base from anywhere on this machine (of a hub's model: on any).

    A cut vocabulary is saved beside either. An adapter fits the base as it was published, even if its first
    weights were subtracted from that: it is saved with twice the rank then.

    Args:
        base: the path of an adapter's base model, as the user gave it.
        revision: of a base model of the hub.
        state_dict: the weights, if the model itself holds a part of them only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, ArcTokenizer):
        tokenizer.vocabulary.save(folder)
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder, state_dict=state_dict)
        tokenizer.save_pretrained(folder)
        return
    model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=state_dict)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config |= {"base_model_name_or_path": path_outside(base), "revision": revision}
    if isinstance(config["target_modules"], list):  # PEFT keeps a set, whose order depends on the hash seed
        config["target_modules"].sort()
    if hasattr(model, "first_weights"):
        _fit_published_base(folder / WEIGHTS, config, model.first_weights)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def _fit_published_base(file: Path, config: dict[str, Any], first: dict[str, torch.Tensor]) -> None:
    """Convert an adapter on `base - B0 A0` to one on `base`: B A - B0 A0 = [B, -B0] [A; A0].

    PEFT's own conversion needs folders on disk, and loses `modules_to_save`.
    """
    weights = load_file(file)
    for name, value in weights.items():
        if name.endswith("lora_A.weight"):
            weights[name] = torch.cat([value, first[name].to(value)])
        elif name.endswith("lora_B.weight"):
            weights[name] = torch.cat([value, -first[name].to(value)], dim=1)
    save_file(weights, file, metadata={"format": "pt"})
    config["r"] *= 2
    config["lora_alpha"] *= 2**0.5 if config["use_rslora"] else 2  # the same scale as before
    config["init_lora_weights"] = True
