"""Attention on CPUs: sample by sample in packed rows, and as it ever was under any other mask."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import small_run
from toy_models import load, settings
from transformers import AutoModelForCausalLM, FalconConfig, GemmaConfig, MistralConfig, Qwen2Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from arc_experiments.models import packed_attention
from arc_experiments.models.packed_attention import attend_by_sample, by_sample, sample_lengths

SHAPE = {
    "vocab_size": 30,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
POSITIONS = torch.tensor([[*range(5), *range(7)], [*range(12)], [*range(1), *range(10), *range(1)]])


def causal(*begins: int) -> torch.Tensor:
    """The mask of one row whose tokens' samples begin there."""
    place = torch.arange(len(begins))
    return ((place <= place[:, None]) & (place >= torch.tensor(begins)[:, None]))[None, None]


def gradients(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The logits of packed rows, and the gradients of something that hangs on all of them."""
    ids = torch.randint(3, 30, positions.shape, generator=torch.Generator().manual_seed(0))
    given = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    model.zero_grad()
    given.log_softmax(-1)[..., 5].sum().backward()
    return given.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SHAPE),
        GemmaConfig(**SHAPE),
        MistralConfig(**SHAPE, sliding_window=4),  # shorter than a sample: not ours
    ],
    ids=lambda config: config.model_type,
)
def test_packed_rows_give_the_logits_and_gradients_of_sdpa(config: Any) -> None:
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    truth, true_gradients = gradients(model, POSITIONS)
    with by_sample():
        logits, all_gradients = gradients(model, POSITIONS)
    assert torch.allclose(logits, truth, atol=1e-5)
    for ours, theirs in zip(all_gradients, true_gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_packed_sample_gives_what_it_gives_alone(base: Path) -> None:
    model = load(settings(base))
    ids = torch.randint(3, 30, (1, 12), generator=torch.Generator().manual_seed(0))
    with by_sample():
        packed = model(input_ids=ids, position_ids=POSITIONS[:1], use_cache=False).logits
    alone = [model(input_ids=each, use_cache=False).logits for each in ids.split([5, 7], 1)]
    assert torch.allclose(packed, torch.cat(alone, 1), atol=1e-5)


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths that attention is computed over, one after another."""
    lengths: list[int] = []

    def kernel(module: Any, query: torch.Tensor, *others: Any, **options: Any) -> Any:
        lengths.append(query.shape[2])
        return sdpa_attention_forward(module, query, *others, **options)

    monkeypatch.setattr(packed_attention, "sdpa_attention_forward", kernel)
    return lengths


def test_the_kernel_is_called_once_for_each_sample_and_not_for_rows(lengths: list[int]) -> None:
    model = AutoModelForCausalLM.from_config(Qwen2Config(**SHAPE), attn_implementation="sdpa")
    with by_sample():
        model(input_ids=torch.full(POSITIONS.shape, 5), position_ids=POSITIONS, use_cache=False)
    assert lengths == [5, 7, 12, 1, 10, 1] * SHAPE["num_hidden_layers"]


@pytest.mark.slow
def test_a_training_on_packed_rows_attends_by_sample_and_leaves_the_model_as_it_was(
    lengths: list[int], tmp_path: Path
) -> None:
    run = small_run(tmp_path / "packed", "optim.pack_length=900", "optim.max_steps=1", "optim.save_steps=1")
    model = run.model()
    run.trainer(model, []).resume_or_start()
    [*parts] = (len(sample.encoded) for sample in run.stream().row(0))
    assert len(parts) > 1
    assert lengths[: len(parts)] == parts
    lengths.clear()
    plain = small_run(tmp_path / "plain", "optim.max_steps=1", "optim.save_steps=1")
    plain.trainer(plain.model(), []).resume_or_start()
    assert not lengths


def test_models_without_the_interface_stay_as_they_are(lengths: list[int]) -> None:
    shape = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(FalconConfig(**shape), attn_implementation="sdpa")
    with by_sample():
        model(input_ids=torch.full((1, 12), 5), position_ids=POSITIONS[:1], use_cache=False)
    assert not lengths


def test_only_causal_samples_side_by_side_have_lengths() -> None:
    assert sample_lengths(causal(0, 0, 0, 3, 3)) == [[3, 2]]
    assert sample_lengths(torch.cat([causal(0, 1, 1), causal(0, 0, 0)])) == [[1, 2], [3]]
    padded_left = causal(0, 0, 0, 0)
    padded_left[..., 0] = False
    assert sample_lengths(padded_left) is None  # its first token sees nothing
    assert sample_lengths(causal(0, 0, 1, 2)) is None  # a sliding window
    assert sample_lengths(causal(0, 0, 1, 1)) is None  # one that steps
    seeing_ahead = causal(0, 0, 0)
    seeing_ahead[..., 0, 2] = True
    assert sample_lengths(seeing_ahead) is None
    assert sample_lengths(causal(0, 0, 0)[..., 1:, :]) is None  # with a cache: fewer queries than keys
    assert sample_lengths(causal(0, 0, 0).float()) is None
    assert sample_lengths(causal(0, 0, 0).expand(1, 2, 3, 3)) is None  # a mask for each head


def test_other_masks_are_left_to_sdpa() -> None:
    query, key, value = torch.randn(3, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    mask = causal(0, 0, 1, 2, 3, 4)
    ours = attend_by_sample(torch.nn.Identity(), query, key, value, mask, scaling=0.5)[0]
    theirs = sdpa_attention_forward(torch.nn.Identity(), query, key, value, mask, scaling=0.5)[0]
    assert torch.equal(ours, theirs)
