"""The tokenizer, the base model and its adapter, from what `model` describes.

A path is a hub id, a local folder, or `package:<name>` for a model that travels in `assets/`.
"""

import functools
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from arc_experiments.config import Hardware, Lora, Model

if TYPE_CHECKING:
    from peft import PeftMixedModel

log = logging.getLogger(__name__)

RANDOM_WEIGHTS_SEED = 0  # random weights are the same in every run: they stand for a published base model
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelError(ValueError):
    """A model that cannot be had or used as described; the message names the key and the remedy."""


def pick_device(hardware: Hardware) -> torch.device:
    """Raises ModelError where a GPU is named and there is none."""
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("hardware.device=cuda, but torch finds no GPU here: hardware=auto or hardware=cpu")
    use_gpu = hardware.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device computes in it, else float32. float16 must be named, on a GPU.

    Raises:
        ModelError: float16 without a GPU.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name == "float16":
        if device.type != "cuda":
            raise ModelError(
                "model.dtype=float16 needs a GPU (on a CPU it would be float32 unnoticed): use auto"
            )
        log.warning(
            "model.dtype=float16: trainings that are stable in bfloat16 have diverged in it after hours"
        )
    return DTYPES[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def local_path(path: str) -> str:
    """The folder behind `package:<name>` or `~`; a hub id stays as it is."""
    if path.startswith("package:"):
        return str(Path(__file__).parent / "assets" / path.removeprefix("package:"))
    return str(Path(path).expanduser()) if path.startswith("~") else path


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Raises ModelError where it cannot be had."""
    return _reached(model, _loader(AutoTokenizer, model))


def load_base(model: Model, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The base model on its device, in evaluation mode. Full fine-tuning keeps its weights in float32.

    Raises:
        ModelError: it cannot be had, or not with these options.
    """
    weights_dtype = dtype if model.lora is not None or model.adapter else torch.float32
    if has_random_weights(model):
        base = _random_base(model)
    else:
        options: dict[str, Any] = {"dtype": weights_dtype, "attn_implementation": model.attention}
        if model.quantisation != "none":
            options |= {
                "quantization_config": _quantisation(model.quantisation, dtype),
                "device_map": {"": device},
            }
        base = _reached(model, _loader(AutoModelForCausalLM, model, **options))
    if model.quantisation == "none":
        base = base.to(device=device, dtype=weights_dtype)
    elif device.type == "cpu":
        _keep_gradients_right(base)
    # Ours to say, not the hub's: some ship a repetition penalty, which would distort even greedy answers.
    own = base.generation_config
    base.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    return base.eval()


def has_random_weights(model: Model) -> bool:
    """Whether nothing is loaded: `auto` loads what is there, and only a package's model may lack weights."""
    if model.weights == "auto":
        return model.path.startswith("package:") and not any(
            Path(local_path(model.path)).glob("*.safetensors")
        )
    return model.weights == "random"


def _random_base(model: Model) -> PreTrainedModel:
    if model.quantisation != "none":
        raise ModelError(
            f"model.quantisation={model.quantisation}: {model.path} has random weights, in float32"
        )
    config = _reached(model, _loader(AutoConfig, model))
    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        base: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=model.attention)
    return base


def add_adapter(
    base: PreTrainedModel, model: Model, *, seed: int, trainable: bool
) -> "PreTrainedModel | PeftModel | PeftMixedModel":
    """The model that is trained or asked: base plus `model.adapter`, or plus a new LoRA if trainable.

    Args:
        seed: of a new LoRA's first weights.

    Raises:
        ModelError: an adapter that does not fit the base.
    """
    if model.adapter is not None:
        try:
            return PeftModel.from_pretrained(
                base, str(Path(model.adapter).expanduser()), is_trainable=trainable
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(
                f"model.adapter={model.adapter} does not fit model.path={model.path}: {str(error)[:500]}"
            ) from error
    if model.lora is None or not trainable:
        return base.requires_grad_(trainable)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(base, _lora_config(model.lora))
        except ValueError as error:
            raise ModelError(
                f"model.lora does not fit model.path={model.path}: {str(error)[:500]}"
            ) from error


def merge(model: Any) -> Any:
    """The model with its adapter merged in place, where that is exact to rounding (plain float32 weights)."""
    if isinstance(model, PeftModel) and model.dtype == torch.float32 and not hasattr(model, "hf_quantizer"):
        return model.merge_and_unload()
    return model


def save_weights(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, *, base: str) -> None:
    """Save an adapter, or a whole model with its tokenizer; the same weights give the same bytes.

    Args:
        base: what an adapter names as its base model: the path as the user gave it.
    """
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return
    model.save_pretrained(str(folder), save_embedding_layers=False)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = base
    if isinstance(config["target_modules"], list):  # PEFT keeps a set: its order is that of the hash seed
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def _lora_config(lora: Lora) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=True if lora.initialisation == "default" else lora.initialisation,
        modules_to_save=lora.modules_to_save or None,
        task_type="CAUSAL_LM",
    )


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
