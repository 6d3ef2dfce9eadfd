"""The one table of what sets the jobs apart: code that treats some jobs differently asks `job_kind`.

A job is a module `arc_experiments.jobs.<name>` with a `main`, and a file `conf/job/<name>.yaml`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """The properties of a job that other rooms must know."""

    trains: bool = False
    """Trains one set of weights over `optim.max_steps`, so it can be chained, halved and extended."""
    shares_folder: bool = False
    """Several workers may work in its folder at once, each on tasks of its own; they come and go."""
    starts_alone: bool = False
    """Starts as one process, whatever `hardware.num_processes` says; it may spawn others itself."""
    assigns_gpus: bool = True
    """The worker restricts CUDA to this process's GPUs; otherwise the processes that the job spawns do so."""
    needs_answers: bool = False
    """Has nothing to do if no validation task is to be answered (`inference.limit=0`)."""
    scores_submission: bool = False
    """Can score a file (`submission`) instead of a model."""
    hashed: tuple[str, ...] = ()
    """Config sections that make another run of this job, though they do not for other jobs."""


JOBS = {
    "finetune": JobKind(trains=True),
    "evaluate": JobKind(scores_submission=True),
    "adapt": JobKind(shares_folder=True, starts_alone=True, needs_answers=True, hashed=("adapt",)),
    "inspect": JobKind(starts_alone=True),
    "audit": JobKind(starts_alone=True, hashed=("audit",)),
    "benchmark": JobKind(starts_alone=True, assigns_gpus=False, hashed=("hardware", "benchmark")),
}


def job_kind(name: str) -> JobKind:
    """The kind of job behind `config.job.name`.

    Raises:
        ValueError: there is no such job.
    """
    if name not in JOBS:
        raise ValueError(f"job.name={name} is not one of: {', '.join(sorted(JOBS))}")
    return JOBS[name]
