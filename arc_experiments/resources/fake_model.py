"""How much memory a model takes and what its passes add, counted without weights and without computing.

PyTorch's fake tensors have shapes and dtypes and no numbers. A run's passes are carried out on them with the
model that its config.json describes, and what would be held at the same time is added up: for any family of
models, with autocast, adapters and gradient checkpointing as they are. What kernels use inside is not seen.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses import FakeTensorMode
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from arc_experiments.config.schema import Model
from arc_experiments.models.adapters import add_adapter
from arc_experiments.models.hub import load
from arc_experiments.models.layers import vision_parts
from arc_experiments.models.processor import sees_pictures
from arc_experiments.resources.held import Held
from arc_experiments.resources.workload import NO_TILES, AnswerBatch, Tiles
from arc_experiments.training.losses import takes_positions

# Bytes of a quantised weight: four bits and their scales, themselves in eight bits (Dettmers et al., 2023,
# QLoRA: 0.127 bits a weight); eight bits.
QUANTISED = {"4bit": (4 + 0.127) / 8, "8bit": 1.0}
# A row alone is attended to without a mask. With fake tensors transformers makes one all the same, but not
# for attention that it does not know.
MASKLESS = "sdpa_without_mask"
AttentionInterface.register(MASKLESS, sdpa_attention_forward)


def fake_model(model: Model, *, num_tokens: int | None, dtype: torch.dtype, trainable: bool) -> "FakeModel":
    """Make the model of a run, or take the one that was made for such a run in this process.

    Raises:
        ModelError: its config.json cannot be loaded.
    """
    config = load(AutoConfig, model)
    key = (config.to_json_string(), repr(replace(model, name="", path="")), num_tokens, dtype, trainable)
    if key not in _MADE:
        while len(_MADE) >= MOST_MADE:
            del _MADE[next(iter(_MADE))]
        _MADE[key] = FakeModel(config, model, num_tokens=num_tokens, dtype=dtype, trainable=trainable)
    return _MADE[key]


MOST_MADE = 4  # models are remembered
_MADE: dict[tuple[Any, ...], "FakeModel"] = {}


class FakeModel:
    """A run's model without its weights. What was counted once is remembered.

    Args:
        config: transformers' config of the model, to which a cut vocabulary is fitted.
        num_tokens: of a cut vocabulary; None for the model's own.
        dtype: what it computes in.
        trainable: with the adapter that is trained, or all of its weights to be trained.

    Attributes:
        config: the model's.
        weights: bytes of all weights and buffers.
        largest_layer: bytes of the largest layer.
        num_parameters, num_trained: weights, and those that are trained.
        num_patches: of a tile, at which layers of the language part look (Mllama); 0: none does.
    """

    def __init__(
        self, config: Any, model: Model, *, num_tokens: int | None, dtype: torch.dtype, trainable: bool
    ) -> None:
        self._mode, self.config = FakeTensorMode(allow_non_fake_inputs=True), config
        self._is_half, self._counts = dtype != torch.float32, dict[tuple[Any, ...], int]()
        self.sees_pictures = sees_pictures(config)
        text = config.get_text_config()
        if num_tokens is not None:
            text.vocab_size, text.pad_token_id = num_tokens, None
        keeps_dtype = model.lora is not None or model.adapter is not None
        kind = AutoModelForImageTextToText if self.sees_pictures else AutoModelForCausalLM
        with torch.device("meta"):
            base = kind.from_config(
                config,
                dtype=dtype if keeps_dtype else torch.float32,
                attn_implementation=model.attention if model.attention == "eager" else "sdpa",
            )
            self._base, self._is_eager = base, model.attention == "eager"
            self.weights = _weight_bytes(base, model.quantisation)
            self.largest_layer = max(_bytes(layer.parameters()) for layer in base.get_decoder().layers)
            self.model = _with_adapter(base, model, trainable=trainable)
        with self._mode:
            _materialise(self.model)
        trained = [each for each in self.model.parameters() if each.requires_grad]
        self.num_trained = sum(each.numel() for each in trained)
        self.num_parameters = sum(each.numel() for each in self.model.parameters())
        if keeps_dtype:  # of an adapter, in float32
            self.weights += 4 * self.num_trained
        self._looking = frozenset(getattr(text, "cross_attention_layers", None) or ())  # Mllama's layers
        self.num_patches = int(base.model.vision_model.num_patches) if self._looking else 0
        self.num_layers = int(text.num_hidden_layers)
        self.vocabulary = int(text.vocab_size)

    def training(
        self, *, rows: int, length: int, labelled: int, checkpointing: bool, tiles: Tiles = NO_TILES
    ) -> int:
        """Return the most bytes that a forward and backward pass adds to the weights, gradients included.

        Args:
            labelled: tokens with a loss in each row; padded rows have theirs at different positions.
            tiles: of the pictures of a row.
        """
        return self._once(self._training, rows, length, labelled, checkpointing, tiles)

    def _training(self, rows: int, length: int, labelled: int, checkpointing: bool, tiles: Tiles) -> int:
        if checkpointing:
            self.model.gradient_checkpointing_enable()
            self.model.enable_input_require_grads()
        self.model.train()
        with self._counted() as held:
            for parameter in self.model.parameters():  # those of the micro-batch before
                parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
            inputs = self._inputs(rows, length, tiles)
            with self._autocast():
                num_positions = min(length, rows * labelled)
                positions = torch.arange(length - num_positions, length)
                if takes_positions(self.model):
                    logits = self.model(**inputs, use_cache=False, logits_to_keep=positions).logits
                else:
                    logits = self.model(**inputs, use_cache=False).logits[:, positions]
                targets = torch.ones(rows * labelled, dtype=torch.int64)
                chosen = logits.flatten(0, 1)[torch.arange(rows * labelled)]
                loss = cross_entropy(chosen.float(), targets, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
        self.model.zero_grad(set_to_none=True)
        if checkpointing:
            self.model.gradient_checkpointing_disable()
        return held.peak

    def loss(self, *, rows: int, length: int, answer: int, tiles: Tiles = NO_TILES) -> int:
        """Return the most bytes that measuring the loss of answers of this length adds to the weights."""
        return self._once(self._loss, rows, length, answer, tiles)

    def _loss(self, rows: int, length: int, answer: int, tiles: Tiles) -> int:
        self.model.eval()
        with self._counted() as held, torch.no_grad(), self._autocast():
            inputs = self._inputs(rows, length, tiles)
            logits = self.model(**inputs, use_cache=False, logits_to_keep=answer + 1).logits[:, :-1]
            targets = torch.ones((rows, answer), dtype=torch.int64)
            cross_entropy(logits.float().transpose(1, 2), targets, reduction="none").double()
        return held.peak

    def answers(self, batch: AnswerBatch, *, tiles: Tiles = NO_TILES) -> int:
        """Return the most bytes that answering adds to the weights: the prompts are read into the cache."""
        return self._once(self._answers, batch, tiles)

    def _answers(self, batch: AnswerBatch, tiles: Tiles) -> int:
        self.model.eval()
        with self._counted() as held, torch.no_grad(), self._autocast():
            inputs = self._inputs(batch.prompts, batch.length, tiles)
            cache = self.model(**inputs, use_cache=True, logits_to_keep=1).past_key_values
            kept = [
                _bytes((layer.keys, layer.values)) if layer.is_initialized else 0 for layer in cache.layers
            ]
        # It is allocated at once, for prompts and the longest answers; what is kept of pictures is no longer.
        longer, more = (batch.length + batch.new_tokens) / batch.length, batch.rows / batch.prompts
        full = sum(size * more * (1 if place in self._looking else longer) for place, size in enumerate(kept))
        return int(held.peak - sum(kept) + full)

    def _once(self, count: Callable[..., int], *arguments: Any) -> int:
        key = (count.__name__, *arguments)
        if key not in self._counts:
            self._counts[key] = count(*arguments)
        return self._counts[key]

    def _inputs(self, rows: int, length: int, tiles: Tiles) -> dict[str, torch.Tensor]:
        """Return token ids, a mask if rows are padded, and what layers see that look at pictures."""
        ids = torch.ones((rows, length), dtype=torch.int64)
        if not self._is_eager:
            self._base.set_attn_implementation("sdpa" if rows > 1 else MASKLESS)
        inputs = {"input_ids": ids} | ({"attention_mask": torch.ones_like(ids)} if rows > 1 else {})
        if self._looking and math.prod(tiles):
            text = self.config.get_text_config()
            patches = math.prod(tiles) * self.num_patches
            half = torch.bfloat16 if self._is_half else torch.float32
            inputs["cross_attention_states"] = torch.zeros((rows, patches, text.hidden_size), dtype=half)
            inputs["cross_attention_mask"] = torch.ones((rows, length, *tiles), dtype=torch.int64)
        return inputs

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16, enabled=self._is_half)

    @contextmanager
    def _counted(self) -> Iterator[Held]:
        held = Held([*self.model.parameters(), *self.model.buffers()])
        with self._mode, held:
            yield held


def _materialise(model: torch.nn.Module) -> None:
    """Replace weights and buffers of a model on the device "meta" by fake ones on the CPU."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        named = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for name, value in named:
            if id(value) not in made:
                new = torch.empty(value.shape, dtype=value.dtype)
                is_weight = isinstance(value, torch.nn.Parameter)
                made[id(value)] = torch.nn.Parameter(new, value.requires_grad) if is_weight else new
            setattr(module, name, made[id(value)])


def _with_adapter(base: Any, model: Model, *, trainable: bool) -> Any:
    if model.adapter is not None:
        return get_peft_model(base, LoraConfig.from_pretrained(str(Path(model.adapter).expanduser())))
    if model.lora is not None:  # whatever its first values are
        model = replace(model, lora=replace(model.lora, initialisation="default"))
    return add_adapter(base, model, seed=0, trainable=trainable)


def _weight_bytes(base: Any, quantisation: str) -> int:
    """Return the bytes of the weights and buffers; of linear layers in 4 or 8 bits, but for the head."""
    total = _bytes((*base.parameters(), *base.buffers()))
    if quantisation == "none":
        return total
    kept = (*vision_parts(base), "lm_head")
    layers = [
        layer.weight
        for name, layer in base.named_modules()
        if isinstance(layer, torch.nn.Linear) and not name.startswith(kept)
    ]
    saved = _bytes(layers) - QUANTISED[quantisation] * sum(layer.numel() for layer in layers)
    return total - math.floor(saved)


def _bytes(tensors: Any) -> int:
    """Return the bytes of these tensors; those that share memory count once."""
    return sum({id(each.untyped_storage()): each.untyped_storage().nbytes() for each in tensors}.values())
