"""Whole and torn checkpoints: the Trainer writes in place, so one counts only with its mark, written last."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MARK = "complete"


def mark_complete(checkpoint: Path) -> None:
    """Flush the checkpoint's files to disk, then write its mark."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    with (checkpoint / MARK).open("w") as opened:
        opened.write("every file of this checkpoint is whole\n")
        opened.flush()
        os.fsync(opened.fileno())


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step after which it was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def last_complete(folder: Path) -> Path | None:
    """Return the latest whole checkpoint in `folder`. Torn ones stay: another process may be writing them."""
    whole = (checkpoint for checkpoint in folder.glob("checkpoint-*") if (checkpoint / MARK).exists())
    return max(whole, key=step_of, default=None)


def remove_torn(folder: Path) -> None:
    """Remove what a killed process left of a checkpoint: the Trainer would count it."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / MARK).exists():
            shutil.rmtree(checkpoint)


class Checkpoints(TrainerCallback):
    """Adds files to each checkpoint, then marks it complete.

    Args:
        state_files: returns the files' contents by name, to be written as JSON.
        on_complete: called once the checkpoint is whole.
    """

    def __init__(
        self, state_files: Callable[[], dict[str, Any]], on_complete: Callable[[], None] | None
    ) -> None:
        self._state_files, self._on_complete = state_files, on_complete

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        PartialState().wait_for_everyone()  # each rank writes a part
        if not state.is_world_process_zero:
            return
        checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        for name, value in self._state_files().items():
            (checkpoint / name).write_text(json.dumps(value))
        mark_complete(checkpoint)
        if self._on_complete is not None:
            self._on_complete()
