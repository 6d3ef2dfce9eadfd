"""Greedy answers and samples by transformers' `generate`; a prompt is read once for all of its samples."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Cache, LogitsProcessor, LogitsProcessorList, StaticCache
from transformers.cache_utils import DynamicLayer
from transformers.utils.generic import is_flash_attention_requested

from arc_experiments.generation.constraint import Constraint
from arc_experiments.generation.engine import (
    Answer,
    Asked,
    Key,
    Limits,
    pad_left,
    pictures_of,
    read_prompts,
)
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.tasks.rngs import rng_for


@dataclass(frozen=True, kw_only=True)
class Transformers:
    """One greedy answer to each prompt (temperature 0), or samples at one temperature or several.

    The draws of sample s of a prompt depend on (seed, key, s) alone. Logits depend on the rest of the batch
    by rounding: a sample changes with the batch only if a draw falls that close to the edge of a token.

    Attributes:
        num_samples: answers to each prompt; more than one needs a temperature.
        temperatures: sample s has number s of them, and after the last the first again.
        top_p: draw from the smallest set of tokens that holds this share of the probability.
        seed: of the draws.
        constraint: which tokens can be chosen; None for all.
        first_sample: the number of the first answer.
        pictures: makes what the model needs of pictures; None for prompts without.
    """

    num_samples: int = 1
    temperatures: tuple[float, ...] = (0.0,)
    top_p: float = 1.0
    seed: int = 0
    constraint: Constraint | None = None
    first_sample: int = 0
    pictures: PictureInputs | None = None

    @property
    def rows_per_prompt(self) -> int:
        return self.num_samples

    def only(self, samples: Sequence[int]) -> "Transformers":
        first = self.first_sample + samples[0]
        return dataclasses.replace(self, first_sample=first, num_samples=len(samples))

    def answer(
        self, model: Any, prompts: Sequence[Asked], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        """Answer each prompt of one batch; a prompt's samples come in the order of their numbers."""
        if self.pictures is None:
            return self._answer(model, prompts, keys, limits)
        found: dict[int, list[Answer]] = {}
        for group in self.pictures.share_a_pass([len(pictures_of(prompt)) for prompt in prompts]):
            chosen = [prompts[at] for at in group], [keys[at] for at in group]
            found |= zip(group, self._answer(model, *chosen, limits), strict=True)
        return [found[at] for at in range(len(prompts))]

    def _answer(
        self, model: Any, prompts: Sequence[Asked], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        rows = self.num_samples
        each = [prompt for prompt in prompts for _ in range(rows)]
        inputs = pad_left(each, limits.pad_id, model.device, self.pictures)
        length = inputs["input_ids"].shape[1]
        chooser = self._chooser(keys, limits, model.device)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                past_key_values=_cache(model, inputs, rows=rows, capacity=length + limits.max_new_tokens),
                max_new_tokens=limits.max_new_tokens,
                do_sample=False,
                eos_token_id=list(limits.stop_ids),
                pad_token_id=limits.pad_id,
                logits_processor=LogitsProcessorList([chooser]),
                disable_compile=True,
            )
        log_probabilities = torch.stack(chooser.steps, dim=1).double().tolist()
        pairs = zip(output[:, length:].tolist(), log_probabilities, strict=True)
        answers = [_cut(*pair, limits.stop_ids) for pair in pairs]
        return [answers[start : start + rows] for start in range(0, len(answers), rows)]

    def _chooser(self, keys: Sequence[Key], limits: Limits, device: torch.device) -> "_Greedy | _Chooser":
        if self.temperatures == (0.0,):
            return _Greedy() if self.constraint is None else _Chooser(_best, self.constraint)
        samples = range(self.first_sample, self.first_sample + self.num_samples)
        draws = [
            rng_for("sample", self.seed, *key, sample).random(limits.max_new_tokens)
            for key in keys
            for sample in samples
        ]
        uniform = torch.from_numpy(np.stack(draws)).to(device)
        each = [self.temperatures[sample % len(self.temperatures)] for sample in samples] * len(keys)
        temperature = torch.tensor(each, dtype=torch.float64, device=device)[:, None]

        def draw(logits: torch.Tensor, step: int) -> torch.Tensor:
            return _draw(logits, uniform[:, step], temperature, self.top_p)

        return _Chooser(draw, self.constraint)


class _Greedy(LogitsProcessor):
    """Record each step's best log-probability, which with greedy decoding is that of the chosen token."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wide = scores.float()
        self.steps.append(wide.amax(-1) - wide.logsumexp(-1))
        return scores


class _Chooser(LogitsProcessor):
    """Choose each step's tokens, leave greedy decoding no other, and record their own log-probabilities.

    Args:
        choose: (logits, float32, -inf for tokens that are not allowed; the step's number) -> a token a row.
    """

    def __init__(
        self, choose: Callable[[torch.Tensor, int], torch.Tensor], constraint: Constraint | None
    ) -> None:
        self.steps: list[torch.Tensor] = []
        self._choose, self._constraint = choose, constraint
        self._states: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wide = scores.float()
        chosen = self._choose(self._allowed(wide), len(self.steps))
        self.steps.append(wide.log_softmax(-1).gather(1, chosen[:, None])[:, 0])
        if self._constraint is not None:
            self._states = self._constraint.after(self._states, chosen.tolist())
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    def _allowed(self, logits: torch.Tensor) -> torch.Tensor:
        if self._constraint is None:
            return logits
        self._states = self._states or [self._constraint.start] * len(logits)
        return logits.masked_fill(~self._constraint.mask(self._states, logits), -torch.inf)


def _best(logits: torch.Tensor, step: int) -> torch.Tensor:
    return logits.argmax(-1)


def _draw(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: torch.Tensor, top_p: float
) -> torch.Tensor:
    """Draw a token a row.

    Args:
        logits: float32, shape (rows, vocabulary).
        uniform: float64 in [0, 1), shape (rows,).
        temperature: float64, shape (rows, 1).
    """
    shares = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ordered, ids = shares.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        shares = torch.zeros_like(shares).scatter(1, ids, ordered.masked_fill(before >= top_p, 0.0))
    edges = shares.cumsum(-1)  # in the order of ids, which no rounding changes
    return torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True)[:, 0]


class _FixedCache(StaticCache):
    """A cache allocated for prompt and longest answer at once, in one dtype.

    The cache that `generate` makes by itself is as long as the longest so far, and its length changes the
    last bits of sums.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Under autocast, float32 weights make float32 keys (by their rotation) and half precision values.
        device = key_states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else key_states.dtype
        both: tuple[torch.Tensor, torch.Tensor] = super().update(
            key_states.to(dtype), value_states.to(dtype), *args, **kwargs
        )
        return both


def _cache(model: Any, inputs: dict[str, torch.Tensor], *, rows: int, capacity: int) -> Cache | None:
    """A cache for `rows` answers to each prompt, which holds the prompts already if there are several.

    None with flash attention, which takes only a growing cache, and with pictures, which some models attend
    to from a cache of another length. A growing cache is copied at each step, and up to 2.5 times slower.

    Args:
        inputs: the prompts, each of them `rows` times.
    """
    if is_flash_attention_requested(model.config) or inputs.keys() > {"input_ids", "attention_mask"}:
        return None
    cache = _FixedCache(config=model.config, max_cache_len=capacity)
    # Qwen's models that can see pictures continue a cache with positions left over from an earlier one.
    reads_text_alone = model.config.get_text_config() is model.config
    if rows > 1 and reads_text_alone and inputs["input_ids"].shape[1] > 1:
        # All but the last token, which `generate` reads. Other layers remember only a part of a prompt.
        read, _ = read_prompts(
            model, *(inputs[name][::rows, :-1] for name in ("input_ids", "attention_mask"))
        )
        if all(type(layer) is DynamicLayer for layer in read.layers):
            for number, layer in enumerate(read.layers):
                keys, values = (each.repeat_interleave(rows, dim=0) for each in (layer.keys, layer.values))
                cache.update(keys, values, number)
                layer.keys = layer.values = None
    return cache


def _cut(ids: list[int], log_probabilities: list[float], stop_ids: Sequence[int]) -> Answer:
    end = next((place for place, token in enumerate(ids) if token in stop_ids), None)
    num_tokens = len(ids) if end is None else end + 1
    return Answer(
        ids=tuple(ids[:end]),
        num_tokens=num_tokens,
        log_probability=sum(log_probabilities[:num_tokens]),
        finished=end is not None,
    )
