"""What a run has trained as one plain model: adapter merged, all tokens there, nothing quantised.

Everything is computed on the CPU in float32, whatever the run computed in.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Model
from arc_experiments.models.adapters import WEIGHTS, add_adapter
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.models.hub import ModelError
from arc_experiments.models.loading import load_base
from arc_experiments.models.precision import DTYPES
from arc_experiments.models.vocabulary import Vocabulary, read_vocabulary
from arc_experiments.run import Run

CPU = torch.device("cpu")


def load_merged(run: Run, dtype: str, probe: torch.Tensor) -> tuple[PreTrainedModel, torch.Tensor]:
    """Load what a run has trained as one model, and what it says to a probe before merging.

    Args:
        dtype: the name of what the run computed in; a quantised base is rounded to it, as in the run.
        probe: token ids, int64, shape (1, tokens).

    Returns:
        the model, and the logits of base and adapter, float32, shape (tokens, vocabulary).

    Raises:
        ModelError: weights are missing, or do not fit each other.
    """
    model = run.weights.trained()
    origin = None if model.adapter else run.config.model
    base = _load(model, DTYPES[dtype], origin)
    if model.adapter is None:
        return base, logits(base, probe)
    if _changes_tied_layers(base, Path(model.adapter)):
        untie(base)
    adapted: Any = add_adapter(base, model, seed=0, trainable=False)
    expected = logits(adapted.eval(), probe)
    return adapted.merge_and_unload(safe_merge=True), expected


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Compute the logits of each token of ids, shape (1, tokens): float32, shape (tokens, vocabulary)."""
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return found


def _load(model: Model, dtype: torch.dtype, origin: Model | None = None) -> PreTrainedModel:
    """Load a model in float32 with all tokens.

    Args:
        origin: the model that this one was before it was trained; None: its ancestry names it.
    """
    folder = Path(local_path(model.path))
    kept, is_quantised = read_vocabulary(folder), model.quantisation != "none"
    loaded: Any = load_base(
        replace(model, attention="auto"),
        dtype=dtype if is_quantised else torch.float32,
        device=CPU,
        vocabulary=kept,
    )
    loaded = (loaded.dequantize() if is_quantised else loaded).float()
    if kept is None:
        return loaded
    if origin is None:
        ancestry = read_ancestry(folder)
        if ancestry is None:
            raise ModelError(
                f"model.path={model.path} has the tokens of ARC prompts alone, and no ancestry.json that "
                "says where the others are"
            )
        origin = replace(model, path=ancestry.base, revision=None)
    return restore(_load(origin, dtype), loaded, kept)


def restore(base: Any, small: Any, vocabulary: Vocabulary) -> PreTrainedModel:
    """Put the weights of a model with few tokens into one with all of them, in place.

    The other tokens keep the base's rows of embedding and LM head.

    Raises:
        ModelError: the models differ in more than their vocabularies.
    """
    if _is_tied(base) and not _is_tied(small):
        untie(base)
    pairs = [
        (base.get_input_embeddings(), small.get_input_embeddings()),
        (base.get_output_embeddings(), small.get_output_embeddings()),
    ]
    cut = {id(weight) for layer, _ in pairs for weight in layer.parameters()}
    own = {name for name, weight in base.named_parameters(remove_duplicate=False) if id(weight) in cut}
    others = {name: value for name, value in small.state_dict().items() if name not in own}
    try:
        left = base.load_state_dict(others, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the base is not the model that was trained: {str(error)[:300]}") from error
    unlike = sorted({*left.unexpected_keys, *left.missing_keys} - own)
    if unlike or vocabulary.kept[-1] >= len(pairs[0][0].weight):
        raise ModelError(
            f"the base is not the model that was trained: they differ in {', '.join(unlike[:5]) or 'tokens'}"
        )
    rows = torch.tensor(vocabulary.kept)
    with torch.no_grad():
        for layer, part in pairs:
            for name, weight in part.named_parameters():
                layer.get_parameter(name)[rows] = weight
    return base


def untie(model: Any) -> None:
    """Give the LM head weights of its own if it shares the embedding's."""
    if not _is_tied(model):
        return
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _changes_tied_layers(base: Any, adapter: Path) -> bool:
    """Whether an adapter changes embedding or LM head: merged into shared weights, it would change both."""
    layers = (base.get_input_embeddings(), base.get_output_embeddings())
    names = [name for name, layer in base.named_modules() if layer in layers]
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        keys = list(file.keys())
    return any(f".{name}." in key for key in keys for name in names)
