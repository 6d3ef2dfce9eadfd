"""Small models that have learnt programs or grids of a few drawings by heart, and evaluations of them."""

import atexit
import functools
import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from quick_compose import compose
from rich.console import Console
from toy_models import make_base

from arc_experiments.jobs import evaluate
from arc_experiments.run import Run
from arc_experiments.tasks import TaskSet

KNOWN = 3  # of the four drawings, the model knows the first three
DRAWINGS = [
    "data=draw", "data.source.draws=[1,2]", "data.source.side=[3,4]",
    "data.validation_source.num_draws=[1,2]", "data.validation_source.num_tasks=2",
    "data.validation_source.num_demonstrations=[2,2]",
]  # fmt: skip
SETTINGS = [
    "prompt=program_compact", "model.name=by_heart", "prompt.max_length=400",
    "augmentation=none", "tracking=off", "hardware=cpu", "hardware.threads=1",
    "inference=one_view", "inference.max_new_tokens=40",
]  # fmt: skip
OPTIONS = [*DRAWINGS, *SETTINGS]


@functools.cache
def learnt_by_heart(*overrides: str, number: int = KNOWN) -> list[str]:
    """Train a model on the first `number` drawings, once; return the overrides that name it."""
    folder = Path(tempfile.mkdtemp(prefix="by_heart"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.set_num_threads(1)
    new = [f"model.path={make_base(folder / 'base')}", "model.weights=random", "model.lora=null"]
    steps = ["optim.max_steps=100", "optim.batch_size=4", "optim.learning_rate=3e-3", "optim.eval_steps=null"]
    run = compose([*OPTIONS, *new, *steps, *overrides], folder / "run")
    tasks = TaskSet([run.validation_tasks[place] for place in range(number)])
    model = run.model()
    run.trainer(model, [], stream=run.stream_of(tasks, seed=1)).resume_or_start()
    return [f"model.path={run.save_weights(model)}", "model.lora=null"]


def evaluated(folder: Path, *overrides: str, data: Sequence[str] = DRAWINGS) -> tuple[Run, str]:
    """Evaluate; return the run and what it printed."""
    run, printed = compose([*data, *SETTINGS, "job=evaluate", *overrides], folder), io.StringIO()
    evaluate.main(run, Console(file=printed, width=200))
    return run, printed.getvalue()
