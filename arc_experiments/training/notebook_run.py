"""A training that a notebook starts: its run folder shows how far it is, as that of a command does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import FAILED, PAUSED


class ByHand(TrainerCallback):
    """Holds the run folder during a training and keeps its status; a finished run's stays as it is.

    The training leaves the run `paused`: it has no answers yet, and the command would resume it to get them.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._is_shown = folder, False

    @contextmanager
    def training(self) -> Iterator[None]:
        """Surround the training.

        Raises:
            FolderTaken: another process is working on the folder.
        """
        if self._folder.is_done:
            yield
            return
        with self._folder.worked_on():
            self._is_shown = True
            try:
                yield
            except KeyboardInterrupt:
                self._folder.end(PAUSED)
                raise
            except Exception as error:
                self._folder.end(FAILED, f"{type(error).__name__}: {error}")
                raise
            finally:
                self._is_shown = False
            self._folder.end(PAUSED)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            print(f"Resuming from step {state.global_step}: {self._folder}")  # noqa: T201 (for a notebook)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._is_shown and logs is not None and "loss" in logs:
            self._folder.update_status(step=state.global_step, max_steps=state.max_steps, loss=logs["loss"])
