"""The likelihood of several candidates behind one prompt: the prompt read once, against once a candidate."""

import time
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from arc_experiments.benchmarking.measure import now, summary
from arc_experiments.benchmarking.rows import rows_of_length
from arc_experiments.generation.engine import pad_left, positions
from arc_experiments.generation.rescoring import answer_ids, log_probabilities
from arc_experiments.models.adapters import merge
from arc_experiments.prompts.tokens import Ids
from arc_experiments.run import Run
from arc_experiments.tasks import Pair
from arc_experiments.tasks.rngs import rng_for

NUM_PROMPTS = 4
SHAPE = (9, 10)  # of the candidates: 100 tokens, where a cell, a line break and the end are one each


def measure(run: Run) -> dict[str, Any]:
    """Candidates a second, alternately in both ways, and how far their log-probabilities are apart."""
    benchmark = run.config.benchmark
    model = merge(run.model(trainable=False).eval())
    rows = rows_of_length(run, benchmark.prompt_tokens, NUM_PROMPTS, packing=False)
    prompts = [rows[place].encoded.input_ids for place in range(NUM_PROMPTS)]
    answers = [
        [_candidate(run, place, n) for n in range(benchmark.candidates)] for place in range(NUM_PROMPTS)
    ]
    batch_tokens = run.config.inference.batch_tokens
    shared, plain = [], []
    with run.autocast():
        _plain(model, prompts[0], answers[0][:1], run.prompt.pad_id, batch_tokens)  # the first call is slow
        end = time.perf_counter() + benchmark.max_seconds
        for _ in range(benchmark.rounds):
            start = now(run.device)
            together = [
                log_probabilities(
                    model, [ids], [group], pad_id=run.prompt.pad_id, budget=run.predictor.budget
                )[0]
                for ids, group in zip(prompts, answers, strict=True)
            ]
            middle = now(run.device)
            apart = [
                _plain(model, ids, group, run.prompt.pad_id, batch_tokens)
                for ids, group in zip(prompts, answers, strict=True)
            ]
            number = NUM_PROMPTS * benchmark.candidates
            shared.append(number / (middle - start))
            plain.append(number / (now(run.device) - middle))
            if time.perf_counter() > end:
                break
    return {
        **summary("candidates_per_second", shared),
        **summary("plain_candidates_per_second", plain),
        **summary("speedup", [one / other for one, other in zip(shared, plain, strict=True)]),
        "largest_difference": float(np.abs(np.subtract(together, apart)).max()),
        "candidates": benchmark.candidates,
        "candidate_tokens": len(answers[0][0]),
        "prompt_tokens": benchmark.prompt_tokens,
        "rounds": len(shared),
    }


def _candidate(run: Run, *place: int) -> Ids:
    rng = rng_for("benchmark", run.config.seeds.inference, *place)
    grid = rng.integers(0, 10, SHAPE, dtype=np.uint8)
    return answer_ids(run.prompt, Pair(input=grid, output=grid))


def _plain(model: Any, prompt: Ids, answers: list[Ids], pad_id: int, batch_tokens: int) -> list[float]:
    """Each candidate with its prompt in a row of its own, in batches of the same size as otherwise."""
    rows, longest = [np.concatenate([prompt, ids]) for ids in answers], max(map(len, answers))
    size = max(1, batch_tokens // (len(prompt) + longest))
    totals: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            inputs = pad_left(rows[start : start + size], pad_id, model.device)
            logits = model(
                **inputs,
                position_ids=positions(inputs["attention_mask"]),
                use_cache=False,
                logits_to_keep=longest + 1,
            ).logits
            targets = inputs["input_ids"][:, -longest:]
            losses = cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none").double()
            lengths = torch.tensor([len(ids) for ids in answers[start : start + size]], device=losses.device)
            is_answer = torch.arange(longest, device=losses.device) >= longest - lengths[:, None]
            totals += [-float(total) for total in (losses * is_answer).sum(-1)]
    return totals
