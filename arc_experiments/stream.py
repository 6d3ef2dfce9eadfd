"""The stream: sample i is a function of (seed, i), and of nothing else.

    stream[i] = encode(fit(augment(task number i of an endless shuffle)))

So the order of samples does not depend on workers or ranks, resuming is an integer, and nothing is held in
memory. Each pass over the tasks is a fresh permutation: every task comes once before any comes twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_experiments.augmentation import Transform, augment
from arc_experiments.prompts import Encoded, Kind, Prompt
from arc_experiments.rngs import rng_for
from arc_experiments.tasks import Task, TrainingSource

MAX_REDRAWS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What the model sees of one task, and what it took to make it fit."""

    task: Task
    test_index: int
    kind: Kind
    encoded: Encoded
    num_dropped: int  # demonstrations dropped to fit
    num_redrawn: int  # tasks drawn before this one that did not fit


class SampleStream:
    """Endless samples by number.

    Args:
        source: where tasks come from.
        task_ids: those of its tasks that train.
        transforms: augmentations in their order.
    """

    def __init__(
        self,
        *,
        source: TrainingSource,
        task_ids: Sequence[str],
        transforms: Sequence[Transform],
        prompt: Prompt,
        seed: int,
    ) -> None:
        position = {task_id: number for number, task_id in enumerate(source.ids)}
        self._numbers = np.array([position[task_id] for task_id in task_ids])
        self._source, self._transforms, self._prompt, self._seed = source, tuple(transforms), prompt, seed
        self._pass: tuple[int, np.ndarray] | None = None

    def __getitem__(self, index: int) -> Sample:
        """Raises ValueError where no task fits into the prompt's max_length."""
        rng = rng_for("stream", self._seed, index)
        number = self._number_at(index)
        for num_redrawn in range(MAX_REDRAWS):
            task = augment(self._source.draw(number, rng), self._transforms, rng)
            fitted = self._prompt.sample(task, rng)
            if fitted is not None:
                return Sample(
                    task=fitted.task,
                    test_index=fitted.test_index,
                    kind=fitted.kind,
                    encoded=fitted.encoded,
                    num_dropped=fitted.num_dropped,
                    num_redrawn=num_redrawn,
                )
            number = int(rng.choice(self._numbers))
        raise ValueError(
            f"prompt.max_length={self._prompt.max_length} is too short: of {MAX_REDRAWS} tasks drawn for "
            f"sample {index} none fits, even with one demonstration (with all of them if prompt.fit=redraw)"
        )

    def _number_at(self, index: int) -> int:
        passes, place = divmod(index, len(self._numbers))
        if self._pass is None or self._pass[0] != passes:
            order = rng_for("order", self._seed, passes).permutation(self._numbers)
            self._pass = (passes, order)
        return int(self._pass[1][place])
