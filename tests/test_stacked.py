"""Stacked adapters: each row of a batch is computed, and its gradients made, as by its own adapter alone."""

from pathlib import Path

import pytest
import torch
from toy_models import IDS, load, make_base, settings

from arc_experiments.adapters_at_once.stacked import OF_EXPERTS, Stack, Stacked, check_stackable
from arc_experiments.config.schema import Lora

COUNT = 3
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer heads for keys than for queries, so that the matrices have several shapes."""
    folder = tmp_path_factory.mktemp("base")
    return make_base(folder, kind="llama", num_attention_heads=4, num_key_value_heads=2)


def trained(model: torch.nn.Module) -> Weights:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def drawn(model: torch.nn.Module, seed: int) -> Weights:
    """Weights of an adapter that has been trained."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(each.shape, generator=generator) / 8 for name, each in trained(model).items()}


def put(model: torch.nn.Module, weights: Weights) -> None:
    with torch.no_grad():
        for name, each in trained(model).items():
            each.copy_(weights[name])


def rows(number: int) -> torch.Tensor:
    """Two of an adapter."""
    return torch.cat([IDS + number, IDS.flip(1) + 2 * number])


def step(model: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, Weights]:
    """Logits, and the gradients of something that they all go into."""
    model.zero_grad()
    logits = model.train()(input_ids=ids, use_cache=False).logits
    logits.square().mean((1, 2)).sum().backward()
    return logits.detach(), {name: each.grad.clone() for name, each in trained(model).items()}


@pytest.mark.parametrize(
    "lora", [Lora(rank=1), Lora(rank=4, rslora=True), Lora(rank=3, target_modules=["k_proj"])]
)
def test_every_row_has_the_output_and_the_gradient_of_its_own_adapter(lora: Lora, base: Path) -> None:
    model = load(settings(base, lora=lora)).double()
    adapters = [drawn(model, number) for number in range(COUNT)]
    expected = []
    for number, weights in enumerate(adapters):
        put(model, weights)
        expected.append(step(model, rows(number)))
    stack = Stack(model, COUNT)
    with stack.in_place():
        put(model, {name: torch.stack([one[name] for one in adapters]) for name in adapters[0]})
        joined = torch.stack([rows(number) for number in range(COUNT)], 1).flatten(0, 1)
        logits, gradients = step(model, joined)
    for number, (alone, gradients_alone) in enumerate(expected):
        torch.testing.assert_close(logits[number::COUNT], alone, rtol=1e-9, atol=1e-12)
        for name, gradient in gradients_alone.items():
            torch.testing.assert_close(gradients[name][number], gradient, rtol=1e-9, atol=1e-12)


def test_a_model_gets_its_own_adapter_back_or_one_of_the_stack(base: Path) -> None:
    model = load(settings(base))
    own, places = drawn(model, 0), list(trained(model))
    put(model, own)
    parameters = list(trained(model).values())
    stack = Stack(model, COUNT)
    with stack.in_place():
        assert list(trained(model)) == places
        assert all(torch.equal(each, own[name].repeat(COUNT, 1, 1)) for name, each in trained(model).items())
        put(model, {name: torch.stack([each, each * 2, each * 3]) for name, each in own.items()})
    assert all(now is before for now, before in zip(trained(model).values(), parameters, strict=True))
    assert all(torch.equal(each, own[name]) for name, each in trained(model).items())
    stack.take(2)
    assert all(torch.equal(each, own[name] * 3) for name, each in trained(model).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": Lora(rank=4, dora=True)},
        {"lora": Lora(rank=4, modules_to_save=["norm"])},
        {"lora": Lora(rank=4, target_modules=["embed_tokens", "q_proj"])},
        {"lora": None},
    ],
)
def test_what_is_no_plain_lora_is_refused(changes: dict[str, object], base: Path) -> None:
    with pytest.raises(ValueError, match=r"adapt\.together=3 trains nothing but plain LoRA matrices.*=1"):
        check_stackable(load(settings(base, **changes)), COUNT)


def test_an_adapter_that_nothing_of_is_trained_is_refused(base: Path) -> None:
    model = load(settings(base))
    check_stackable(model, COUNT)
    with pytest.raises(ValueError, match="this model has none"):
        check_stackable(model.requires_grad_(False), COUNT)


def test_rows_that_a_layer_has_joined_are_refused_in_words() -> None:
    stacked = Stacked(torch.nn.Linear(4, 2, bias=False), COUNT)
    with pytest.raises(ValueError, match="joins the rows of a batch inside its layers"):
        stacked(torch.zeros(6, 4))


@pytest.mark.parametrize("name", OF_EXPERTS)
def test_experts_that_are_balanced_over_all_rows_are_refused(name: str, base: Path) -> None:
    model = load(settings(base))
    setattr(model.config, name, 4)
    with pytest.raises(ValueError, match="mixture of experts"):
        check_stackable(model, COUNT)
