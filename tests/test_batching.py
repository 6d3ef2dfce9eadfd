"""Memory: what does not fit is done in parts, whose results are those of the whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick_compose import compose
from toy_models import load, settings

from arc_experiments.generation.batching import OutOfMemory, PromptBatch, TokenBudget
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Answer, Engine, Key, Limits
from arc_experiments.generation.likelihoods import log_probabilities
from arc_experiments.generation.threshold_search import Threshold
from arc_experiments.run import Run

SAMPLES = Transformers(num_samples=5, temperatures=(1.0,), seed=5)
LIMITS = Limits(max_new_tokens=8, stop_ids=tuple(range(40)), pad_id=0)
KEYS: list[Key] = [("task", 0, view) for view in range(5)]
PROMPTS = [np.arange(60, 60 + length, dtype=np.int32) for length in (30, 17, 9, 5, 2)]
FREE = 100_000


@pytest.fixture(scope="module")
def model(base: Path) -> torch.nn.Module:
    torch.set_num_threads(1)
    return load(settings(base), trainable=False).eval()


@contextmanager
def memory_for(model: torch.nn.Module, num_tokens: int) -> Iterator[list[int]]:
    """A device that holds so many tokens at a time, those of its caches too; gives what was asked of it."""
    asked: list[int] = []

    def check(module: object, arguments: object, options: dict[str, Any]) -> None:
        mask = options.get("attention_mask")
        rows, length = options["input_ids"].shape
        cache = options.get("past_key_values")
        seen = mask.shape[-1] if isinstance(mask, torch.Tensor) else length
        if cache is not None:
            seen = max(seen, int(cache.get_seq_length()) + length)
        asked.append(rows * seen)
        if rows * seen > num_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    hook = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield asked
    finally:
        hook.remove()


def answer(
    budget: TokenBudget, engine: Engine, model: torch.nn.Module, count: int = 5
) -> list[tuple[Key, Answer]]:
    """The answers to the first prompts, in as many parts as it takes."""
    prompts = list(zip(KEYS[:count], PROMPTS, strict=False))
    whole = PromptBatch(engine=engine, limits=LIMITS, prompts=prompts)
    return budget.in_parts(whole, lambda part: part.answer(model))


def answer_whole(engine: Engine, model: torch.nn.Module, count: int = 5) -> list[tuple[Key, Answer]]:
    """The answers to the first prompts, all at once."""
    groups = engine.answer(model, PROMPTS[:count], KEYS[:count], LIMITS)
    return [(key, answer) for key, group in zip(KEYS, groups, strict=False) for answer in group]


def ids(answers: list[tuple[Key, Answer]]) -> list[tuple[Key, tuple[int, ...]]]:
    return [(key, answer.ids) for key, answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Transformers(), SAMPLES, Threshold(threshold=0.1)])
def test_what_does_not_fit_is_answered_in_parts_and_the_same(model: torch.nn.Module, engine: Engine) -> None:
    whole = answer_whole(engine, model)
    with memory_for(model, 120):
        parts = answer(TokenBudget(FREE), engine, model)
    assert ids(parts) == ids(whole)
    values = [one.log_probability for _, one in whole]
    assert [one.log_probability for _, one in parts] == pytest.approx(values, abs=1e-4)


def test_the_size_that_fitted_is_remembered(model: torch.nn.Module) -> None:
    budget = TokenBudget(FREE)
    with memory_for(model, 120) as asked:
        answer(budget, Transformers(), model)
        assert budget.tokens <= 3 * (30 + 8)
        assert max(asked) > 120
        asked.clear()
        answer(budget, Transformers(), model)
        assert max(asked) <= 120, "it did not fail again"
    assert budget.planned == FREE, "batches are planned as before, so that a rerun finds its own again"


def test_samples_of_one_prompt_are_drawn_within_the_configured_tokens(model: torch.nn.Module) -> None:
    whole = answer_whole(SAMPLES, model, 1)
    rows: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, arguments, options: rows.append(len(options["input_ids"])), with_kwargs=True
    )
    parts = answer(TokenBudget(2 * (30 + 8)), SAMPLES, model, 1)
    hook.remove()
    assert ids(parts) == ids(whole)
    assert max(rows) == 2


@pytest.mark.slow
def test_a_prompt_that_does_not_fit_alone_is_named(model: torch.nn.Module) -> None:
    with (
        memory_for(model, 20),
        pytest.raises(OutOfMemory, match=r"task task: .*38 tokens.*inference\.batch_tokens"),
    ):
        answer(TokenBudget(FREE), Transformers(), model)


def test_other_errors_are_not_taken_for_missing_memory(model: torch.nn.Module) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    hook = model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        answer(TokenBudget(FREE), Transformers(), model)
    hook.remove()


def test_candidates_are_compared_in_parts_with_the_same_likelihoods(model: torch.nn.Module) -> None:
    rng = np.random.default_rng(0)
    prompts = PROMPTS[:1]
    answers = [[rng.integers(40, 60, length).astype(np.int32) for length in (9, 4, 7, 2)]]
    whole = log_probabilities(model, prompts, answers, pad_id=0, budget=TokenBudget(FREE))
    budget = TokenBudget(FREE)
    with memory_for(model, 80):
        parts = log_probabilities(model, prompts, answers, pad_id=0, budget=budget)
        assert budget.tokens == 2 * (30 + 9)
        with pytest.raises(OutOfMemory):
            log_probabilities(
                model, prompts, [[np.full(60, 50, np.int32)]], pad_id=0, budget=TokenBudget(FREE)
            )
    assert parts[0] == pytest.approx(whole[0], abs=1e-4)


def run_of(folder: Path, *overrides: str) -> Run:
    torch.set_num_threads(1)
    small = [
        "experiment=smoke",
        "prompt=compact",
        "tracking=off",
        "prompt.max_length=600",
        "inference.max_new_tokens=8",
    ]
    return compose([*small, "inference.scoring_views=2", *overrides], folder)


def test_a_run_in_little_memory_has_the_answers_of_one_in_much(tmp_path: Path) -> None:
    run, little = run_of(tmp_path / "a"), run_of(tmp_path / "b")
    model = run.model(trainable=False).eval()

    def found(run: Run) -> list[tuple[object, ...]]:
        candidates = run.predictor.predict(model, run.requests, run.folder / "asked")
        return [(one.task_id, one.test_index, one.view, one.text) for one in candidates]

    expected = found(run)
    with memory_for(model, 700) as asked:
        assert found(little) == expected
    assert max(asked) > 700
    assert little.predictor.budget.tokens < run.predictor.budget.tokens


def test_only_batches_that_were_answered_are_kept_when_a_prompt_does_not_fit(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    model = run.model(trainable=False).eval()
    lengths = [len(request.ids) + 8 for request in run.requests if request.ids is not None]
    with memory_for(model, max(lengths) - 4), pytest.raises(OutOfMemory, match="lower prompt"):
        run.predictor.predict(model, run.requests, run.folder / "asked")
