"""The checks of `adapt` (job=adapt): modes that need a number, and what test-time fine-tuning has no use for."""

from collections.abc import Iterator

from arc_experiments.config.rules.exclusions import excluded
from arc_experiments.config.schema import Adapt, Config

MOST_LEFT_OUT = 3  # of ten demonstrations that makes 120 tasks
# Optimizers that treat each number by itself: what adamw_8bit and adafactor do to one depends on its neighbours.
BY_NUMBER = ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop", "sgd")


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
    if adapt.together > 1:
        yield from _check_together(config)


def _check_unread(config: Config) -> Iterator[str]:
    """What goes with a training on a partition, or with a single one, alone."""
    optim = config.optim
    unread = {
        f"optim.stop_after={optim.stop_after}": (
            optim.stop_after is not None,
            "every task gets optim.max_steps, or as many as adapt.seconds_per_task allows. Take null",
        ),
        f"optim.epochs={optim.epochs}": (
            optim.epochs is not None,
            "it counts the training tasks, and each task that is adapted to has others. Take optim.max_steps",
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


def _check_together(config: Config) -> Iterator[str]:
    """What several adapters cannot be trained with at once; of a saved adapter that is seen when it is loaded."""
    adapt, optim, lora = config.adapt, config.optim, config.model.lora
    is_new = config.model.adapter is None
    alone = "or adapt.together=1"
    others = {
        f"adapt.mode={adapt.mode}": (
            adapt.mode != "per_task",
            f"its adapters have several tasks each. Take per_task, {alone}",
        ),
        f"optim.name={optim.name}": (
            optim.name not in BY_NUMBER,
            f"tasks would act on each other. Take {', '.join(BY_NUMBER)}, {alone}",
        ),
        f"optim.load_state={optim.load_state}": (
            optim.load_state is not None,
            f"those moments are one adapter's. Take null, {alone}",
        ),
        "hardware.per_device_batch_size=auto": (
            config.hardware.per_device_batch_size == "auto",
            f"it finds what fits of one task. Name a number, of each task's rows, {alone}",
        ),
        f"optim.neftune_alpha={optim.neftune_alpha}": (
            optim.neftune_alpha is not None,
            f"its noise hangs on the length of the longest row. Take null, {alone}",
        ),
        "model.lora=null": (is_new and lora is None, f"there are no adapters. Take a LoRA, {alone}"),
    }
    if is_new and lora is not None:
        others["model.lora.dora=true"] = (lora.dora, f"it trains more than matrices. Take false, {alone}")
        others[f"model.lora.modules_to_save={lora.modules_to_save}"] = (
            bool(lora.modules_to_save),
            f"those modules would be trained for all tasks in one. Take [], {alone}",
        )
    yield from excluded(f"adapt.together={adapt.together}", others)
