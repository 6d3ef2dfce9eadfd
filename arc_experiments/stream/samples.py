"""The stream: sample i is a function of (seed, i) and of nothing else.

    stream[i]     = encode(fit(augment(task number i of an endless shuffle)))
    stream.row(i) = (stream[i],), or with `pack_length` the samples that fill row i

The order of samples therefore does not depend on workers or ranks, resuming takes one integer, and nothing is
kept in memory. Each pass over a source's tasks is a fresh permutation: every task occurs once before any
occurs twice. In a mixture, every thousand samples contain each source's exact share in shuffled order. Each
packed row draws on its own range of samples and drops the rest, so that row i needs no other row; there, both
hold on average.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from arc_experiments.augmentation import Step, Transform, augment
from arc_experiments.prompts import Encoded, Kind, Prompt
from arc_experiments.prompts.kinds import PROGRAM_KINDS
from arc_experiments.tasks import Row, Task, TrainingSource
from arc_experiments.tasks.rngs import rng_for

MAX_REDRAWS = 1000
MIXTURE_BLOCK = 1000  # samples over which the shares of a mixture are exact
MAX_PACKED = 256  # the most samples that share a packed row
MAX_MISSES = 4  # a packed row is full after as many samples in succession that are too long for it


class NothingFits(ValueError):
    """Raised if no task fits into the prompt's max_length."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamPart:
    """One source of the stream.

    Attributes:
        task_ids: the source's tasks that train.
        weight: its share of the samples, relative to the other parts' weights.
        transforms: augmentations in order.
        prompt: writes its tasks; None for the stream's prompt.
        in_order: every pass draws the tasks in their given order, not in a fresh permutation.
    """

    name: str
    source: TrainingSource
    task_ids: Sequence[str]
    transforms: Sequence[Transform]
    weight: float = 1.0
    prompt: Prompt | None = None
    in_order: bool = False

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Return the positions of its tasks in the source, shape (tasks,)."""
        position = {task_id: number for number, task_id in enumerate(self.source.ids)}
        return np.array([position[task_id] for task_id in self.task_ids])


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What the model sees of one task, and what was done to make it fit."""

    task: Task
    part: int  # the index of its part in the stream
    test_index: int
    kind: Kind
    encoded: Encoded
    num_dropped: int  # demonstrations dropped to fit
    num_redrawn: int  # tasks drawn before this one that did not fit
    refused_pairs: Counter[str]  # generated pairs that were refused, over all tasks drawn, by reason
    steps: tuple[Step, ...]  # the augmentation's, in order
    num_left_out: int = 0  # of these steps, for they could not be carried into the program
    num_skipped: int = 0  # positions between prompt and answer that no token has

    @property
    def augmentation(self) -> tuple[str, ...]:
        """Return the names of the steps, such as ("rot90", "colours_0213456789", "swap")."""
        return tuple(step.name for step in self.steps)


class SampleStream:
    """Endless samples and rows of samples, by number.

    Args:
        pack_length: fills rows with several samples up to this many tokens; None puts one sample into a row.
        answer_gap: the most positions that are skipped before an answer, see `docs/configuration.md`.

    Raises:
        ValueError: a part's share is less than one sample in `MIXTURE_BLOCK`.
    """

    num_joined = 1  # see JoinedStreams

    def __init__(
        self,
        parts: Sequence[StreamPart],
        prompt: Prompt,
        *,
        seed: int,
        pack_length: int | None = None,
        answer_gap: int = 0,
    ) -> None:
        self.parts, self.pack_length = tuple(parts), pack_length
        self._prompt, self._seed, self._answer_gap = prompt, seed, answer_gap
        self._counts = _shares([part.weight for part in self.parts])
        for part, count in zip(self.parts, self._counts, strict=True):
            if count == 0:
                raise ValueError(
                    f"data.weights.{part.name}={part.weight} is less than one sample in {MIXTURE_BLOCK}: "
                    "raise it, or remove the source"
                )
        self._block: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        self._passes: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __getitem__(self, index: int) -> Sample:
        """Make sample `index`; raise NothingFits if no task fits into the prompt's max_length."""
        rng = rng_for("stream", self._seed, index)
        number, visit = self._part_at(index)
        part = self.parts[number]
        prompt = part.prompt or self._prompt
        task_number = self._task_at(number, visit)
        refused_pairs: Counter[str] = Counter()
        too_long: list[tuple[Task, Kind | None]] = []
        for num_redrawn in range(MAX_REDRAWS):
            drawn = part.source.draw(task_number, rng)
            refused_pairs.update(drawn.refused)
            steps: tuple[Step, ...] = ()
            num_left_out, task, kind = 0, drawn, None
            if isinstance(drawn, Row):  # neither augmented nor shortened
                fitted = prompt.fit_row(drawn)
            else:
                kind = prompt.draw_kind(drawn, rng) if prompt.trains_on_programs else None
                made = augment(drawn, part.transforms, rng, keeps_program=kind in PROGRAM_KINDS)
                fitted, task, steps = prompt.sample(made.task, rng, kind), made.task, made.steps
                num_left_out = made.num_left_out
            if fitted is not None:
                return Sample(
                    task=fitted.task,
                    part=number,
                    test_index=fitted.test_index,
                    kind=fitted.kind,
                    encoded=fitted.encoded,
                    num_dropped=fitted.num_dropped,
                    num_redrawn=num_redrawn,
                    refused_pairs=refused_pairs,
                    steps=steps,
                    num_left_out=num_left_out,
                    num_skipped=self._num_skipped(index),
                )
            too_long.append((task, kind))
            task_number = int(rng.choice(part.numbers))
        raise NothingFits(
            f"prompt.max_length={prompt.max_length} is too short: none of the {MAX_REDRAWS} tasks of "
            f"{part.name} drawn for sample {index} fits{_least(prompt, too_long)}"
        )

    def _num_skipped(self, index: int) -> int:
        if not self._answer_gap:
            return 0
        return int(rng_for("answer gap", self._seed, index).integers(self._answer_gap + 1))

    def row(self, index: int) -> tuple[Sample, ...]:
        """Return the samples that the trainer sees as row `index`.

        A packed row draws on its own range of `MAX_PACKED` samples. Samples too long for the remaining space
        are skipped, so short samples are slightly more frequent at the ends of rows.
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
        """Return the part of sample `index`, and how many samples of that part precede it."""
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
        """Return the position in its source of the task that a part's visit draws."""
        part = self.parts[number]
        passes, place = divmod(visit, len(part.numbers))
        if part.in_order:
            return int(part.numbers[place])
        if number not in self._passes or self._passes[number][0] != passes:
            order = rng_for("order", self._seed, part.name, passes).permutation(part.numbers)
            self._passes[number] = (passes, order)
        return int(self._passes[number][1][place])


class JoinedStreams:
    """Interleave k streams whose parts have the same names: row n is row n // k of stream n % k."""

    def __init__(self, streams: Sequence[SampleStream]) -> None:
        self._streams = tuple(streams)
        self.num_joined = len(self._streams)
        self.parts, self.pack_length = streams[0].parts, streams[0].pack_length

    def row(self, index: int) -> tuple[Sample, ...]:
        """Return the samples that the trainer sees as row `index`."""
        turn, number = divmod(index, len(self._streams))
        return self._streams[number].row(turn)


def _least(prompt: Prompt, too_long: Sequence[tuple[Task, Kind | None]]) -> str:
    """Say which length the shortest of these tasks needs; "" if it is its pictures that have no room."""
    length, task = min(((prompt.least_length(*each), each[0]) for each in too_long), key=lambda each: each[0])
    if length <= prompt.max_length:
        return ""
    if isinstance(task, Row):
        shortened = "as rows are never shortened"
    elif prompt.redraws:
        shortened = "with all its demonstrations (prompt.fit=drop leaves out what does not fit)"
    else:
        shortened = "with one demonstration"
    return (
        f". The shortest needs {length} tokens {shortened}: set prompt.max_length={length} or more; what is "
        "still longer is not trained on"
    )


def _shares(weights: Sequence[float]) -> list[int]:
    """Share out a block's samples by largest remainder."""
    exact = [weight / sum(weights) * MIXTURE_BLOCK for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: MIXTURE_BLOCK - sum(counts)]:
        counts[number] += 1
    return counts
