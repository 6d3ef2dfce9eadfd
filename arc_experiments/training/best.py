"""The best validation so far: its step, whether to keep looking (patience), and its weights.

Weights lie in `checkpoints/best-<step>/`. Each checkpoint carries this state, and a best folder is removed
only when a whole checkpoint knows a better one: so a killed run resumes with the best that it had at its last
checkpoint.
"""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from accelerate.utils import broadcast_object_list
from transformers import Trainer

from arc_experiments.training.sharding import save_shards

SMALLER_IS_BETTER = {"validation_loss": True, "pass_at_2": False}


@dataclass
class BestState:
    """What a checkpoint stores.

    Attributes:
        last_step: of the last validation that was counted.
        num_since: validations since the best one.
    """

    value: float | None = None
    step: int | None = None
    last_step: int = 0
    num_since: int = 0


class Best:
    """Keeps track of the best validation.

    Args:
        by: the value that decides, by its name in train_log.jsonl.
        patience: give up after this many validations without a better one; None: never.
        min_delta: a better value differs by more than this.
        folder: where the best weights are kept.
    """

    def __init__(self, *, by: str, patience: int | None, min_delta: float, folder: Path) -> None:
        self.by = by
        self.state = BestState()
        self._patience, self._min_delta, self._folder = patience, min_delta, folder

    @property
    def path(self) -> Path:
        """The folder of the best weights."""
        return self._folder / f"best-{self.state.step}"

    @property
    def is_given_up(self) -> bool:
        """Whether the patience is used up."""
        return self._patience is not None and self.state.num_since >= self._patience

    def note(self, step: int, value: float) -> bool:
        """Take in a validation, each step's once; return whether it is the best."""
        state = self.state
        if step <= state.last_step:
            return False
        state.last_step = step
        gain = math.inf if state.value is None else state.value - value
        if state.value is not None and not SMALLER_IS_BETTER[self.by]:
            gain = -gain
        if math.isfinite(value) and gain > self._min_delta:
            state.value, state.step, state.num_since = value, step, 0
            return True
        state.num_since += 1
        return False

    def consider(self, step: int, values: dict[str, float], trainer: Trainer) -> None:
        """Take in a validation's values; save the weights if it is the best. All processes must call this."""
        [value] = broadcast_object_list([values[self.by]])  # the first rank's, bit for bit
        if not self.note(step, value):
            return
        unfinished = self._folder / ".best"
        if trainer.is_fsdp_enabled:
            save_shards(trainer, unfinished)
        else:
            trainer.save_model(str(unfinished))
        trainer.accelerator.wait_for_everyone()  # each rank may write a part
        if trainer.args.should_save:
            shutil.rmtree(self.path, ignore_errors=True)
            unfinished.rename(self.path)

    def take_back(self, trainer: Trainer) -> bool:
        """Load the best weights into the model; return False if they are its last ones, or none."""
        if self.state.step in (None, trainer.state.global_step):
            return False
        trainer._load_from_checkpoint(str(self.path))
        return True

    def remove_others(self) -> None:
        """Remove the weights of validations that are no longer the best."""
        for folder in self._folder.glob("best-*"):
            if folder != self.path:
                shutil.rmtree(folder)
