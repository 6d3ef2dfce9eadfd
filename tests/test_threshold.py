"""The threshold engine finds what trying out every answer finds."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Answer, Limits
from arc_experiments.generation.threshold_search import Threshold
from arc_experiments.prompts.tokens import Ids

SIZE, STEPS, STOP = 8, 4, (0, 1)
LIMITS = Limits(max_new_tokens=STEPS, stop_ids=STOP, pad_id=0)
PROMPTS = [np.array(ids, dtype=np.int32) for ids in ([3, 4, 5], [2], [7, 7, 2, 3, 6, 5, 4], [6, 2])]
KEYS = [("", 0, 0)] * len(PROMPTS)

Found = dict[tuple[tuple[int, ...], bool], float]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    options = {
        "vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.6,
    }  # fmt: skip
    return Qwen2ForCausalLM(Qwen2Config(**options)).eval()


def every_answer(model: torch.nn.Module, prompt: Ids) -> Found:
    """All answers of up to STEPS tokens, by a forward pass each: (ids without end, ended) -> logarithm."""
    tokens = [token for token in range(SIZE) if token not in STOP]
    found: Found = {}
    for length in range(1, STEPS + 1):
        for start in itertools.product(tokens, repeat=length - 1):
            with torch.inference_mode():
                ids = torch.tensor([[*prompt.tolist(), *start]])
                steps = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1).double()
            path = sum(float(steps[len(prompt) - 1 + place, token]) for place, token in enumerate(start))
            ends = [(start, True, max(float(steps[-1, token]) for token in STOP))]
            if length == STEPS:
                ends += [((*start, token), False, float(steps[-1, token])) for token in tokens]
            for answer, ended, last in ends:
                found[answer, ended] = path + last
    return found


def as_found(answers: list[Answer]) -> Found:
    found = {(answer.ids, answer.finished): answer.log_probability for answer in answers}
    assert len(found) == len(answers), "no answer comes twice, whatever the number of end tokens"
    return found


@pytest.mark.parametrize("threshold", [0.3, 0.1, 0.02])
def test_all_answers_above_the_threshold_are_found_and_no_others(
    model: torch.nn.Module, threshold: float
) -> None:
    engine = Threshold(threshold=threshold)
    for prompt, answers in zip(PROMPTS, engine.answer(model, PROMPTS, KEYS, LIMITS), strict=True):
        expected = {
            place: value
            for place, value in every_answer(model, prompt).items()
            if value >= math.log(threshold)
        }
        if expected:
            assert as_found(answers) == pytest.approx(expected, abs=1e-4)
            assert sum(math.exp(answer.log_probability) for answer in answers) <= 1 + 1e-6
        values = [answer.log_probability for answer in answers]
        assert values == sorted(values, reverse=True)
        assert len(answers) <= max(1, math.floor(1 / threshold))


def test_the_greedy_answer_stands_in_where_none_is_above_the_threshold(model: torch.nn.Module) -> None:
    greedy = Transformers().answer(model, PROMPTS, KEYS, LIMITS)
    for answers, (best,) in zip(
        Threshold(threshold=1.0).answer(model, PROMPTS, KEYS, LIMITS), greedy, strict=True
    ):
        assert [(answer.ids, answer.finished) for answer in answers] == [(best.ids, best.finished)]
        assert answers[0].log_probability == pytest.approx(best.log_probability, abs=1e-4)


def test_the_greedy_answer_is_among_them_where_it_is_above_the_threshold(model: torch.nn.Module) -> None:
    greedy = Transformers().answer(model, PROMPTS, KEYS, LIMITS)
    found = Threshold(threshold=0.01).answer(model, PROMPTS, KEYS, LIMITS)
    likely = [
        (answers, best)
        for answers, (best,) in zip(found, greedy, strict=True)
        if best.log_probability > math.log(0.02)
    ]
    assert likely
    for answers, best in likely:
        assert best.ids in [answer.ids for answer in answers]
        if best.log_probability > math.log(0.5):
            assert answers[0].ids == best.ids


def test_a_prompts_answers_are_the_same_in_any_batch(model: torch.nn.Module) -> None:
    engine = Threshold(threshold=0.05)
    together = engine.answer(model, PROMPTS, KEYS, LIMITS)
    for prompt, answers in zip(PROMPTS, together, strict=True):
        (alone,) = engine.answer(model, [prompt], KEYS[:1], LIMITS)
        assert as_found(alone) == pytest.approx(as_found(answers), abs=1e-4)


def test_a_batch_that_branches_too_much_is_done_in_halves(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Threshold(threshold=0.02)
    whole = [engine.answer(model, [prompt], KEYS[:1], LIMITS)[0] for prompt in PROMPTS]
    sizes: list[int] = []
    search = Threshold._search

    def counted(self: Threshold, model: object, prompts: list[Ids], limits: Limits) -> object:
        sizes.append(len(prompts))
        return search(self, model, prompts, limits)

    monkeypatch.setattr(Threshold, "_search", counted)
    parts = engine.answer(model, PROMPTS, KEYS, LIMITS)
    assert sizes[0] == len(PROMPTS)
    assert 1 in sizes, "it was split down to single prompts"
    for one, other in zip(parts, whole, strict=True):
        assert as_found(one) == pytest.approx(as_found(other), abs=1e-4)


def test_an_answer_that_never_ends_is_unfinished(model: torch.nn.Module) -> None:
    endless = Limits(max_new_tokens=3, stop_ids=(), pad_id=0)
    for answers in Threshold(threshold=0.2).answer(model, PROMPTS, KEYS, endless):
        assert answers
        assert all(not answer.finished and answer.num_tokens == len(answer.ids) == 3 for answer in answers)
