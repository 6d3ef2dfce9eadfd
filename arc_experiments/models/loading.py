"""The tokenizer and the base model, from what `model` describes.

A path is a hub id, a local folder, or `package:<name>` for a model that travels in `assets/`.
"""

import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from arc_experiments.config import Model
from arc_experiments.grids import NUM_COLOURS
from arc_experiments.models.errors import ModelError
from arc_experiments.models.precision import pick_attention
from arc_experiments.models.vocabulary import Vocabulary, read_vocabulary, shrink

RANDOM_WEIGHTS_SEED = 0  # random weights are the same in every run: they stand for a published base model


def local_path(path: str) -> str:
    """The folder behind `package:<name>` or `~`; a hub id stays as it is."""
    if path.startswith("package:"):
        return str(Path(__file__).parents[1] / "assets" / path.removeprefix("package:"))
    return str(Path(path).expanduser()) if path.startswith("~") else path


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Raises ModelError where it cannot be had."""
    tokenizer: PreTrainedTokenizerBase = _reached(model, _loader(AutoTokenizer, model))
    if len(tokenizer) < NUM_COLOURS:  # without files transformers makes an empty one, and says nothing
        raise ModelError(
            f"model.path={model.path} has no tokenizer (tokenizer.json is missing): copy the tokenizer's files of "
            "its base model into the folder"
        )
    return tokenizer


def load_base(
    model: Model,
    *,
    dtype: torch.dtype,
    device: torch.device,
    vocabulary: Vocabulary | None = None,
    device_map: str | None = None,
    place: bool = True,
) -> PreTrainedModel:
    """The base model on its device, in evaluation mode. Full fine-tuning keeps its weights in float32.

    Args:
        vocabulary: the tokens to keep; weights that were saved with it are small already.
        device_map: how to spread one model over several GPUs, as transformers names it ("auto", "balanced").
        place: move it to the device; else that is left to whoever shards it.

    Raises:
        ModelError: it cannot be had, or not with these options.
    """
    weights_dtype = dtype if model.lora is not None or model.adapter else torch.float32
    attention = pick_attention(model.attention, device=device, dtype=dtype)
    config = _reached(model, _loader(AutoConfig, model))
    _check_kind(model, config)
    if has_random_weights(model):
        if device_map is not None:
            raise ModelError(f"{model.path} has random weights, which are not spread over GPUs")
        base = _random_base(model, config, attention)
    else:
        places = {"": device} if model.quantisation != "none" else None
        base = _pretrained(model, weights_dtype, dtype, attention, device_map or places)
    # Ours to say, not the hub's: some ship a repetition penalty, which would distort even greedy answers.
    own = base.generation_config
    base.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    _fit_vocabulary(model, base, vocabulary)
    if model.quantisation == "none" and device_map is None:
        base = base.to(device=device if place else "cpu", dtype=weights_dtype)
    return base.eval()


def _pretrained(
    model: Model, weights_dtype: torch.dtype, dtype: torch.dtype, attention: str, device_map: Any
) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": weights_dtype, "attn_implementation": attention}
    if model.quantisation != "none":
        options["quantization_config"] = _quantisation(model.quantisation, dtype)
    base, report = _reached(
        model,
        _loader(AutoModelForCausalLM, model, device_map=device_map, output_loading_info=True, **options),
    )
    if report["missing_keys"]:
        raise ModelError(
            f"model.path={model.path} lacks weights that its config.json asks for, so they would be random: "
            f"{', '.join(sorted(report['missing_keys'])[:5])}. Copy the model again, or use another"
        )
    if model.quantisation != "none" and base.device.type == "cpu":
        _keep_gradients_right(base)
    return base


def _check_kind(model: Model, config: Any) -> None:
    """Refuse what is no causal language model; transformers would load some of it as one."""
    architectures = config.architectures or []
    if architectures and not set(architectures) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        raise ModelError(
            f"model.path={model.path} is a {architectures[0]}, which is no causal language model: use one that "
            "is (its config.json says ...ForCausalLM)"
        )


def _fit_vocabulary(model: Model, base: PreTrainedModel, vocabulary: Vocabulary | None) -> None:
    """Cut the base to the vocabulary, if it was not saved so."""
    saved = read_vocabulary(Path(local_path(model.path)))
    if saved != vocabulary and saved is not None:
        raise ModelError(
            f"model.path={model.path} has the vocabulary of ARC prompts alone ({len(saved)} tokens): "
            "use model.vocabulary=arc"
        )
    if vocabulary is not None and saved is None:
        shrink(base, vocabulary)


def has_random_weights(model: Model) -> bool:
    """Whether nothing is loaded: `auto` loads what is there, and only a package's model may lack weights."""
    if model.weights == "auto":
        return model.path.startswith("package:") and not any(
            Path(local_path(model.path)).glob("*.safetensors")
        )
    return model.weights == "random"


def _random_base(model: Model, config: Any, attention: str) -> PreTrainedModel:
    if model.quantisation != "none":
        raise ModelError(
            f"model.quantisation={model.quantisation}: {model.path} has random weights, in float32"
        )
    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        base: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return base


def _quantisation(name: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    if name == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _keep_gradients_right(base: PreTrainedModel) -> None:
    """On CPUs with AVX512-BF16 one evaluation repacks 4-bit layers, and later gradients are wrong."""
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _loader(kind: Any, model: Model, **options: Any) -> Callable[[bool], Any]:
    def load(local_files_only: bool) -> Any:
        return kind.from_pretrained(
            local_path(model.path), revision=model.revision, local_files_only=local_files_only, **options
        )

    return load


def _reached(model: Model, load: Callable[[bool], Any]) -> Any:
    """What `load(local_files_only)` gives, or one message that says what was tried and how to go on."""
    is_folder = Path(local_path(model.path)).is_dir()
    hub_answers = is_folder or _hub_answers()  # asked first: the hub's client would retry for a minute
    if not hub_answers:
        huggingface_hub.constants.HF_HUB_OFFLINE = True  # PEFT asks the hub at each save, too
    try:
        return load(is_folder or not hub_answers)
    except SafetensorError as error:
        raise ModelError(
            f"model.path={model.path}: a weights file is torn or not in safetensors' format ({error}): copy or "
            "download the model again"
        ) from error
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tried = (
            "the folder"
            if is_folder
            else f"the local cache and the hub{'' if hub_answers else ' (which is out of reach)'}"
        )
        raise ModelError(
            f"model.path={model.path} could not be loaded. Tried: {tried}: {reason[:300]} "
            "Point to a local folder with the model's files (model.path=/folder), or go on with model=tiny."
        ) from error


@functools.cache
def _hub_answers() -> bool:
    """Whether the hub's name can be resolved (behind a proxy that is the proxy's business)."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
