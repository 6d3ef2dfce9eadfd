"""The contract with vLLM, on a stand-in with its interface: model and adapter from files, ids in and out."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from toy_models import load, settings
from transformers import AutoModelForCausalLM

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Limits
from arc_experiments.generation.vllm import Vllm
from arc_experiments.models.adapters import save_weights
from arc_experiments.models.tokenizer import load_tokenizer

LIMITS = Limits(max_new_tokens=6, stop_ids=tuple(range(40)), pad_id=0)
PROMPTS = [np.arange(60, 60 + length, dtype=np.int32) for length in (9, 20)]
KEYS = [("task", 0, view) for view in range(2)]


class StandIn:
    """A greedy LLM with the interface of vLLM's."""

    def __init__(self, **options: Any) -> None:
        self.started.append(options)
        self._base = AutoModelForCausalLM.from_pretrained(options["model"], dtype=torch.float32)

    started: list[dict[str, Any]]
    asked: list[tuple[Any, Any]]

    def generate(self, prompts: list[Any], params: list[Any], lora_request: Any, use_tqdm: bool) -> list[Any]:
        self.asked.append((params, lora_request))
        model = self._base
        if lora_request is not None:
            model = PeftModel.from_pretrained(model, lora_request.path).eval()
        outputs = []
        for prompt, how in zip(prompts, params, strict=True):
            ids = np.array(prompt["prompt_token_ids"])
            limits = Limits(max_new_tokens=how.max_tokens, stop_ids=tuple(how.stop_token_ids), pad_id=0)
            [[answer]] = Transformers().answer(model, [ids], KEYS[:1], limits)
            output = SimpleNamespace(
                token_ids=[*answer.ids, *([how.stop_token_ids[0]] if answer.finished else [])],
                cumulative_logprob=answer.log_probability,
                finish_reason="stop" if answer.finished else "length",
            )
            outputs.append(SimpleNamespace(outputs=[output]))
        if lora_request is not None:
            model.unload()
        return outputs


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    StandIn.started, StandIn.asked = [], []
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.LLM, package.SamplingParams = StandIn, lambda **options: SimpleNamespace(**options)
    request.LoRARequest = lambda name, number, path: SimpleNamespace(name=name, number=number, path=path)
    for module in (package, lora, request):
        module.__spec__ = SimpleNamespace(name=module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return StandIn


def engine(base: Path, **options: Any) -> Vllm:
    tokenizer = load_tokenizer(settings(base))
    return Vllm(
        base=str(base), dtype="float32", max_length=100, memory_share=0.5,
        save=lambda model, folder: save_weights(model, tokenizer, folder, base=str(base)), **options,
    )  # fmt: skip


def adapted(base: Path, shift: float) -> torch.nn.Module:
    model = load(settings(base)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += shift
    return model


def test_answers_are_those_of_the_adapter_that_was_handed_in(base: Path, stand_in: type[StandIn]) -> None:
    torch.set_num_threads(1)
    vllm, seen = engine(base), []
    for model in (adapted(base, 0.05), adapted(base, -0.05)):
        for _ in range(2):
            answers = vllm.answer(model, PROMPTS, KEYS, LIMITS)
        expected = Transformers().answer(model, PROMPTS, KEYS, LIMITS)
        seen.append([[answer.ids for answer in group] for group in answers])
        for group, own in zip(answers, expected, strict=True):
            assert [(a.ids, a.num_tokens, a.finished) for a in group] == [
                (a.ids, a.num_tokens, a.finished) for a in own
            ]
            assert group[0].log_probability == pytest.approx(own[0].log_probability, abs=1e-4)
    assert seen[0] != seen[1]
    assert len(stand_in.started) == 1, "the base is loaded once"
    assert stand_in.started[0]["max_lora_rank"] == 8, "room for rank 4"
    names = [request.name for _, request in stand_in.asked]
    assert names[0] == names[1] != names[2] == names[3], "a new name for each adapter"
    assert [request.number for _, request in stand_in.asked] == [1, 1, 2, 2]


def test_a_model_without_adapter_is_handed_over_whole(base: Path, stand_in: type[StandIn]) -> None:
    model = load(settings(base, lora=None), trainable=False).eval()
    with torch.no_grad():
        model.model.norm.weight += 0.3
    answers = engine(base).answer(model, PROMPTS, KEYS, LIMITS)
    expected = Transformers().answer(model, PROMPTS, KEYS, LIMITS)
    assert [[a.ids for a in group] for group in answers] == [[a.ids for a in group] for group in expected]
    assert stand_in.asked[0][1] is None
    assert stand_in.started[0]["model"] != str(base)


def test_every_sample_has_a_seed_of_its_own_that_the_batch_does_not_change(
    base: Path, stand_in: type[StandIn]
) -> None:
    model = load(settings(base), trainable=False).eval()
    vllm = engine(base, num_samples=3, temperatures=(0.7,), top_p=0.9, seed=2)
    answers = vllm.answer(model, PROMPTS, KEYS, LIMITS)
    assert [len(group) for group in answers] == [3, 3]
    vllm.answer(model, PROMPTS[1:], KEYS[1:], LIMITS)
    (together, _), (alone, _) = stand_in.asked
    seeds = [how.seed for how in together]
    assert len(set(seeds)) == 6
    assert [how.seed for how in alone] == seeds[3:]
    assert {(how.temperature, how.top_p, how.max_tokens, how.logprobs) for how in together} == {
        (0.7, 0.9, 6, 0)
    }


def test_without_the_package_it_is_refused_with_the_remedy(base: Path) -> None:
    with pytest.raises(ValueError, match=r"inference\.engine=vllm needs the package.*pip install"):
        engine(base)


def test_what_vllm_is_not_given_is_refused() -> None:
    typed = [
        "inference.engine=vllm", "inference.constrain=grid", "model.vocabulary=arc",
        "hardware.num_processes=2", "hardware.device=cpu",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        compose_config(typed)
    message = str(raised.value)
    for value in (*typed[1:], "model.path=package:tiny"):
        assert f"inference.engine=vllm does not go with {value}: " in message
