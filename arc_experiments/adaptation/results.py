"""What came of each task group, as its file holds it, and what came of all of them together."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from arc_experiments.scoring.candidates import Candidate

COUNTS = ("steps", "samples", "tokens", "samples_shrunk", "samples_redrawn")


class Ending(StrEnum):
    """How an adaptation ended. Except for the first two, the model's answers are those before adaptation, or
    those of a search's whole rounds.
    """

    WHOLE = "whole"
    STOPPED = "stopped_by_time"  # it answered with the weights, or the rounds, that it had
    NOT_BEGUN = "not_begun_in_time"
    TOO_FEW = "too_few_demonstrations"
    TOO_LONG = "too_long"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    CUT_OFF = "cut_off_by_deadline"  # not begun, or not finished


@dataclass(frozen=True, kw_only=True)
class AdaptationCounts:
    """Counts of one training; `loss`: means of its first and its last logged steps, None without any."""

    steps: int
    samples: int
    tokens: int
    samples_shrunk: int
    samples_redrawn: int
    loss: tuple[float, float] | None

    @classmethod
    def total(cls, trainings: Iterable["AdaptationCounts | None"]) -> "AdaptationCounts | None":
        """Add up trainings that followed each other; None if there was none."""
        done = [one for one in trainings if one is not None]
        if not done:
            return None
        losses = [one.loss for one in done if one.loss is not None]
        sums = {name: sum(getattr(one, name) for one in done) for name in COUNTS}
        return cls(**sums, loss=(losses[0][0], losses[-1][1]) if losses else None)

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> "AdaptationCounts | None":
        if values is None:
            return None
        loss = values["loss"]
        return cls(**values | {"loss": None if loss is None else tuple(loss)})


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round of search and learn, and what all rounds up to it have found.

    Attributes:
        programs: that were written, in all tasks.
        solved: ids of the tasks of which a program solves all demonstrations.
        right_cells: the share of each task's cells that its best program has right, by the task's id.
        relabelled: tasks that it trained on before it wrote.
    """

    programs: int
    solved: tuple[str, ...]
    right_cells: dict[str, float]
    relabelled: int
    training: AdaptationCounts | None

    @classmethod
    def of(
        cls, written: Iterable[Candidate], *, relabelled: int, training: AdaptationCounts | None
    ) -> "Round":
        """Sum up all programs that were written so far."""
        programs = [one for one in written if one.program is not None and one.test_index == 0]
        solved = {one.task_id: None for one in programs if one.program is not None and one.program.verified}
        best: dict[str, float] = {}
        for one in programs:
            if one.program is not None:
                best[one.task_id] = max(best.get(one.task_id, 0.0), one.program.right_cells)
        return cls(
            programs=len(programs),
            solved=tuple(solved),
            right_cells=best,
            relabelled=relabelled,
            training=training,
        )

    def counts(self) -> dict[str, Any]:
        """Return what metrics.json and the terminal tell of it."""
        cells = list(self.right_cells.values())
        return {
            "programs": self.programs,
            "solved": len(self.solved),
            "right_cells": sum(cells) / max(1, len(cells)),
            "relabelled": self.relabelled,
            "steps": 0 if self.training is None else self.training.steps,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Round":
        training = AdaptationCounts.from_json(values["training"])
        return cls(**values | {"solved": tuple(values["solved"]), "training": training})


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """A task's answers before adaptation, and the seconds they took."""

    candidates: tuple[Candidate, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"candidates": [candidate.to_json() for candidate in self.candidates], "seconds": self.seconds}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Before":
        return cls(candidates=_candidates(values["candidates"]), seconds=values["seconds"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A finished task group.

    Attributes:
        outcome: of its training.
        unanswered: the tasks that the adapted model could not answer, and why: their answers are those
            before.
        training: None without one.
        candidates: the answers to the other tasks; None if the model answered no differently than before.
        seconds: by phase.
        worker: the process that did it, "<host>:<process id>", or that found it unfinished.
        rounds: of search and learn.
    """

    task_ids: tuple[str, ...]
    outcome: Ending
    unanswered: dict[str, Ending]
    training: AdaptationCounts | None
    candidates: tuple[Candidate, ...] | None
    seconds: dict[str, float]
    peak_memory_bytes: int
    worker: str
    rounds: tuple[Round, ...] = ()

    @classmethod
    def cut_off(cls, task_ids: tuple[str, ...]) -> "Adapted":
        """Return what there is of a group that the deadline left unfinished: nothing."""
        return cls(
            task_ids=task_ids,
            outcome=Ending.CUT_OFF,
            unanswered={},
            training=None,
            candidates=None,
            seconds={"training": 0.0, "inference": 0.0},
            peak_memory_bytes=0,
            worker=this_worker(),
        )

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "training": None if self.training is None else asdict(self.training),
            "candidates": None if self.candidates is None else [one.to_json() for one in self.candidates],
            "rounds": [asdict(one) for one in self.rounds],
        }

    def summary(self) -> str:
        """Return its line of `adaptation.jsonl`, without the line break: all but the answers."""
        return json.dumps({name: value for name, value in self.to_json().items() if name != "candidates"})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Adapted":
        candidates = values["candidates"]
        known = {
            "task_ids": tuple(values["task_ids"]),
            "outcome": Ending(values["outcome"]),
            "unanswered": {task_id: Ending(reason) for task_id, reason in values["unanswered"].items()},
            "training": AdaptationCounts.from_json(values["training"]),
            "rounds": tuple(map(Round.from_json, values.get("rounds", []))),
            "candidates": None if candidates is None else _candidates(candidates),
        }
        return cls(**values | known)


def _candidates(values: Iterable[Any]) -> tuple[Candidate, ...]:
    return tuple(map(Candidate.from_json, values))


def this_worker() -> str:
    """Return the name of this process among those that share the work."""
    return f"{platform.node()}:{os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is finished of all the work.

    Attributes:
        before: the answers before adaptation, in the order of the tasks.
        seconds: that these took.
        adapted: what came of each task group in the first pass.
        again: of those that were adapted to a second time.
    """

    before: list[Candidate]
    seconds: float
    adapted: list[Adapted]
    again: list[Adapted]

    @property
    def after_first(self) -> list[Candidate]:
        """The answers after the first pass: those of adapted models, else those before."""
        return merged(self.before, self.adapted)

    @property
    def candidates(self) -> list[Candidate]:
        """The answers of both passes together, else those before."""
        return merged(self.before, [*self.adapted, *self.again])


def merged(before: Sequence[Candidate], groups: Iterable[Adapted]) -> list[Candidate]:
    """Return the answers after adaptation where there are some, else before, in the order of those before."""
    by_task = _by_task(before)
    by_task |= _by_task(candidate for group in groups for candidate in group.candidates or ())
    return [candidate for candidates in by_task.values() for candidate in candidates]


def _by_task(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.task_id, []).append(candidate)
    return found


def totals(groups: Sequence[Adapted]) -> dict[str, Any]:
    """Return for metrics.json: tasks by outcome, and the sums and means of all trainings."""
    outcomes = Counter({outcome.value: 0 for outcome in Ending})
    for group in groups:
        outcomes.update(group.unanswered.get(task_id, group.outcome).value for task_id in group.task_ids)
    trainings = [group.training for group in groups if group.training is not None]
    sums: dict[str, Any] = {name: sum(getattr(one, name) for one in trainings) for name in COUNTS}
    losses = [one.loss for one in trainings if one.loss is not None]
    if losses:
        first, last = zip(*losses, strict=True)
        sums |= {"initial_loss": sum(first) / len(first), "final_loss": sum(last) / len(last)}
    return {"outcomes": dict(outcomes), **sums, **_rounds(groups)}


def _rounds(groups: Sequence[Adapted]) -> dict[str, Any]:
    """Return the rounds of all groups together: what each had written, solved and trained on at its end."""
    num_rounds = max((len(group.rounds) for group in groups), default=0)
    rounds = []
    for number in range(num_rounds):
        last = [group.rounds[min(number, len(group.rounds) - 1)] for group in groups if group.rounds]
        now = [group.rounds[number] for group in groups if number < len(group.rounds)]
        together = Round(
            programs=sum(one.programs for one in last),
            solved=tuple(task_id for one in last for task_id in one.solved),
            right_cells={task_id: share for one in last for task_id, share in one.right_cells.items()},
            relabelled=sum(one.relabelled for one in now),
            training=AdaptationCounts.total(one.training for one in now),
        )
        rounds.append(together.counts())
    return {"rounds": rounds} if rounds else {}
