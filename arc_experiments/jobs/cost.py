"""What the answers behind a score have cost: the `cost` part of metrics.json.

    {"device": "cpu, 2 threads", "num_processes": 1, "device_seconds": 81.5, "device_seconds_per_task": 0.82,
     "prompt_tokens": 912000, "generated_tokens": 61000, "compared_tokens": 0, "peak_memory_bytes": 913000000}

Seconds are those at work on pieces that were finished, of all attempts and all processes (of a model that is split over
GPUs: of all its GPUs). What a kill has cut off is not in them. The peak is that of the process that had the most.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from arc_experiments.generation.predict import Request
from arc_experiments.generation.resuming import Spent
from arc_experiments.run import Run
from arc_experiments.runs.environment import device_name
from arc_experiments.scoring.selection import Candidate, distinct_by_output


def cost(
    run: Run,
    spent: Spent,
    requests: Iterable[Request],
    *answers: Sequence[Candidate],
    num_processes: int,
    **more: int,
) -> dict[str, Any]:
    """What it has cost to ask these questions and to compare the answers.

    Args:
        answers: each time that the tasks were answered.
        more: other counts of tokens.
    """
    num_gpus = torch.cuda.device_count() if run.config.hardware.parallelism == "split" else 1
    seconds = spent.seconds * max(1, num_gpus)
    compared = [ranked for candidates in answers for ranked in distinct_by_output(candidates)]
    return {
        "device": device_name(run.device),
        "num_processes": num_processes,
        "device_seconds": seconds,
        "device_seconds_per_task": seconds / len(run.predicted_tasks()),
        "prompt_tokens": sum(len(request.ids) for request in requests if request.ids is not None),
        "generated_tokens": sum(one.num_tokens for candidates in answers for one in candidates),
        "compared_tokens": sum(one.num_tokens for ranked in compared for one in ranked.likelihoods),
        **more,
        "peak_memory_bytes": spent.peak_memory_bytes,
    }
