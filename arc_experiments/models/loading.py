"""The base model that the `model` section describes."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Config, Model
from arc_experiments.models.hub import ModelError, load
from arc_experiments.models.layers import vision_parts
from arc_experiments.models.precision import pick_attention
from arc_experiments.models.processor import sees_pictures
from arc_experiments.models.vocabulary import Vocabulary, read_vocabulary, shrink

RANDOM_WEIGHTS_SEED = 0  # random weights are the same in every run, like those of a published model


def load_base_for(config: Config, model: Model, **options: Any) -> PreTrainedModel:
    """Load the base model of a composition, spread over GPUs and given attention as its other keys ask.

    Args:
        model: the composition's, or the options that load what it has trained.
        options: see `load_base`.
    """
    has_several = config.hardware.per_device_batch_size not in (1, None) or config.adapt.together > 1
    return load_base(
        model,
        device_map="auto" if config.hardware.parallelism == "split" else None,
        packs_rows=config.optim.pack_length is not None and has_several,
        **options,
    )


def load_base(
    model: Model,
    *,
    dtype: torch.dtype,
    device: torch.device,
    vocabulary: Vocabulary | None = None,
    device_map: str | None = None,
    place: bool = True,
    packs_rows: bool = False,
) -> PreTrainedModel:
    """Load the base model onto its device, in evaluation mode. Full fine-tuning keeps its weights in float32.

    Args:
        dtype: what it computes in.
        vocabulary: the tokens to keep; weights that were saved with it are small already. None for all.
        device_map: how to spread one model over several GPUs, in transformers' words ("auto", "balanced").
        place: whether to move it to the device; False leaves that to what shards it.
        packs_rows: whether a batch may have several rows of several samples each.

    Raises:
        ModelError: it cannot be loaded, or not with these options.
    """
    weights_dtype = dtype if model.lora is not None or model.adapter else torch.float32
    config = load(AutoConfig, model)
    attention = pick_attention(
        model.attention, device=device, dtype=dtype, packs_rows=packs_rows, kind=config.model_type
    )
    kind = AutoModelForImageTextToText if sees_pictures(config) else AutoModelForCausalLM
    _check_kind(model, config)
    _check_stored(model, config)
    if model.weights == "random":
        if device_map is not None:
            raise ModelError("model.weights=random: random weights are not spread over GPUs")
        base = _random_base(model, config, attention, kind)
    else:
        places = {"": device} if model.quantisation != "none" else None
        base = _pretrained(model, kind, weights_dtype, dtype, attention, device_map or places)
    if device_map is not None and device.type == "cuda":
        _check_on_gpus(model, base)
    # Some models ship a repetition penalty, which would change even greedy answers.
    own = base.generation_config
    base.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    _fit_vocabulary(model, base, vocabulary)
    if model.quantisation == "none" and device_map is None:
        base = base.to(device=device if place else "cpu", dtype=weights_dtype)
    return base.eval()


def _pretrained(
    model: Model, kind: Any, weights_dtype: torch.dtype, dtype: torch.dtype, attention: str, device_map: Any
) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": weights_dtype, "attn_implementation": attention}
    if model.quantisation != "none":
        options["quantization_config"] = _quantisation(model.quantisation, dtype, _as_they_are(model, kind))
    base, report = load(kind, model, device_map=device_map, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise ModelError(
            f"model.path={model.path} lacks weights that its config.json asks for, so they would be random: "
            f"{', '.join(sorted(report['missing_keys'])[:5])}. Copy the model again, or use another"
        )
    if model.quantisation != "none" and base.device.type == "cpu":
        _keep_gradients_right(base)
    return base


def _check_on_gpus(model: Model, base: PreTrainedModel) -> None:
    """Refuse a split model that the GPUs cannot hold: accelerate leaves the rest where nothing can train."""
    elsewhere = [
        name for name, place in getattr(base, "hf_device_map", {}).items() if place in ("cpu", "disk")
    ]
    if elsewhere:
        raise ModelError(
            f"hardware.parallelism=split: the GPUs here cannot hold model.path={model.path}: "
            f"{len(elsewhere)} of its parts ({elsewhere[0]}, ...) would be in main memory. Take "
            "model.quantisation=4bit, or more GPUs"
        )


def _check_kind(model: Model, config: Any) -> None:
    """Refuse what is no causal language model; transformers would load some of them as one."""
    architectures = [] if sees_pictures(config) else config.architectures or []
    if architectures and not set(architectures) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        raise ModelError(
            f"model.path={model.path} is a {architectures[0]}, which is no causal language model: use one "
            "that is (its config.json names a ...ForCausalLM)"
        )


def _check_stored(model: Model, config: Any) -> None:
    """Refuse weights that bitsandbytes has quantised, unless they are asked for: they cannot be cast."""
    stored = getattr(config, "quantization_config", None) or {}
    if stored.get("quant_method") == "bitsandbytes" and model.quantisation == "none":
        bits = "4bit" if stored.get("load_in_4bit") else "8bit"
        raise ModelError(
            f"model.path={model.path} has quantised weights (see its config.json): add "
            f"model.quantisation={bits}, or use the model that they were made from"
        )


def _fit_vocabulary(model: Model, base: PreTrainedModel, vocabulary: Vocabulary | None) -> None:
    """Cut the base to the vocabulary, unless it was saved with it."""
    saved = read_vocabulary(Path(local_path(model.path)))
    if saved != vocabulary and saved is not None:
        raise ModelError(
            f"model.path={model.path} has the vocabulary of ARC prompts alone ({len(saved)} tokens): "
            "use model.vocabulary=arc"
        )
    if vocabulary is not None and saved is None:
        shrink(base, vocabulary)


def _random_base(model: Model, config: Any, attention: str, kind: Any) -> PreTrainedModel:
    if model.quantisation != "none":
        raise ModelError(f"model.quantisation={model.quantisation}: random weights are in float32")
    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        base: PreTrainedModel = kind.from_config(config, attn_implementation=attention)
    return base


def _as_they_are(model: Model, kind: Any) -> list[str] | None:
    """Name the parts that are not quantised: those that see pictures, and the head.

    None, for a model of text alone, leaves it to transformers.
    """
    config = load(AutoConfig, model)
    if not sees_pictures(config):
        return None
    with torch.device("meta"):
        return [*vision_parts(kind.from_config(config)), "lm_head"]


def _quantisation(name: str, dtype: torch.dtype, as_they_are: list[str] | None) -> BitsAndBytesConfig:
    if name == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=as_they_are)
    return BitsAndBytesConfig(
        llm_int8_skip_modules=as_they_are,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _keep_gradients_right(base: PreTrainedModel) -> None:
    """Keep gradients right on CPUs with AVX512-BF16, where an evaluation would repack 4-bit layers."""
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
