"""The checks of the `halving` section."""

from collections.abc import Iterator

from arc_experiments.config.schema import Config, Halving, Optim


def rung_steps(halving: Halving, optim: Optim) -> list[int]:
    """The steps of `halving.rungs`; those below 1 are shares of `optim.max_steps`, rounded to `optim.log_steps`."""
    shares = [rung * optim.max_steps / optim.log_steps for rung in halving.rungs]
    return [
        int(rung) if rung >= 1 else round(share) * optim.log_steps
        for rung, share in zip(halving.rungs, shares, strict=True)
    ]


def answer_limit(config: Config) -> int | None:
    """How many validation tasks a run is to answer; None: all of them.

    A submission file is scored over all tasks, whatever `inference.limit` says, so that the denominator stays the same.
    At a rung that the validation loss decides nothing is answered.
    """
    by = config.halving.metric, config.optim.best_by
    if config.optim.stop_after in rung_steps(config.halving, config.optim) and "pass_at_2" not in by:
        return 0
    return config.inference.limit if config.submission is None else None


def check_halving(config: Config, *, can_score: bool) -> Iterator[str]:
    """A line for each mistake.

    Args:
        can_score: whether there are tasks to be answered.
    """
    optim, asked = config.optim, f"halving.rungs={config.halving.rungs}"
    rungs = rung_steps(config.halving, optim)
    if not rungs:
        return
    if rungs != sorted(set(rungs)) or rungs[0] < 1 or rungs[-1] >= optim.max_steps:
        yield (
            f"{asked} must be steps that grow, from 1 to below optim.max_steps={optim.max_steps} "
            "(to which the last ones are trained), or shares of it"
        )
    for steps in rungs:
        if steps % optim.log_steps:
            yield f"{asked}: {steps} is not a multiple of optim.log_steps={optim.log_steps}"
    if optim.stop_after not in (None, *rungs):
        yield f"optim.stop_after={optim.stop_after} is set by {asked}: leave it out"
    if config.job.name != "finetune":
        yield f"{asked} needs job=finetune, not job={config.job.name}"
    if optim.epochs is not None:
        yield f"{asked} needs optim.max_steps: how many steps optim.epochs={optim.epochs:g} are is known too late"
    if config.launch.name != "local":
        yield f"{asked} needs launch=local: what follows on a rung is decided by the command, which must stay"
    if config.halving.metric == "pass_at_2" and not can_score:
        yield "halving.metric=pass_at_2 needs tasks to answer: inference.limit=null or above 0"
