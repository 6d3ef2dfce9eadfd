"""The checks of `adapt` (job=adapt): modes that need a number, and what test-time fine-tuning has no use for."""

from collections.abc import Iterator

from arc_experiments.checking.exclusions import excluded
from arc_experiments.config import Adapt, Config

MOST_LEFT_OUT = 3  # of ten demonstrations that makes 120 tasks


def check_adapt(config: Config) -> Iterator[str]:
    """A line for each mistake."""
    if config.job.name != "adapt":
        return
    adapt = config.adapt
    if (adapt.mode == "groups") != (adapt.groups is not None):
        yield f"adapt.mode=groups and adapt.groups=<how many> go together, got {adapt.mode} and {adapt.groups}"
    wrong = [count for count in adapt.leave_out if not 1 <= count <= MOST_LEFT_OUT]
    if not adapt.leave_out or wrong or len(set(adapt.leave_out)) < len(adapt.leave_out):
        yield f"adapt.leave_out={adapt.leave_out} must name different numbers of 1 to {MOST_LEFT_OUT}, such as [1, 2]"
    hours, reserve = adapt.deadline_hours, adapt.reserve_seconds
    if hours is not None and reserve >= 3600 * hours:
        yield (
            f"adapt.reserve_seconds={reserve:g} leaves nothing of adapt.deadline_hours={hours:g} ({3600 * hours:g} s): "
            "lower the one, or raise the other"
        )
    if hours is None and reserve != Adapt.reserve_seconds:
        yield f"adapt.reserve_seconds={reserve:g} is a part of adapt.deadline_hours, which is not set"
    if config.inference.limit == 0:
        yield "inference.limit=0 leaves job=adapt no task to adapt to: null, or above 0"
    yield from _check_unread(config)


def _check_unread(config: Config) -> Iterator[str]:
    """What goes with a training on a partition, or with a single one, alone."""
    optim = config.optim
    unread = {
        f"optim.stop_after={optim.stop_after}": (
            optim.stop_after is not None,
            "every task gets optim.max_steps, or as many as adapt.seconds_per_task allows. Take null",
        ),
        f"optim.best_by={optim.best_by}": (
            optim.best_by != "none",
            "the test outputs are not known where it trains. Take none",
        ),
        "data.stream=iterable": (
            config.data.stream == "iterable",
            "its streams begin and end with a task. Take indexed",
        ),
        "inference.engine=vllm": (
            config.inference.engine == "vllm",
            "weights that change with each task were not tried with it. Take transformers or threshold",
        ),
        "model.compile=true": (config.model.compile, "it would compile for each task anew. Take false"),
        "hardware.parallelism=fsdp": (
            config.hardware.parallelism == "fsdp",
            "each process adapts to tasks of its own, which takes a whole model. Take data",
        ),
    }
    yield from excluded("job=adapt", unread)
