"""What sets the jobs apart, in one table. A job is a module `arc_experiments.jobs.<name>` and a `conf/job/<name>.yaml`.

Everything that must treat some jobs differently asks `job_kind(config.job.name)`; no other place lists names of jobs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """The properties of a job that other rooms must know."""

    trains: bool = False
    """Trains one set of weights on the training tasks over `optim.max_steps`: it can be chained, halved and extended."""
    shares_folder: bool = False
    """Several workers may work in its folder at once, each on tasks of its own; they come and go."""
    starts_alone: bool = False
    """Its worker starts as one process whatever `hardware.num_processes` says, and spawns others itself if it needs any."""
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
