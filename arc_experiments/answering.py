"""What an evaluation asks of the model beside its answers: how probable each is, and what comes without constraint.

Either takes the run, the model as it is to be asked, and a folder for what is kept if this is killed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arc_experiments.selection import Candidate
from arc_experiments.tasks import TaskSet

if TYPE_CHECKING:
    from arc_experiments.run import Run

NUM_UNCONSTRAINED = 32  # requests that are asked without `inference.constrain` as well


def with_likelihoods(
    run: "Run",
    model: Any,
    candidates: Sequence[Candidate],
    partial: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    tasks: TaskSet | None = None,
) -> list[Candidate]:
    """The candidates, each with its likelihoods under `inference.scoring_views` views.

    Args:
        tasks: those of the candidates, if not the run's own.
    """
    from arc_experiments import generation

    inference = run.config.inference
    if inference.scoring_views == 0:
        return list(candidates)
    with run.autocast():
        return generation.with_likelihoods(
            model,
            run.prompt,
            run.predicted_tasks() if tasks is None else tasks,
            candidates,
            num_views=inference.scoring_views,
            seed=run.config.seeds.inference,
            batch_tokens=inference.batch_tokens,
            partial=partial,
            processes=run.processes,
            on_progress=on_progress,
        )


def unconstrained_valid(run: "Run", model: Any, partial: Path) -> float | None:
    """The share of valid answers without `inference.constrain`, on a sample of the requests.

    None where nothing is constrained, or nothing can be asked.
    """
    asked = [request for request in run.requests if request.ids is not None]
    if run.config.inference.constrain == "none" or not asked:
        return None
    places = np.linspace(0, len(asked) - 1, min(len(asked), NUM_UNCONSTRAINED)).round().astype(int)
    candidates = run.ask(
        model,
        partial,
        lambda done, total: None,
        [asked[place] for place in places],
        run.unconstrained_engine,
    )
    return sum(candidate.grid is not None for candidate in candidates) / len(candidates)
