"""Build a stream's parts from a composition, and convert epochs over them to optimizer steps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from arc_experiments.augmentation import Transform
from arc_experiments.config.plurals import of_all, plural
from arc_experiments.config.rules import check_steps
from arc_experiments.config.schema import Config, Launch, Optim, PromptOptions
from arc_experiments.corpus.corpus import Share
from arc_experiments.prompts import Prompt
from arc_experiments.stream.samples import StreamPart


def make_parts(
    shares: Sequence[Share],
    transforms: Mapping[str, Transform],
    make_prompt: Callable[[PromptOptions], Prompt],
) -> list[StreamPart]:
    """Make the parts of a stream: each source's training tasks with its own augmentations and prompt.

    Args:
        transforms: the composition's augmentations by name, in order.
        make_prompt: builds the prompt of a source that overrides the run's.
    """
    return [
        StreamPart(
            name=share.name,
            source=share.source,
            task_ids=share.task_ids,
            weight=share.weight,
            transforms=[
                transform
                for name, transform in transforms.items()
                if share.augmentation is None or name in share.augmentation
            ],
            prompt=None if share.prompt is None else make_prompt(share.prompt),
        )
        for share in shares
    ]


def check_programs(own: PromptOptions, shares: Sequence[Share]) -> None:
    """Raise ValueError if training tasks without a program can only be asked for one.

    Args:
        own: the run's prompt, which sources without their own use.
    """
    for share in shares:
        prompt, missing = share.prompt or own, share.languages[None] if _needs_programs(own, share) else 0
        if missing and not _asks_for_grids(prompt):
            raise ValueError(
                f"prompt={prompt.name} asks for programs alone, and {missing} of {len(share.task_ids)} "
                f"training tasks of {share.name} have none: choose other data (data=re_arc, data=draw), or "
                "train on grids, too (prompt.kinds.output_from_examples=1)"
            )
        known = share.languages.keys() - {None}
        if _needs_programs(own, share) and prompt.language not in (None, *known) and known:
            raise ValueError(
                f"prompt.language={prompt.language}, but the programs of {share.name} are in "
                f"{', '.join(sorted(filter(None, known)))}: leave it out"
            )


def program_notes(own: PromptOptions, shares: Sequence[Share]) -> Iterator[str]:
    """Yield a sentence for each source of which only some tasks can be asked for a program."""
    for share in shares:
        missing = share.languages[None] if _needs_programs(own, share) else 0
        if missing:
            yield (
                f"{of_all(missing, len(share.task_ids), 'training task')} of {share.name} without a program: "
                "trained on by grids alone"
            )


def _needs_programs(own: PromptOptions, share: Share) -> bool:
    return (share.prompt or own).kinds.need_programs


def _asks_for_grids(prompt: PromptOptions) -> bool:
    kinds = prompt.kinds
    return kinds.output_from_examples + kinds.input_from_inputs + kinds.output_from_outputs > 0


def with_steps_of_epochs(config: Config, shares: Sequence[Share]) -> Config:
    """Replace `optim.epochs` by the `optim.max_steps` in which every training task occurs as often.

    The jobs of a local chain that says nothing else share these steps equally.

    Raises:
        ValueError: the data has no end, or other keys of `optim` do not fit these steps.
    """
    epochs = config.optim.epochs
    if epochs is None:
        return config
    _check_finite(epochs, shares)
    num_tasks = sum(len(share.task_ids) for share in shares)
    max_steps = math.ceil(epochs * num_tasks / config.optim.batch_size)
    optim = replace(config.optim, max_steps=max_steps, epochs=None)
    mistakes = list(check_steps(optim))
    if mistakes:
        raise ValueError(
            f"optim.epochs={epochs:g} means {plural(max_steps, 'step')} here: " + "; ".join(mistakes)
        )
    return replace(config, optim=optim, launch=_with_equal_jobs(config.launch, optim))


def _with_equal_jobs(launch: Launch, optim: Optim) -> Launch:
    chain = launch.chain
    is_open = chain.steps_per_job is None and chain.seconds_per_job is None
    if launch.name != "local" or chain.total_jobs == 1 or not is_open:
        return launch
    num_logged = math.ceil(optim.max_steps / chain.total_jobs / optim.log_steps)
    return replace(launch, chain=replace(chain, steps_per_job=num_logged * optim.log_steps))


def _check_finite(epochs: float, shares: Sequence[Share]) -> None:
    """Raise ValueError for mixtures and for sources that generate their pairs."""
    endless = [
        share.name
        for share in shares
        if len(shares) > 1 or any(task_id not in share.source.fixed for task_id in share.task_ids)
    ]
    if endless:
        raise ValueError(
            f"optim.epochs={epochs:g}: {', '.join(endless)} has no end (pairs are generated, or sources are "
            "mixed by weight), so there is no epoch: set optim.max_steps"
        )
