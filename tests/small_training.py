"""Real trainings that are over in a second: the tiny model, four tasks, one sample a step."""

import functools
import math
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from quick_compose import compose
from toy_models import untrained

from arc_experiments.run import Run
from arc_experiments.training.trainer import StreamTrainer

SMALL = [
    *untrained(), "experiment=smoke", "optim.learning_rate=2e-3", "tracking=off", "data.limit=4",
    "prompt.max_length=500", "model.lora.rank=4",
    "optim.batch_size=1", "optim.max_steps=8", "optim.save_steps=4", "hardware.threads=1", "hardware=cpu",
]  # fmt: skip
SIX_TASKS = [
    *untrained(), "experiment=smoke", "optim.learning_rate=2e-3", "tracking=off", "data.limit=6",
    "prompt.max_length=600", "optim.max_steps=4",
]  # fmt: skip
SHARED = ("corpus", "tokenizer", "prompt")  # the same for all: made once


def small_run(folder: Path, *overrides: str) -> Run:
    torch.set_num_threads(1)
    by_epochs = any(text.startswith("optim.epochs=") for text in overrides)
    base = [text for text in SMALL if not (by_epochs and text.startswith("optim.max_steps="))]
    run = compose([*base, *overrides], folder)
    vars(run).update(_parts())
    return run


def run_on_six_tasks(folder: Path, *overrides: str) -> Run:
    return compose([*SIX_TASKS, *overrides], folder)


@functools.cache
def _parts() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = compose(SMALL, folder)
        return {name: getattr(run, name) for name in SHARED}


def trained(run: Run, callbacks: tuple = (), model: Any = None) -> StreamTrainer:
    """The trainer after its training."""
    trainer = run.trainer(run.model() if model is None else model, list(callbacks))
    trainer.resume_or_start()
    return trainer


def logged(trainer: StreamTrainer, name: str) -> list[float]:
    """A value of all logged steps, those before a resume as well."""
    return [entry[name] for entry in trainer.state.log_history if "loss" in entry]


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of what is trained."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def overflow(trainer: StreamTrainer, at: Collection[int]) -> list[dict[str, torch.Tensor]]:
    """Let gradients be infinite in the steps after these; gives the weights before each of them.

    They become so right after the backward pass: a scaler looks at them when they are clipped.
    """
    before: list[dict[str, torch.Tensor]] = []
    real = trainer.training_step

    def step(model: Any, *arguments: Any, **options: Any) -> Any:
        loss = real(model, *arguments, **options)
        if trainer.state.global_step in at:
            before.append(weights(model))
            next(p for p in model.parameters() if p.requires_grad).grad.fill_(math.inf)
        return loss

    trainer.training_step = step
    return before


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
