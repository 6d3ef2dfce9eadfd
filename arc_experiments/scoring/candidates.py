"""Candidates: the answers of a model to views of test inputs, and lines of `predictions.jsonl`.

a grid answered      its text, its grid turned back to the original orientation and colours
a program answered   one candidate per test input: the grid that the program gives there, and the program
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Self

from arc_experiments.tasks.grids import Grid, check_grid
from arc_experiments.tasks.task import Program

UNREADABLE = ("no_program", "syntax", "unfinished")  # reasons of an answer that is no program


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The log-probability of an answer under one view: natural, summed over its tokens and its end."""

    view: int
    log_probability: float
    num_tokens: int


class NotFinite(ValueError):
    """A log-probability is not a finite number: the model's activations overflowed."""


@dataclass(frozen=True, kw_only=True)
class ProgramAnswer:
    """A program that was answered, and how it did on the demonstrations as it saw them.

    Attributes:
        program: in normal form; with the answer as it was written if that is no program.
        demonstrations: whether it gave each output, in the order of the task itself.
        right_cells: mean over the demonstrations of its share of right cells, 0 for another shape or none.
        reason: why it gave no grid for some demonstration, or is no program; None if it gave one for each.
    """

    program: Program
    demonstrations: tuple[bool, ...]
    right_cells: float
    reason: str | None = None

    @property
    def verified(self) -> bool:
        """Whether it gave the output of every demonstration."""
        return bool(self.demonstrations) and all(self.demonstrations)

    @property
    def is_program(self) -> bool:
        """Whether the answer could be read as a program."""
        return self.reason not in UNREADABLE

    def to_record(self) -> dict[str, Any]:
        return {
            "language": self.program.language,
            "text": self.program.text,
            "demonstrations": list(self.demonstrations),
            "right_cells": self.right_cells,
            "reason": self.reason,
        }

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """Read a record; raise KeyError or TypeError if it is not whole."""
        return cls(
            program=Program(language=record["language"], text=record["text"]),
            demonstrations=tuple(record["demonstrations"]),
            right_cells=record["right_cells"],
            reason=record["reason"],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One answer of the model to one view of one test input, or what its program gave for that input.

    Attributes:
        view: position of the view; `transforms` is its name, such as "rot90 colours_0213456789".
        sample: number of the answer among those to this view.
        text: the answer as generated, in the orientation and colours of the view.
        log_probability: natural logarithm, summed over the generated tokens.
        grid: the answer in the original orientation and colours; None if it is not valid.
        reason: why it is not valid, as the parser calls it ("no_grid", "ragged"); None if it is.
        likelihoods: how probable its grid is under each scoring view, which all candidates share.
        program: of an answer to the question for a program. Text, tokens and log-probability are those of the
            program, the same for each of the task's test inputs.
        origin: the run folder that it was taken from; "" if this run's model answered it.

    Raises:
        ValueError: a log-probability that is not finite, or not exactly one of grid and reason.
    """

    task_id: str
    test_index: int
    view: int
    transforms: str
    text: str
    num_tokens: int
    log_probability: float
    grid: Grid | None
    reason: str | None
    sample: int = 0
    likelihoods: tuple[Likelihood, ...] = ()
    program: ProgramAnswer | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        where = f"candidate of task {self.task_id}, test output {self.test_index}, view {self.view}"
        values = [self.log_probability, *(one.log_probability for one in self.likelihoods)]
        if not all(map(math.isfinite, values)):
            raise NotFinite(
                f"{where}: log_probability is {values[0] if len(values) == 1 else values}, "
                "so the model's numbers overflowed; try model.dtype=float32"
            )
        if (self.grid is None) == (self.reason is None):
            raise ValueError(f"{where}: it needs either a grid or the reason why there is none")

    @property
    def mean_log_probability(self) -> float:
        """Per generated token, so that a large grid does not count less than a small one."""
        return self.log_probability / max(self.num_tokens, 1)

    def to_record(self) -> dict[str, Any]:
        """The object that `to_json` writes."""
        record = {
            "task": self.task_id,
            "test_index": self.test_index,
            "view": self.view,
            "sample": self.sample,
            "transforms": self.transforms,
            "text": self.text,
            "num_tokens": self.num_tokens,
            "log_probability": self.log_probability,
            "valid": self.grid is not None,
            "reason": self.reason,
            "grid": None if self.grid is None else self.grid.tolist(),
            "likelihoods": [[one.view, one.log_probability, one.num_tokens] for one in self.likelihoods],
        }
        if self.program is not None:
            record["program"] = self.program.to_record()
        if self.origin:
            record["origin"] = self.origin
        return record

    def to_json(self) -> str:
        """One line of `predictions.jsonl`, without the line break."""
        return json.dumps(self.to_record())

    @classmethod
    def from_record(cls, record: Any) -> "Candidate":
        """Read a record; fields that older versions did not write may be missing.

        Raises:
            ValueError: a field is missing, or the grid breaks the rules.
        """
        try:
            return cls(
                task_id=record["task"],
                test_index=record["test_index"],
                view=record["view"],
                sample=record.get("sample", 0),
                transforms=record["transforms"],
                text=record["text"],
                num_tokens=record["num_tokens"],
                log_probability=record["log_probability"],
                grid=None if record["grid"] is None else check_grid(record["grid"]),
                reason=record["reason"],
                likelihoods=tuple(
                    Likelihood(view=view, log_probability=value, num_tokens=num_tokens)
                    for view, value, num_tokens in record.get("likelihoods", [])
                ),
                program=ProgramAnswer.from_record(record["program"]) if "program" in record else None,
                origin=record.get("origin", ""),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"this line holds no whole candidate ({error}): {json.dumps(record)[:80]}"
            ) from error

    @classmethod
    def from_json(cls, line: str) -> "Candidate":
        """Read a line that `to_json` wrote.

        Raises:
            ValueError: not JSON, a field is missing, or the grid breaks the rules.
        """
        return cls.from_record(json.loads(line))
