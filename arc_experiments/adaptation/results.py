"""What became of each unit, as its file holds it, and what became of all of them together."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from arc_experiments.scoring.selection import Candidate


class Outcome(StrEnum):
    """What became of an adaptation. But for the first two the model's answers are those before adaptation."""

    WHOLE = "whole"
    STOPPED = "stopped_by_time"  # during the training: it answered with the weights that it had
    NOT_BEGUN = "not_begun_in_time"
    TOO_FEW = "too_few_demonstrations"
    TOO_LONG = "too_long"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    CUT_OFF = "cut_off_by_deadline"  # not begun, or not finished


@dataclass(frozen=True, kw_only=True)
class Training:
    """Counts of one adaptation; `loss` is the mean of its first and of its last logged steps, if any was logged."""

    steps: int
    samples: int
    tokens: int
    samples_shrunk: int
    samples_redrawn: int
    loss: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a model answers to some tasks."""

    candidates: tuple[Candidate, ...]

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> "Answers | None":
        """Those to all tasks; None where there are none."""
        candidates = tuple(candidate for part in parts for candidate in part.candidates)
        return cls(candidates=candidates) if parts else None

    def to_json(self) -> dict[str, Any]:
        return {"candidates": [candidate.to_json() for candidate in self.candidates]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Answers":
        return cls(candidates=tuple(map(Candidate.from_json, values["candidates"])))


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """A task's answers before adaptation."""

    answers: Answers
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"answers": self.answers.to_json(), "seconds": self.seconds}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Before":
        return cls(answers=Answers.from_json(values["answers"]), seconds=values["seconds"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A finished unit.

    Attributes:
        outcome: of its training.
        unanswered: the tasks that the adapted model could not answer, and why: their answers are those before.
        training: None where there was none.
        answers: to the other tasks; None where the model answered no otherwise than before.
        seconds: by phase.
        worker: the process that did it, "<host>:<process id>", or that found it undone.
    """

    task_ids: tuple[str, ...]
    outcome: Outcome
    unanswered: dict[str, Outcome]
    training: Training | None
    answers: Answers | None
    seconds: dict[str, float]
    peak_memory_bytes: int
    worker: str

    @property
    def candidates(self) -> tuple[Candidate, ...] | None:
        return None if self.answers is None else self.answers.candidates

    @classmethod
    def cut_off(cls, task_ids: tuple[str, ...]) -> "Adapted":
        """What there is of a unit that the deadline has left unfinished: nothing."""
        return cls(
            task_ids=task_ids,
            outcome=Outcome.CUT_OFF,
            unanswered={},
            training=None,
            answers=None,
            seconds={"training": 0.0, "inference": 0.0},
            peak_memory_bytes=0,
            worker=this_worker(),
        )

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "training": None if self.training is None else asdict(self.training),
            "answers": None if self.answers is None else self.answers.to_json(),
        }

    def summary(self) -> str:
        """One line of `adaptation.jsonl`, without the line break: all but the answers."""
        return json.dumps({name: value for name, value in self.to_json().items() if name != "answers"})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Adapted":
        training, answers = values["training"], values["answers"]
        if training is not None:
            loss = training["loss"]
            training = Training(**training | {"loss": None if loss is None else tuple(loss)})
        known = {
            "task_ids": tuple(values["task_ids"]),
            "outcome": Outcome(values["outcome"]),
            "unanswered": {task_id: Outcome(reason) for task_id, reason in values["unanswered"].items()},
            "training": training,
            "answers": None if answers is None else Answers.from_json(answers),
        }
        return cls(**values | known)


def this_worker() -> str:
    """The name of this process among those that share out the work."""
    return f"{platform.node()}:{os.getpid()}"


def merged(before: Sequence[Candidate], units: Iterable[Adapted]) -> list[Candidate]:
    """The answers after adaptation, in the order of those before, which stand where there are no others."""
    by_task = _by_task(before)
    by_task |= _by_task(candidate for unit in units for candidate in unit.candidates or ())
    return [candidate for candidates in by_task.values() for candidate in candidates]


def _by_task(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.task_id, []).append(candidate)
    return found


def totals(units: Sequence[Adapted]) -> dict[str, Any]:
    """For metrics.json: tasks by outcome, and the sums and means of all trainings."""
    outcomes = Counter({outcome.value: 0 for outcome in Outcome})
    for unit in units:
        outcomes.update(unit.unanswered.get(task_id, unit.outcome).value for task_id in unit.task_ids)
    trainings = [unit.training for unit in units if unit.training is not None]
    counts = ("steps", "samples", "tokens", "samples_shrunk", "samples_redrawn")
    sums: dict[str, Any] = {name: sum(getattr(one, name) for one in trainings) for name in counts}
    losses = [one.loss for one in trainings if one.loss is not None]
    if losses:
        first, last = zip(*losses, strict=True)
        sums |= {"initial_loss": sum(first) / len(first), "final_loss": sum(last) / len(last)}
    return {"outcomes": dict(outcomes), **sums}
