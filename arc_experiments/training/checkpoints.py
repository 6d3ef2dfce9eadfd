"""Checkpoints that count: the Trainer writes in place, so one counts only with its mark, written last."""

import json
import os
import shutil
from pathlib import Path

from arc_experiments.runs.folder import write_whole

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
    """The optimizer step after which it was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def last_complete(folder: Path) -> Path | None:
    """The latest whole checkpoint below `folder`; torn ones stay: another process may be writing them."""
    whole = (checkpoint for checkpoint in folder.glob("checkpoint-*") if (checkpoint / MARK).exists())
    return max(whole, key=step_of, default=None)


def remove_torn(folder: Path) -> None:
    """Remove what a kill left of a checkpoint: the Trainer would count it as one."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / MARK).exists():
            shutil.rmtree(checkpoint)


def cut_log(log: Path, last_step: int) -> None:
    """Drop the log's lines after `last_step` (and a torn one): the resumed run writes them anew."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > last_step:
                break
        except json.JSONDecodeError:
            break
        kept.append(f"{line}\n")
    write_whole(log, "".join(kept))
