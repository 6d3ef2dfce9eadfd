"""Greedy answers and samples by transformers' `generate`: a prompt is read once, however many samples it has."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Cache, LogitsProcessor, LogitsProcessorList, StaticCache
from transformers.cache_utils import DynamicLayer

from arc_experiments.generation.cache import read_prompts
from arc_experiments.generation.constraint import Constraint
from arc_experiments.generation.engine import Answer, Key, Limits, pad_left
from arc_experiments.tasks.rngs import rng_for


@dataclass(frozen=True, kw_only=True)
class Transformers:
    """One greedy answer a prompt (temperature 0), or samples.

    The draws of sample s of a prompt depend on (seed, key, s) alone. Logits depend on the rest of the batch by
    rounding, so a sample in another batch is the same unless a draw falls within that of the edge between two tokens.

    Attributes:
        num_samples: answers a prompt; more than one needs a temperature.
        top_p: draw from the smallest set of tokens that holds this share of the probability.
        seed: of the draws.
        constraint: which tokens there are to choose from.
        first_sample: the number of the first answer.
    """

    num_samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    constraint: Constraint | None = None
    first_sample: int = 0

    @property
    def rows_per_prompt(self) -> int:
        return self.num_samples

    def only(self, samples: Sequence[int]) -> "Transformers":
        return dataclasses.replace(self, first_sample=samples[0], num_samples=len(samples))

    def answer(
        self, model: Any, prompts: Sequence[NDArray[Any]], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        """The answers to each prompt of one batch; a prompt's samples in the order of their numbers."""
        inputs = pad_left(prompts, limits.pad_id, model.device)
        chooser = self._chooser(keys, limits, model.device)
        with torch.inference_mode():
            new_ids = _generate(model, inputs, chooser, limits, rows=self.num_samples)
        log_probabilities = torch.stack(chooser.steps, dim=1).double().tolist()
        answers = [_cut(*row, limits.stop_ids) for row in zip(new_ids, log_probabilities, strict=True)]
        return [
            answers[start : start + self.num_samples] for start in range(0, len(answers), self.num_samples)
        ]

    def _chooser(self, keys: Sequence[Key], limits: Limits, device: torch.device) -> "_Greedy | _Chooser":
        if self.temperature == 0:
            return _Greedy() if self.constraint is None else _Chooser(_best, self.constraint)
        draws = [
            rng_for("sample", self.seed, *key, sample).random(limits.max_new_tokens)
            for key in keys
            for sample in range(self.first_sample, self.first_sample + self.num_samples)
        ]
        uniform = torch.from_numpy(np.stack(draws)).to(device)

        def draw(logits: torch.Tensor, step: int) -> torch.Tensor:
            return _draw(logits, uniform[:, step], self.temperature, self.top_p)

        return _Chooser(draw, self.constraint)


def generate(
    model: Any, prompts: Sequence[NDArray[Any]], *, max_new_tokens: int, stop_ids: Sequence[int], pad_id: int
) -> list[Answer]:
    """Greedy answers of one batch, in the order of the prompts."""
    limits = Limits(max_new_tokens=max_new_tokens, stop_ids=tuple(stop_ids), pad_id=pad_id)
    answers = Transformers().answer(model, prompts, [("", 0, 0)] * len(prompts), limits)
    return [answer for (answer,) in answers]


class _Greedy(LogitsProcessor):
    """Keeps each step's best log-probability: with greedy decoding that is the chosen token's."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wide = scores.float()
        self.steps.append(wide.amax(-1) - wide.logsumexp(-1))
        return scores


class _Chooser(LogitsProcessor):
    """Chooses each step's tokens, so that greedy decoding has no choice; keeps their own log-probabilities.

    Args:
        choose: logits of the allowed tokens, float32, and the number of the step -> a token a row.
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


def _draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    shares = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ordered, ids = shares.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        shares = torch.zeros_like(shares).scatter(1, ids, ordered.masked_fill(before >= top_p, 0.0))
    edges = shares.cumsum(-1)  # in the order of ids, which no rounding changes
    return torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True)[:, 0]


class _RoomyCache(StaticCache):
    """Room for prompts and answers from the start; what it holds is of one type.

    A cache that generate makes is as long as the longest so far, and the last bits of sums hang on its length.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Under autocast, float32 weights make keys of float32, by their rotation, and values of its type.
        device = key_states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else key_states.dtype
        both: tuple[torch.Tensor, torch.Tensor] = super().update(
            key_states.to(dtype), value_states.to(dtype), *args, **kwargs
        )
        return both


def _generate(
    model: Any, inputs: dict[str, torch.Tensor], chooser: LogitsProcessor, limits: Limits, *, rows: int
) -> list[list[int]]:
    """New ids of `rows` rows a prompt, which lie together."""
    length = inputs["input_ids"].shape[1]
    repeated = {name: values.repeat_interleave(rows, dim=0) for name, values in inputs.items()}
    cache, room = None, length + limits.max_new_tokens
    # A growing cache is copied at each step, up to 2.5 times slower; flash attention takes no other.
    if "flash" not in model.config._attn_implementation:
        if rows > 1 and length > 1:
            cache = _shared_cache(model, inputs, rows=rows, room=room)
        if cache is None:
            cache = _RoomyCache(config=model.config, max_cache_len=room)
    output = model.generate(
        **repeated,
        past_key_values=cache,
        max_new_tokens=limits.max_new_tokens,
        do_sample=False,
        eos_token_id=list(limits.stop_ids),
        pad_token_id=limits.pad_id,
        logits_processor=LogitsProcessorList([chooser]),
        disable_compile=True,
    )
    new_ids: list[list[int]] = output[:, length:].tolist()
    return new_ids


def _shared_cache(model: Any, inputs: dict[str, torch.Tensor], *, rows: int, room: int) -> Cache | None:
    """All but the last token of each prompt, read once and laid into `rows` rows with room for the answers.

    None where a layer remembers a part of the prompt only (a sliding window).
    """
    read, _ = read_prompts(model, inputs["input_ids"][:, :-1], inputs["attention_mask"][:, :-1])
    if not all(type(layer) is DynamicLayer for layer in read.layers):
        return None
    cache = _RoomyCache(config=model.config, max_cache_len=room)
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
