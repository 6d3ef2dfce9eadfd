"""Adaptations that are over in a second: tasks of tiny grids, an untrained tiny model, a few steps."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quick_compose import compose
from rich.console import Console
from task_files import write
from toy_models import untrained

from arc_experiments.jobs import adapt
from arc_experiments.run import Run

OPTIONS = [
    *untrained(), "job=adapt", "data=files", "data.partition=official",
    "tracking=off", "hardware=cpu",
    "hardware.threads=1", "prompt.max_length=256", "augmentation=[geometry,order]", "inference=one_view",
    "inference.max_new_tokens=8", "model.lora.rank=4", "optim.max_steps=3", "optim.learning_rate=2e-3",
]  # fmt: skip
# What may differ between two runs of one composition: times and memory.
VARYING = ("seconds", "peak_memory_bytes", "cost")


METHODS = partial(adapt.make_method, console=Console(file=io.StringIO()))


def make_tasks(
    folder: Path, num_tasks: int, *, seed: int = 0, demonstrations: int = 3, test_outputs: int = 0
) -> Path:
    """A task to train on, and tasks to adapt to: rows of three cells become three cells of the task's colour.

    Args:
        test_outputs: seed of the outputs of the test pairs, which the job must not look at.
    """
    rng, own = np.random.default_rng(seed), np.random.default_rng(test_outputs)

    def pair(colour: int) -> dict[str, Any]:
        return {"input": [rng.integers(0, 10, 3).tolist()], "output": [[int(colour)] * 3]}

    def task(colour: int) -> dict[str, Any]:
        test = {**pair(colour), "output": [own.integers(0, 10, 3).tolist()]}
        return {"train": [pair(colour) for _ in range(demonstrations)], "test": [test]}

    write(folder, "training/t.json", task(1))
    for number in range(num_tasks):
        write(folder, f"evaluation/e{number}.json", task(int(rng.integers(10))))
    return folder


def make_kaggle(folder: Path, num_tasks: int, *, solved: bool = False) -> Path:
    """The same tasks as Kaggle's folder holds them, every second with two test inputs.

    Args:
        solved: as its evaluation set, with the solutions beside it; else as its test set.
    """
    name = "evaluation" if solved else "test"
    training = {"t": json.loads((make_tasks(folder / "apart", num_tasks) / "training/t.json").read_text())}
    challenges, solutions = {}, {}
    for number in range(num_tasks):
        task = json.loads((folder / f"apart/evaluation/e{number}.json").read_text())
        tests = task["test"] * (1 + number % 2)
        challenges[f"e{number}"] = {**task, "test": [{"input": pair["input"]} for pair in tests]}
        solutions[f"e{number}"] = [pair["output"] for pair in tests]
    write(folder, "kaggle/arc-agi_training_challenges.json", training)
    write(folder, f"kaggle/arc-agi_{name}_challenges.json", challenges)
    if solved:
        write(folder, f"kaggle/arc-agi_{name}_solutions.json", solutions)
    return folder / "kaggle"


def adapt_run(folder: Path, tasks: Path, *overrides: str) -> Run:
    torch.set_num_threads(1)
    return compose([*OPTIONS, f"data.path={tasks}", *overrides], folder)


def adapted(folder: Path, tasks: Path, *overrides: str) -> tuple[Run, str]:
    """The run after the job, and what it printed."""
    run, printed = adapt_run(folder, tasks, *overrides), io.StringIO()
    adapt.main(run, Console(file=printed, width=200))
    return run, printed.getvalue()


def lasting_metrics(run: Run) -> dict[str, Any]:
    metrics = run.folder.read_json("metrics.json")
    return {name: value for name, value in metrics.items() if name not in VARYING}


def predictions(run: Run, name: str = "predictions.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / name).read_text().splitlines()]


def outcomes(run: Run) -> dict[str, int]:
    """Tasks by what became of them, without those that nothing became of."""
    counts = run.folder.read_json("metrics.json")["adaptation"]["outcomes"]
    return {name: count for name, count in counts.items() if count}


def stop_training_at(run: Run, last_step: int) -> None:
    """Let the run's trainings be interrupted after this step, as by Ctrl-C."""
    trainer_of = run.trainer

    def stops(*arguments: Any, **options: Any) -> Any:
        trainer = trainer_of(*arguments, **options)
        real = trainer.training_step

        def step(*inputs: Any) -> Any:
            if trainer.state.global_step == last_step:
                raise KeyboardInterrupt
            return real(*inputs)

        trainer.training_step = step
        return trainer

    run.trainer = stops  # type: ignore[method-assign]
