"""What must be known of exported weights, in sentences for card and terminal."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from arc_experiments.config.plurals import plural
from arc_experiments.models.vocabulary import Vocabulary
from arc_experiments.run import Run

CONFIG = "adapter_config.json"
TOKENS = "arc_token_ids.json"


def notes_on_whole(run: Run, *, dtype: str, kept: Vocabulary | None, num_tokens: int) -> Iterator[str]:
    """Say what one model was made of.

    Args:
        kept: the tokens that it was trained with; None for all.
        num_tokens: that it has.
    """
    yield f"Its weights are in {dtype}."
    if run.weights.folder.name == "adapter":
        rank = json.loads((run.weights.folder / CONFIG).read_text())["r"]
        yield f"A LoRA adapter of rank {rank} was merged into them, in float32."
    quantisation = run.config.model.quantisation
    if quantisation != "none":
        yield (
            f"In training and for the scores the base was in {quantisation.removesuffix('bit')} bits. The "
            "adapter was merged into these weights, dequantised, not into those of the published base, to "
            "which it was never fitted."
        )
    if quantisation == "8bit":
        yield "Layers of 8 bits also rounded what went into them, which these do not: logits differ by that."
    if kept is not None:
        yield (
            f"It was trained with {plural(len(kept), 'token')} alone, those of ARC prompts. The other "
            f"{num_tokens - len(kept):,} are the base's, untrained: in answers allow only those of "
            f"`{TOKENS}` (`allowed_token_ids` of vLLM's SamplingParams, `prefix_allowed_tokens_fn` of "
            "transformers' generate)."
        )


def notes_on_adapter(config: dict[str, Any], weights: Iterable[torch.Tensor]) -> Iterator[str]:
    """Say what an adapter needs.

    Args:
        config: of its `adapter_config.json`.
    """
    dtypes = sorted({str(value.dtype).removeprefix("torch.") for value in weights})
    yield f"Its weights are in {', '.join(dtypes)}."
    if Path(config["base_model_name_or_path"]).is_dir():
        yield (
            "Its base is a folder on the machine that trained it: publish that and name it in "
            f"`{CONFIG}`, or export with --merge."
        )
    if config.get("use_dora") or config.get("modules_to_save"):
        yield "vLLM takes no adapters with DoRA or modules_to_save: for it, export with --merge."
