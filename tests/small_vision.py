"""Real runs of models that see pictures which are over in seconds: tasks of tiny grids, a few steps."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from quick_compose import compose
from task_files import write
from toy_vision import vision_model

from arc_experiments.run import Run

OPTIONS = [
    "model=custom_vision", "data=files", "data.partition=official", "prompt=picture_compact",
    "tracking=off", "hardware=cpu", "hardware.threads=1", "prompt.max_length=1200", "model.dtype=float32",
    "model.lora.rank=4", "inference=one_view", "inference.max_new_tokens=6", "optim.max_steps=5",
    "optim.batch_size=2", "optim.save_steps=3", "optim.learning_rate=1e-2", "optim.warmup=0",
]  # fmt: skip


def make_tasks(folder: Path, num_tasks: int = 4) -> Path:
    """Tasks to train on and as many held out, in grids of one to three rows and columns."""
    rng = np.random.default_rng(0)

    def pair() -> dict[str, Any]:
        cells = rng.integers(0, 10, rng.integers(1, 4, 2))
        return {"input": cells.tolist(), "output": cells.T.tolist()}

    for split in ("training", "evaluation"):
        for number in range(num_tasks):
            task = {"train": [pair() for _ in range(1 + number % 3)], "test": [pair()]}
            write(folder, f"{split}/{split[0]}{number}.json", task)
    return folder


def options(family: str, tasks: Path, *more: str) -> list[str]:
    return [*OPTIONS, f"model.path={vision_model(family)}", f"data.path={tasks}", *more]


def vision_run(family: str, tasks: Path, folder: Path, *more: str) -> Run:
    torch.set_num_threads(1)
    return compose(options(family, tasks, *more), folder)
