"""What a model computes with: device, dtype, attention."""

import os

import torch
from transformers.utils import is_flash_attn_2_available

from arc_experiments.config.schema import Hardware
from arc_experiments.models.hub import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WITHOUT_FLASH = ("mllama",)  # its cross-attention has masks that flash attention does not take


def pick_device(hardware: Hardware) -> torch.device:
    """Choose the CPU or a GPU; each of several processes has a GPU of its own.

    Raises:
        ModelError: `hardware.device=cuda` without a GPU, or with fewer GPUs than processes.
    """
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "hardware.device=cuda, but torch finds no GPU here: use hardware=auto or hardware=cpu"
        )
    if hardware.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise ModelError(
            f"process {number} has no GPU, torch finds {torch.cuda.device_count()} here: use at most "
            f"hardware.num_processes={torch.cuda.device_count()}"
        )
    return torch.device("cuda", number)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Choose the dtype: `auto` is bfloat16 if the device computes in it, else float32."""
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return DTYPES[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device itself computes in bfloat16, without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_tile"))


def pick_attention(
    name: str, *, device: torch.device, dtype: torch.dtype, packs_rows: bool = False, kind: str = ""
) -> str:
    """Choose the attention: `auto` is flash attention if possible (installed, GPU, half precision) or sdpa.

    Args:
        packs_rows: whether a batch may have several rows of several samples each.
        kind: the model's, as its config.json names it (`model_type`).

    Raises:
        ModelError: flash attention is named and not possible.
    """
    obstacle = _flash_obstacle(device, dtype, packs_rows, kind)
    if name == "auto":
        return "sdpa" if obstacle else "flash_attention_2"
    if name == "flash_attention_2" and obstacle:
        raise ModelError(f"model.attention=flash_attention_2 {obstacle}: use model.attention=auto")
    return name


def _flash_obstacle(device: torch.device, dtype: torch.dtype, packs_rows: bool, kind: str) -> str | None:
    if kind in WITHOUT_FLASH:
        return f"is not possible with a model of the kind {kind}"
    if device.type != "cuda":
        return "needs a GPU"
    if dtype == torch.float32:
        return "computes in bfloat16 or float16 only, not in float32"
    if packs_rows:  # transformers finds the borders of samples only in a batch of one row, silently
        return (
            "lets samples of packed rows see each other unless hardware.per_device_batch_size=1 "
            "(adapt.together=1)"
        )
    return None if is_flash_attn_2_available() else "needs the package flash-attn, which is not installed"
