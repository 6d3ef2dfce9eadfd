"""Engines: what they answer is what the model says, whatever else is in the batch."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_compose import compose
from rich.console import Console
from toy_models import load, settings, untrained

from arc_experiments.config.schema import Model
from arc_experiments.generation.batching import plan_batches
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Answer, Limits
from arc_experiments.jobs import evaluate
from arc_experiments.prompts.tokens import Ids
from arc_experiments.run import PARTIAL_PREDICTIONS, Run
from arc_experiments.scoring.candidates import Candidate

NUM_TOKENS = 8
SAMPLES = Transformers(num_samples=3, temperatures=(1.0,), seed=5)
LIMITS = Limits(max_new_tokens=NUM_TOKENS, stop_ids=tuple(range(40)), pad_id=0)
PROMPTS = [np.arange(60, 60 + length, dtype=np.int32) for length in (9, 30, 17, 1)]
KEYS = [("task", 0, view) for view in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def model(base: Path) -> torch.nn.Module:
    torch.set_num_threads(1)
    return load(settings(base), trainable=False).eval()


def forced(model: torch.nn.Module, prompt: Ids, answer: list[int]) -> float:
    """The log-probability of an answer by plain teacher forcing."""
    ids = torch.tensor([[*prompt.tolist(), *answer]])
    with torch.inference_mode():
        log_probabilities = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    return float(log_probabilities.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].double().sum())


def as_given(answers: list[list[Answer]]) -> list[list[tuple[int, ...]]]:
    return [[answer.ids for answer in group] for group in answers]


def test_samples_are_the_same_alone_and_in_any_batch(model: torch.nn.Module) -> None:
    together = SAMPLES.answer(model, PROMPTS, KEYS, LIMITS)
    turned = SAMPLES.answer(model, PROMPTS[::-1], KEYS[::-1], LIMITS)[::-1]
    alone = [SAMPLES.answer(model, [p], [k], LIMITS)[0] for p, k in zip(PROMPTS, KEYS, strict=True)]
    assert as_given(together) == as_given(turned) == as_given(alone)
    assert len({answer.ids for group in together for answer in group}) > len(PROMPTS), (
        "they are not all alike"
    )


@pytest.mark.parametrize("engine", [Transformers(), SAMPLES], ids=["best", "samples"])
def test_float32_weights_answer_in_bfloat16_as_they_say(model: torch.nn.Module, engine: Transformers) -> None:
    """A full fine-tuning in bfloat16: its weights stay float32, and it is evaluated by the same process."""
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    endless = Limits(max_new_tokens=NUM_TOKENS, stop_ids=(), pad_id=0)
    with torch.autocast("cpu", torch.bfloat16):
        groups = engine.answer(model, PROMPTS, KEYS, endless)
        for prompt, group in zip(PROMPTS, groups, strict=True):
            for answer in group:
                said = forced(model, prompt, list(answer.ids))
                assert answer.log_probability == pytest.approx(said, abs=0.1)


def test_an_answer_is_the_same_to_the_last_bit_whatever_was_answered_before() -> None:
    model = load(Model(name="tiny", path="package:tiny", dtype="float32", lora=None), trainable=False).eval()
    rng = np.random.default_rng(0)
    short, long = (rng.integers(5, 17, length).astype(np.int32) for length in (50, 900))
    limits = Limits(max_new_tokens=40, stop_ids=(2,), pad_id=0)
    first, _, again = (Transformers().answer(model, [ids], KEYS[:1], limits) for ids in (short, long, short))
    assert [answer.log_probability for answer in again[0]] == [answer.log_probability for answer in first[0]]


def test_fewer_samples_are_the_first_ones_and_another_seed_gives_others(model: torch.nn.Module) -> None:
    three = as_given(SAMPLES.answer(model, PROMPTS, KEYS, LIMITS))
    one = Transformers(temperatures=(1.0,), seed=5).answer(model, PROMPTS, KEYS, LIMITS)
    assert as_given(one) == [group[:1] for group in three]
    other = Transformers(num_samples=3, temperatures=(1.0,), seed=6).answer(model, PROMPTS, KEYS, LIMITS)
    assert as_given(other) != three


@pytest.mark.parametrize(
    "engine", [Transformers(), SAMPLES, Transformers(num_samples=2, temperatures=(0.7,), top_p=0.5)]
)
def test_the_log_probability_of_an_answer_is_the_models_own(
    model: torch.nn.Module, engine: Transformers
) -> None:
    limits = Limits(max_new_tokens=4, stop_ids=tuple(range(40)), pad_id=0)
    for prompt, answers in zip(PROMPTS, engine.answer(model, PROMPTS, KEYS, limits), strict=True):
        for answer in answers:
            if not answer.finished:  # which of the end tokens it was is not told
                assert answer.log_probability == pytest.approx(
                    forced(model, prompt, list(answer.ids)), abs=1e-4
                )
                assert answer.num_tokens == len(answer.ids) == 4
            else:
                assert answer.num_tokens == len(answer.ids) + 1


def test_samples_come_as_often_as_the_model_says(model: torch.nn.Module) -> None:
    engine = Transformers(num_samples=2000, temperatures=(0.8,))
    limits = Limits(max_new_tokens=1, stop_ids=(), pad_id=0)
    (answers,) = engine.answer(model, PROMPTS[:1], KEYS[:1], limits)
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(PROMPTS[0])[None]).logits[0, -1]
    expected = (logits / 0.8).softmax(-1).numpy()
    drawn = np.bincount([answer.ids[0] for answer in answers], minlength=len(expected)) / 2000
    assert np.abs(drawn - expected).max() < 0.04


def test_a_small_top_p_leaves_the_best_token_alone(model: torch.nn.Module) -> None:
    narrow = Transformers(temperatures=(1.0,), top_p=1e-6).answer(model, PROMPTS, KEYS, LIMITS)
    assert as_given(narrow) == as_given(Transformers().answer(model, PROMPTS, KEYS, LIMITS))


def test_a_prompt_takes_as_many_rows_of_a_batch_as_it_has_samples() -> None:
    lengths = [10, 10, 10, 10]
    assert [len(batch) for batch in plan_batches(lengths, extra=10, batch_tokens=80)] == [4]
    halves = plan_batches(lengths, extra=10, batch_tokens=80, rows_per_prompt=2)
    assert [len(batch) for batch in halves] == [2, 2]
    assert len(plan_batches(lengths, extra=10, batch_tokens=1, rows_per_prompt=2)) == 4


@pytest.mark.slow
def test_batched_answers_differ_from_single_ones_only_where_two_tokens_are_as_good(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    overrides = [
        "experiment=smoke",
        "prompt=compact",
        "tracking=off",
        "data.limit=24",
        "inference.limit=null",
    ]
    run = compose([*overrides, "inference.num_views=1", "prompt.max_length=900"], tmp_path / "run")
    model = run.model(trainable=False).eval()
    prompts = [request.ids for request in run.requests if request.ids is not None]
    limits = Limits(max_new_tokens=12, stop_ids=run.prompt.stop_ids, pad_id=run.prompt.pad_id)
    keys = [("", 0, 0)] * len(prompts)
    together = as_given(Transformers().answer(model, prompts, keys, limits))
    assert len(prompts) >= 6
    for prompt, ((batched,)) in zip(prompts, together, strict=True):
        ((single,),) = as_given(Transformers().answer(model, [prompt], keys[:1], limits))
        if batched != single:
            fork = next(n for n, (a, b) in enumerate(zip(batched, single, strict=False)) if a != b)
            with torch.inference_mode():
                ids = torch.tensor([[*prompt.tolist(), *single[:fork]]])
                best = model(input_ids=ids).logits[0, -1].topk(2).values
            assert best[0] - best[1] < 1e-4


# From the command line to the file


def sampling_run(folder: Path) -> Run:
    torch.set_num_threads(1)
    overrides = ["experiment=smoke", "tracking=off", "inference.max_new_tokens=6"]
    sampled = ["inference.batch_tokens=1000", "inference.num_samples=2", "inference.temperature=1"]
    return compose([*overrides, *sampled], folder)


def test_every_view_has_its_numbered_samples(tmp_path: Path) -> None:
    run = sampling_run(tmp_path)
    candidates = run.predict(run.model())
    assert len(candidates) == 2 * len(run.requests)
    assert [(c.task_id, c.test_index, c.view, c.sample) for c in candidates] == [
        (*request.key, sample) for request in run.requests for sample in (0, 1)
    ]


@pytest.mark.slow
def test_a_killed_sampling_goes_on_after_its_last_whole_batch(tmp_path: Path) -> None:
    run = sampling_run(tmp_path)
    model = run.model()
    before = [candidate.to_json() for candidate in run.predict(model)]
    (file,) = (run.folder / PARTIAL_PREDICTIONS).iterdir()
    lines = file.read_text().splitlines()
    assert len(lines) > 3
    file.write_text("\n".join([*lines[:2], lines[2][:70]]))  # torn in the middle of a line
    seen: list[int] = []
    again = run.predict(model, lambda done, total: seen.append(done), resume=True)
    assert [candidate.to_json() for candidate in again] == before
    assert seen[0] == 1


def test_a_prediction_of_the_days_before_samples_is_read_as_the_first() -> None:
    line = {
        "task": "a", "test_index": 0, "view": 1, "transforms": "identity", "text": "1", "num_tokens": 2,
        "log_probability": -1.0, "valid": True, "reason": None, "grid": [[1]],
    }  # fmt: skip
    assert Candidate.from_json(json.dumps(line)).sample == 0


def test_the_threshold_engine_gives_every_view_its_likely_answers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    overrides = ["experiment=smoke", "tracking=off", "inference.max_new_tokens=3", "inference.limit=1"]
    run = compose([*overrides, "inference.engine=threshold", "inference.threshold=0.02"], tmp_path)
    candidates = run.predict(run.model())
    for request in run.requests:
        group = [c for c in candidates if (c.task_id, c.test_index, c.view) == request.key]
        assert [candidate.sample for candidate in group] == list(range(len(group)))
        assert group
        values = [candidate.log_probability for candidate in group]
        assert values == sorted(values, reverse=True)


def test_constrained_answers_hold_nothing_but_grids(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    few = ["data.limit=4", "inference.limit=1", "inference.num_views=2", "inference.max_new_tokens=8"]
    few += untrained()
    own = ["experiment=smoke", "tracking=off", "job=evaluate", "inference.constrain=grid", *few]
    run = compose(own, tmp_path)
    evaluate.main(run, Console(file=io.StringIO()))
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert all(set(json.loads(line)["text"]) <= set("0123456789\n") for line in lines)
    assert not (run.folder / PARTIAL_PREDICTIONS).exists()


def test_samples_at_several_temperatures_are_those_at_each(model: torch.nn.Module) -> None:
    mixed = Transformers(num_samples=5, temperatures=(0.3, 0.3, 2.0, 2.0, 2.0), seed=5)
    cold, hot = (Transformers(num_samples=5, temperatures=(value,), seed=5) for value in (0.3, 2.0))
    together, low, high = (
        as_given(engine.answer(model, PROMPTS, KEYS, LIMITS)) for engine in (mixed, cold, hot)
    )
    assert low != high
    for each, cool, warm in zip(together, low, high, strict=True):
        assert each == [*cool[:2], *warm[2:]]


def test_later_samples_go_through_the_temperatures_again(model: torch.nn.Module) -> None:
    engine = Transformers(num_samples=2, temperatures=(0.3, 2.0), seed=5)
    every = Transformers(num_samples=6, temperatures=(0.3, 2.0), seed=5)
    later = as_given(engine.only(range(4, 6)).answer(model, PROMPTS, KEYS, LIMITS))
    assert later == [group[4:] for group in as_given(every.answer(model, PROMPTS, KEYS, LIMITS))]
