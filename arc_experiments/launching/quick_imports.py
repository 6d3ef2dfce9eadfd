"""Import a job's libraries in two thirds of the time that they take by themselves."""

import contextlib
import gc
import sys
from collections.abc import Iterator

from arc_experiments.config.schema import Config

USED_LATER = ("scipy", "wandb")  # by the tracker, and by comparisons of runs
USE_BITSANDBYTES = ("8bit", "bnb", "paged", "ademamix", "lion")  # parts of optimizers' names


@contextlib.contextmanager
def quick_imports(config: Config) -> Iterator[None]:
    """Import without collecting garbage, and without libraries that are installed but not used.

    PEFT imports bitsandbytes, and TRL wandb, wherever they find them: 1.6 of 7 s; transformers imports scipy
    for the losses of detectors: 0.3 more. They take them for missing here: bitsandbytes for as long as this
    process lives, unless it is used; the others until all is imported.
    Garbage takes another second to look for, among 5,000 modules that come to stay.
    """
    hide_bitsandbytes(config)
    for name in USED_LATER:
        _hide(name)
    gc.disable()
    try:
        yield
    finally:
        for name in USED_LATER:
            if name in sys.modules and sys.modules[name] is None:
                del sys.modules[name]
        gc.freeze()  # nothing of what was imported is looked at again; before enabling, or it is at once
        gc.enable()


def hide_bitsandbytes(config: Config) -> None:
    """Make bitsandbytes look missing for as long as this process lives, unless the run uses it."""
    if not uses_bitsandbytes(config):
        _hide("bitsandbytes")


def uses_bitsandbytes(config: Config) -> bool:
    """Whether the model or the optimizer's state is quantised by bitsandbytes."""
    optimizer = config.optim.name
    by_optimizer = not optimizer.startswith("adamw_torch") and any(
        part in optimizer for part in USE_BITSANDBYTES
    )
    return config.model.quantisation != "none" or by_optimizer


def _hide(name: str) -> None:
    """Make a library that is not imported yet look missing: Python's import system reads None as that."""
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]
