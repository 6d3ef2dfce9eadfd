"""Answers in batches, as the evaluation makes them, against one prompt at a time."""

import time
from collections.abc import Sequence
from typing import Any

from arc_experiments.benchmarking.measure import now, summary
from arc_experiments.generation.batching import plan_batches
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Limits
from arc_experiments.models.adapters import merge
from arc_experiments.prompts.tokens import Ids
from arc_experiments.run import Run


def measure(run: Run) -> dict[str, Any]:
    """New tokens a second, the reading of the prompts included.

    A round answers all prompts in batches, then every `rounds`-th of them one at a time.
    """
    benchmark = run.config.benchmark
    rounds, new_tokens = benchmark.rounds, benchmark.new_tokens
    asked = [request.ids for request in run.requests if request.ids is not None][: benchmark.prompts]
    if not asked:
        raise ValueError("inference.limit=0 leaves no prompt to answer: benchmark.parts without generation")
    model = merge(run.model(trainable=False).eval())
    lengths = [len(ids) for ids in asked]
    batches = plan_batches(lengths, extra=new_tokens, batch_tokens=run.config.inference.batch_tokens)
    with run.autocast():
        _tokens_per_second(run, model, [asked[:1]], new_tokens)  # the first call is slow
        batched, single = [], []
        end = time.perf_counter() + benchmark.max_seconds
        for place in range(min(rounds, len(asked))):
            grouped = [[asked[position] for position in batch] for batch in batches]
            batched.append(_tokens_per_second(run, model, grouped, new_tokens))
            alone = [[ids] for ids in asked[place::rounds]]
            single.append(_tokens_per_second(run, model, alone, new_tokens))
            if time.perf_counter() > end:
                break
    return {
        **summary("tokens_per_second", batched),
        **summary("one_at_a_time_tokens_per_second", single),
        **summary("speedup", [one / other for one, other in zip(batched, single, strict=True)]),
        "num_prompts": len(asked),
        "num_batches": len(batches),
        "new_tokens": new_tokens,
        "prompt_tokens": sum(lengths) / len(lengths),
        "rounds": len(batched),
    }


def _tokens_per_second(run: Run, model: Any, batches: Sequence[Sequence[Ids]], new_tokens: int) -> float:
    limits = Limits(max_new_tokens=new_tokens, stop_ids=run.prompt.stop_ids, pad_id=run.prompt.pad_id)
    start, tokens = now(run.device), 0
    for batch in batches:
        answers = Transformers().answer(model, batch, [("", 0, 0)] * len(batch), limits)
        tokens += sum(answer.num_tokens for (answer,) in answers)
    return tokens / (now(run.device) - start)
