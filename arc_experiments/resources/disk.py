"""What a run writes: checkpoints, weights, answers."""

from dataclasses import dataclass

from arc_experiments.config.schema import Config
from arc_experiments.resources.memory import optimizer_bytes

KEPT = 2  # checkpoints, and a third while it is written
SMALL_FILES = 10**5  # of a checkpoint: schedule, random numbers, log of the trainer
PAGE, PAGE_TASK = 4 * 10**5, 2 * 10**4  # page and small files of any run, and the more for each task


@dataclass(frozen=True, kw_only=True)
class DiskNeed:
    """Bytes that a run has on disk at the most.

    Attributes:
        checkpoints: how many at once, and the bytes of each.
        weights: what was trained, and the best of it.
        answers: with the page.
    """

    checkpoints: tuple[int, int]
    weights: int
    answers: int

    @property
    def total(self) -> int:
        number, size = self.checkpoints
        return number * size + self.weights + self.answers


def written(
    config: Config,
    *,
    num_parameters: int,
    num_trained: int,
    tokenizer_bytes: int,
    num_tasks: int,
    num_answers: int,
    answer_tokens: int,
    trains: bool,
) -> DiskNeed:
    """Return what a run writes.

    Args:
        num_parameters: of the whole model, which full fine-tuning saves.
        num_trained: of these, all or those of the adapter.
        tokenizer_bytes: of the tokenizer, which is in each checkpoint.
        num_tasks: that are answered.
        num_answers: candidates.
        answer_tokens: of a long answer.
    """
    answers = PAGE + num_tasks * PAGE_TASK + num_answers * (400 + 4 * answer_tokens)
    if not trains:
        return DiskNeed(checkpoints=(0, 0), weights=0, answers=answers)
    optim = config.optim
    is_adapter = config.model.lora is not None or config.model.adapter is not None
    weights = 4 * (num_trained if is_adapter else num_parameters)
    last = optim.stop_after or optim.max_steps
    number = min(KEPT + 1, last // optim.save_steps + (last % optim.save_steps > 0))
    size = weights + optimizer_bytes(optim.name, num_trained) + tokenizer_bytes + SMALL_FILES
    kept = weights * (1 + (optim.best_by != "none")) + tokenizer_bytes
    return DiskNeed(checkpoints=(number, size), weights=kept, answers=answers)
