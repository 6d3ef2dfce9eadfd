"""The checks of `launch`: chains, and what a cluster is asked for."""

from collections.abc import Iterator

from arc_experiments.config.schema import Config, Slurm

SHARED_JOBS = ("adapt",)  # several workers may be at one folder
SPREAD_JOBS = ("finetune", "evaluate")  # work on several nodes at once


def check_launch(config: Config) -> Iterator[str]:
    """A line for each mistake."""
    yield from _check_chain(config)
    if config.launch.name == "slurm":
        yield from _check_slurm(config, config.launch.slurm or Slurm())
        if config.launch.retries or config.launch.fail_fast:
            yield "launch.retries and launch.fail_fast are for launch=local: launch.chain.total_jobs goes on after a death"
    elif config.launch.slurm is not None or config.launch.dry_run:
        yield "launch.slurm and launch.dry_run are for a cluster: launch=slurm"


def _check_chain(config: Config) -> Iterator[str]:
    chain, optim = config.launch.chain, config.optim
    clocked = chain.seconds_per_job is not None or config.launch.name == "slurm"
    if chain.total_jobs == 1 and (chain.steps_per_job or chain.seconds_per_job):
        yield "launch.chain.total_jobs=1 leaves nothing to go on with what launch.chain stops early: 2 or more"
    if chain.total_jobs > 1 and chain.steps_per_job is None and not clocked:
        yield f"launch.chain.total_jobs={chain.total_jobs} needs launch.chain.steps_per_job or launch.chain.seconds_per_job"
    if chain.seconds_per_job is not None and config.job.name != "finetune":
        yield f"launch.chain.seconds_per_job={chain.seconds_per_job:g} stops trainings alone: job=finetune"
    if chain.steps_per_job is None:
        return
    if config.job.name != "finetune":
        yield f"launch.chain.steps_per_job={chain.steps_per_job} counts training steps: job=finetune"
    elif chain.steps_per_job % optim.log_steps:
        yield (
            f"launch.chain.steps_per_job={chain.steps_per_job} must be a multiple of optim.log_steps={optim.log_steps}: "
            "a logged loss is the mean since the one before"
        )
    elif optim.epochs is None and chain.total_jobs * chain.steps_per_job < (
        optim.stop_after or optim.max_steps
    ):
        yield (
            f"launch.chain: {chain.total_jobs} jobs of {chain.steps_per_job} steps do not reach step "
            f"{optim.stop_after or optim.max_steps}"
        )


def _check_slurm(config: Config, slurm: Slurm) -> Iterator[str]:
    processes = config.hardware.num_processes
    if (
        config.hardware.device == "cuda"
        and not slurm.gpus_per_node
        and not any("gpu" in d for d in slurm.directives)
    ):
        yield "launch.slurm.gpus_per_node=0, and hardware.device=cuda needs one: launch.slurm.gpus_per_node=1"
    if (slurm.time or "").isdigit():
        yield (
            f"launch.slurm.time={slurm.time} would be minutes; a file's 24:00:00 without quotes is read as seconds: "
            'write "24:00:00"'
        )
    if slurm.nodes > 1 and config.job.name not in SPREAD_JOBS:
        yield f"launch.slurm.nodes={slurm.nodes} is for training and evaluation, not for job={config.job.name}"
    if slurm.nodes > 1 and (processes is None or processes % slurm.nodes):
        yield (
            f"launch.slurm.nodes={slurm.nodes} share out hardware.num_processes={processes} (those of all nodes): "
            "a multiple of the nodes"
        )
    if slurm.workers > 1 and config.job.name not in SHARED_JOBS:
        yield f"launch.slurm.workers={slurm.workers} share out the tasks of job=adapt alone"
    if slurm.workers > 1 and config.launch.chain.total_jobs > 1:
        yield f"launch.slurm.workers={slurm.workers} and launch.chain.total_jobs={config.launch.chain.total_jobs} exclude each other"
