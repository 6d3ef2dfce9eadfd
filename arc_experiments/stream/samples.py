"""The stream: sample i is a function of (seed, i), and of nothing else.

    stream[i]     = encode(fit(augment(task number i of an endless shuffle)))
    stream.row(i) = (stream[i],), or with `pack_length` the samples that fill row i

So the order of samples does not depend on workers or ranks, resuming is an integer, and nothing is held in
memory. Each pass over a source's tasks is a fresh permutation: every task comes once before any comes twice.
Of a mixture every thousand samples hold each source's share exactly, in shuffled order. Packed rows begin each at a
number of their own and leave out those after their last, so that row i needs no other row: there both hold on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from arc_experiments.augmentation import Step, Transform, augment
from arc_experiments.prompts import Encoded, Kind, Prompt
from arc_experiments.tasks import Row, Task, TrainingSource
from arc_experiments.tasks.rngs import rng_for

MAX_REDRAWS = 1000
MIXTURE_BLOCK = 1000  # samples over which the shares of a mixture are exact
MAX_PACKED = 256  # samples in a packed row at most
MAX_MISSES = 4  # samples in a row that were too long for what was left of a packed row: it is full


class NothingFits(ValueError):
    """No task fits into the prompt's max_length."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One source of the stream.

    Attributes:
        task_ids: those of the source's tasks that train.
        weight: its share of the samples, relative to the other parts' weights.
        transforms: augmentations in their order.
        prompt: how its tasks are written; None for the stream's prompt.
    """

    name: str
    source: TrainingSource
    task_ids: Sequence[str]
    transforms: Sequence[Transform]
    weight: float = 1.0
    prompt: Prompt | None = None

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Positions of its tasks in the source."""
        position = {task_id: number for number, task_id in enumerate(self.source.ids)}
        return np.array([position[task_id] for task_id in self.task_ids])


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What the model sees of one task, and what it took to make it fit."""

    task: Task
    part: int  # which of the stream's parts it comes from
    test_index: int
    kind: Kind
    encoded: Encoded
    num_dropped: int  # demonstrations dropped to fit
    num_redrawn: int  # tasks drawn before this one that did not fit
    num_pairs_redrawn: int  # pairs, of all tasks drawn, that a generator gave and that were no good
    steps: tuple[Step, ...]  # what augmentation did, in order

    @property
    def augmentation(self) -> tuple[str, ...]:
        """The names of the steps, such as ("rot90", "colours_0213456789", "swap")."""
        return tuple(step.name for step in self.steps)


class SampleStream:
    """Endless samples, and rows of samples, by number.

    Args:
        pack_length: rows of at most so many tokens are filled with several samples; None: one sample a row.

    Raises:
        ValueError: a part's share is below one in `MIXTURE_BLOCK`.
    """

    num_joined = 1  # see JoinedStreams

    def __init__(
        self, parts: Sequence[Part], prompt: Prompt, *, seed: int, pack_length: int | None = None
    ) -> None:
        self.parts, self.pack_length = tuple(parts), pack_length
        self._prompt, self._seed = prompt, seed
        self._counts = _shares([part.weight for part in self.parts])
        for part, count in zip(self.parts, self._counts, strict=True):
            if count == 0:
                raise ValueError(
                    f"data.weights.{part.name}={part.weight} is less than one sample in {MIXTURE_BLOCK}: "
                    "raise it, or leave the source out"
                )
        self._block: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        self._passes: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __getitem__(self, index: int) -> Sample:
        """Raises NothingFits where no task fits into the prompt's max_length."""
        rng = rng_for("stream", self._seed, index)
        number, visit = self._part_at(index)
        part = self.parts[number]
        prompt = part.prompt or self._prompt
        task_number = self._task_at(number, visit)
        num_pairs_redrawn = 0
        for num_redrawn in range(MAX_REDRAWS):
            drawn = part.source.draw(task_number, rng)
            num_pairs_redrawn += drawn.num_redrawn
            steps: tuple[Step, ...] = ()
            if isinstance(drawn, Row):  # nothing of it can be augmented or dropped
                fitted = prompt.fit_row(drawn)
            else:
                made = augment(drawn, part.transforms, rng)
                fitted, steps = prompt.sample(made.task, rng), made.steps
            if fitted is not None:
                return Sample(
                    task=fitted.task,
                    part=number,
                    test_index=fitted.test_index,
                    kind=fitted.kind,
                    encoded=fitted.encoded,
                    num_dropped=fitted.num_dropped,
                    num_redrawn=num_redrawn,
                    num_pairs_redrawn=num_pairs_redrawn,
                    steps=steps,
                )
            task_number = int(rng.choice(part.numbers))
        raise NothingFits(
            f"prompt.max_length={prompt.max_length} is too short: of {MAX_REDRAWS} tasks of {part.name} drawn for "
            f"sample {index} none fits, even with one demonstration (with all of them if prompt.fit=redraw; rows whole)"
        )

    def row(self, index: int) -> tuple[Sample, ...]:
        """The samples that the trainer sees as row `index`.

        A packed row draws on numbers of its own (`MAX_PACKED` a row). Samples that are too long for what is
        left of it are passed over, so the ends of rows hold short ones a little more often than long ones.
        """
        if self.pack_length is None:
            return (self[index],)
        packed: list[Sample] = []
        room, misses = self.pack_length, 0
        for number in range(index * MAX_PACKED, (index + 1) * MAX_PACKED):
            sample = self[number]
            if len(sample.encoded) <= room:
                packed.append(sample)
                room -= len(sample.encoded)
                misses = 0
            else:
                misses += 1
            if misses == MAX_MISSES or room < len(min(packed, key=lambda s: len(s.encoded)).encoded):
                break
        return tuple(packed)

    def _part_at(self, index: int) -> tuple[int, int]:
        """The part that sample `index` comes from, and how many of that part's come before it."""
        if len(self.parts) == 1:
            return 0, index
        block, place = divmod(index, MIXTURE_BLOCK)
        if self._block is None or self._block[0] != block:
            of_part = np.repeat(np.arange(len(self.parts)), self._counts)
            order = rng_for("mixture", self._seed, block).permutation(of_part)
            visits = np.zeros(MIXTURE_BLOCK, np.int64)
            for number, count in enumerate(self._counts):
                visits[order == number] = block * count + np.arange(count)
            self._block = (block, order, visits)
        return int(self._block[1][place]), int(self._block[2][place])

    def _task_at(self, number: int, visit: int) -> int:
        """The position in its source of the task that a part's visit draws."""
        part = self.parts[number]
        passes, place = divmod(visit, len(part.numbers))
        if number not in self._passes or self._passes[number][0] != passes:
            order = rng_for("order", self._seed, part.name, passes).permutation(part.numbers)
            self._passes[number] = (passes, order)
        return int(self._passes[number][1][place])


class JoinedStreams:
    """The rows of several streams in turn: row n is row n // k of stream n % k, of k that have the same parts' names."""

    def __init__(self, streams: Sequence[SampleStream]) -> None:
        self._streams = tuple(streams)
        self.num_joined = len(self._streams)
        self.parts, self.pack_length = streams[0].parts, streams[0].pack_length

    def row(self, index: int) -> tuple[Sample, ...]:
        """The samples that the trainer sees as row `index`."""
        turn, number = divmod(index, len(self._streams))
        return self._streams[number].row(turn)


def _shares(weights: Sequence[float]) -> list[int]:
    """Whole numbers of samples that add up to a block, by largest remainder."""
    exact = [weight / sum(weights) * MIXTURE_BLOCK for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: MIXTURE_BLOCK - sum(counts)]:
        counts[number] += 1
    return counts
