"""Generation in batches against one prompt at a time; likelihoods behind a prompt that is read only once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from arc_experiments.benchmarking.measure import compare_speeds, now
from arc_experiments.benchmarking.rows import rows_of_length
from arc_experiments.generation.batching import plan_batches
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Limits, pad_left, positions
from arc_experiments.generation.likelihoods import log_probabilities
from arc_experiments.generation.rescoring import answer_ids
from arc_experiments.models.adapters import merge
from arc_experiments.prompts import Encoded
from arc_experiments.prompts.tokens import Ids
from arc_experiments.run import Run
from arc_experiments.tasks import Pair
from arc_experiments.tasks.rngs import rng_for

NUM_SCORED = 4  # prompts with candidates
CANDIDATE_SHAPE = (9, 10)  # 100 tokens if a cell, a line break and the end are one token each


def measure_generation(run: Run) -> dict[str, Any]:
    """Measure new tokens per second, including the prefill.

    A round answers all prompts in batches, then every `rounds`-th of them one at a time.
    """
    benchmark = run.config.benchmark
    new_tokens = benchmark.new_tokens
    asked = [request.encoded for request in run.requests if request.encoded is not None]
    prompts = asked[: benchmark.prompts]
    if not prompts:
        raise ValueError(
            "inference.limit=0 leaves no prompt to answer: take benchmark.parts without generation"
        )
    model = merge(run.model(trainable=False).eval())
    lengths = [len(encoded) for encoded in prompts]
    plan = plan_batches(lengths, extra=new_tokens, batch_tokens=run.config.inference.batch_tokens)
    batches = [[prompts[position] for position in batch] for batch in plan]

    def one_at_a_time(number: int) -> float:
        chosen = prompts[number % len(prompts) :: benchmark.rounds]
        return _tokens_per_second(run, model, [[encoded] for encoded in chosen])

    with run.autocast():
        _tokens_per_second(run, model, [prompts[:1]])  # the first call is slow
        speeds = compare_speeds(
            run,
            ("tokens_per_second", lambda number: _tokens_per_second(run, model, batches)),
            ("one_at_a_time_tokens_per_second", one_at_a_time),
        )
    return {
        **speeds,
        "num_prompts": len(prompts),
        "num_batches": len(batches),
        "new_tokens": new_tokens,
        "prompt_tokens": sum(lengths) / len(lengths),
    }


def _tokens_per_second(run: Run, model: Any, batches: Sequence[Sequence[Encoded]]) -> float:
    new_tokens, prompt = run.config.benchmark.new_tokens, run.prompt
    limits = Limits(max_new_tokens=new_tokens, stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
    engine = Transformers(pictures=run.picture_inputs)
    start, tokens = now(run.device), 0
    for batch in batches:
        answers = engine.answer(model, batch, [("", 0, 0)] * len(batch), limits)
        tokens += sum(answer.num_tokens for (answer,) in answers)
    return tokens / (now(run.device) - start)


def measure_scoring(run: Run) -> dict[str, Any]:
    """Measure candidates per second in both ways, and how far their log-probabilities are apart."""
    benchmark, pad_id = run.config.benchmark, run.prompt.pad_id
    model = merge(run.model(trainable=False).eval())
    rows = rows_of_length(run, benchmark.prompt_tokens, NUM_SCORED, packing=False)
    groups = [
        (rows[place].encoded.input_ids, [_candidate(run, place, n) for n in range(benchmark.candidates)])
        for place in range(NUM_SCORED)
    ]
    scores: dict[str, list[list[float]]] = {}

    def per_second(name: str) -> float:
        start = now(run.device)
        if name == "shared":
            found = [
                log_probabilities(model, [ids], [each], pad_id=pad_id, budget=run.predictor.budget)[0]
                for ids, each in groups
            ]
        else:
            found = [_in_whole_rows(run, model, ids, each) for ids, each in groups]
        scores[name] = found
        return NUM_SCORED * benchmark.candidates / (now(run.device) - start)

    with run.autocast():
        _in_whole_rows(run, model, groups[0][0], groups[0][1][:1])  # the first call is slow
        speeds = compare_speeds(
            run,
            ("candidates_per_second", lambda number: per_second("shared")),
            ("plain_candidates_per_second", lambda number: per_second("plain")),
        )
    return {
        **speeds,
        "largest_difference": float(np.abs(np.subtract(scores["shared"], scores["plain"])).max()),
        "candidates": benchmark.candidates,
        "candidate_tokens": len(groups[0][1][0]),
        "prompt_tokens": benchmark.prompt_tokens,
    }


def _candidate(run: Run, *place: int) -> Ids:
    rng = rng_for("benchmark", run.config.seeds.inference, *place)
    grid = rng.integers(0, 10, CANDIDATE_SHAPE, dtype=np.uint8)
    return answer_ids(run.prompt, Pair(input=grid, output=grid))


def _in_whole_rows(run: Run, model: Any, prompt: Ids, answers: list[Ids]) -> list[float]:
    """Score each candidate in a row that repeats the prompt, with as many tokens in a batch as otherwise."""
    rows, longest = [np.concatenate([prompt, ids]) for ids in answers], max(map(len, answers))
    size = max(1, run.config.inference.batch_tokens // (len(prompt) + longest))
    totals: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            inputs = pad_left(rows[start : start + size], run.prompt.pad_id, model.device)
            options = {"use_cache": False, "logits_to_keep": longest + 1}
            logits = model(**inputs, position_ids=positions(inputs["attention_mask"]), **options).logits
            targets = inputs["input_ids"][:, -longest:]
            losses = cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none").double()
            lengths = torch.tensor([len(ids) for ids in answers[start : start + size]], device=losses.device)
            is_answer = torch.arange(longest, device=losses.device) >= longest - lengths[:, None]
            totals += [-float(total) for total in (losses * is_answer).sum(-1)]
    return totals
