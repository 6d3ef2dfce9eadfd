"""Selection: the candidates for a test output become its distinct grids, best first.

In: the candidates of one test output, each already mapped back to the original orientation and colours.
Out: the distinct valid grids, ordered by a rule; the first `NUM_ATTEMPTS` are the attempts.

    views 0 and 2 answer A, view 1 answers B, view 3 cannot be parsed
    -> [A with 2 votes of views (0, 2), B with 1 vote of views (1,)]
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from arc_experiments.config.schema import NEED_LIKELIHOODS, SELECTIONS
from arc_experiments.tasks.grids import Grid, check_grid

NUM_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The log-probability of an answer under one view: natural, summed over its tokens and its end."""

    view: int
    log_probability: float
    num_tokens: int


class NotFinite(ValueError):
    """A log-probability is not a finite number: the model's activations overflowed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One answer of the model to one view of one test input.

    Attributes:
        view: position of the view; `transforms` is its name, such as "rot90 colours_0213456789".
        sample: number of the answer among those to this view.
        text: the answer as generated, in the orientation and colours of the view.
        log_probability: natural logarithm, summed over the generated tokens.
        grid: the answer in the original orientation and colours; None if it is not valid.
        reason: why it is not valid, as the parser calls it ("no_grid", "ragged"); None if it is.
        likelihoods: how probable its grid is under each scoring view, which all candidates share.

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
        return {
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """A distinct grid and the evidence for it.

    Attributes:
        votes: number of candidates with this grid.
        log_probability: mean over these candidates of their mean log-probability per token.
        sum_log_probability: sum over these candidates of their log-probabilities.
        views: the view of each of these candidates, ascending.
        likelihoods: under the scoring views; empty if none were computed.
    """

    grid: Grid
    votes: int
    log_probability: float
    sum_log_probability: float
    views: tuple[int, ...]
    likelihoods: tuple[Likelihood, ...] = ()


Rule = Callable[[Iterable[Ranked]], list[Ranked]]
"""Orders distinct grids, best first. Named after its function; `config.schema.SELECTIONS` lists the names."""


def votes_then_log_probability(grids: Iterable[Ranked]) -> list[Ranked]:
    """More votes first; ties by the higher log-probability, then by the earlier view (arc24)."""
    return sorted(grids, key=lambda ranked: (-ranked.votes, -ranked.log_probability, *_fixed(ranked)))


def majority_vote(grids: Iterable[Ranked]) -> list[Ranked]:
    """More votes first; ties by the earlier view."""
    return sorted(grids, key=lambda ranked: (-ranked.votes, *_fixed(ranked)))


def likelihood_product(grids: Iterable[Ranked]) -> list[Ranked]:
    """By the product of the probabilities under all scoring views (the ARChitects' paper)."""
    return _by(grids, lambda ranked: math.fsum(_log_probabilities(ranked)))


def full_probmul_3(grids: Iterable[Ranked]) -> list[Ranked]:
    """By the sum of log p + 3, over the candidates with the grid and over the scoring views.

    The rule of the ARChitects' submission to ARC Prize 2024, by their name: a further candidate or view
    counts for a grid only if it is more probable than exp(-3).
    """

    def value(ranked: Ranked) -> float:
        values = _log_probabilities(ranked)
        return math.fsum([ranked.sum_log_probability, *values]) + 3 * (ranked.votes + len(values))

    return _by(grids, value)


def likelihood_sum(grids: Iterable[Ranked]) -> list[Ranked]:
    """By the sum of the probabilities under all scoring views: a few confident views are enough."""

    def value(ranked: Ranked) -> float:
        best = max(_log_probabilities(ranked))  # factored out, or all could underflow
        return best + math.log(math.fsum(math.exp(each - best) for each in _log_probabilities(ranked)))

    return _by(grids, value)


def likelihood_mean(grids: Iterable[Ranked]) -> list[Ranked]:
    """By the mean over the scoring views of the log-probability per token."""

    def value(ranked: Ranked) -> float:
        return math.fsum(one.log_probability / one.num_tokens for one in ranked.likelihoods) / len(
            ranked.likelihoods
        )

    return _by(grids, value)


def likelihood_min(grids: Iterable[Ranked]) -> list[Ranked]:
    """By the probability under the scoring view that finds the grid least probable."""
    return _by(grids, lambda ranked: min(_log_probabilities(ranked)))


def likelihood_max(grids: Iterable[Ranked]) -> list[Ranked]:
    """By the probability under the scoring view that finds the grid most probable."""
    return _by(grids, lambda ranked: max(_log_probabilities(ranked)))


def votes_plus_likelihood(grids: Iterable[Ranked]) -> list[Ranked]:
    """By votes plus the mean over the scoring views of the log-probability (NVARC's `score_kgmon`)."""

    def value(ranked: Ranked) -> float:
        values = _log_probabilities(ranked)
        return ranked.votes + math.fsum(values) / len(values)

    return _by(grids, value)


def rules(*, with_likelihoods: bool) -> dict[str, Rule]:
    """The rules by name; those that need likelihoods only on request."""
    names = SELECTIONS if with_likelihoods else [n for n in SELECTIONS if n not in NEED_LIKELIHOODS]
    return {name: globals()[name] for name in names}


def distinct(candidates: Iterable[Candidate]) -> list[Ranked]:
    """The distinct valid grids among the candidates of one test output, in no order of merit."""
    return [rank(group) for group in alike(candidates)]


def alike(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """The valid candidates in groups of one grid each."""
    groups: dict[tuple[tuple[int, ...], bytes], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.grid is not None:
            groups[candidate.grid.shape, candidate.grid.tobytes()].append(candidate)
    return list(groups.values())


def distinct_by_output(candidates: Iterable[Candidate]) -> list[Ranked]:
    """The distinct grids of all test outputs."""
    groups: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.task_id, candidate.test_index].append(candidate)
    return [ranked for group in groups.values() for ranked in distinct(group)]


def select(candidates: Sequence[Candidate], rule: Rule = votes_then_log_probability) -> list[Ranked]:
    """The distinct valid grids among the candidates of one test output, in the order of the rule."""
    assert len({(candidate.task_id, candidate.test_index) for candidate in candidates}) <= 1
    return rule(distinct(candidates))


def rank(group: Sequence[Candidate]) -> Ranked:
    """The evidence for the one grid of these candidates."""
    assert group[0].grid is not None
    return Ranked(
        grid=group[0].grid,
        votes=len(group),
        # fsum is exact, so the order of the candidates cannot decide a tie by rounding.
        log_probability=math.fsum(candidate.mean_log_probability for candidate in group) / len(group),
        sum_log_probability=math.fsum(candidate.log_probability for candidate in group),
        views=tuple(sorted(candidate.view for candidate in group)),
        likelihoods=group[0].likelihoods,
    )


def _by(grids: Iterable[Ranked], value: Callable[[Ranked], float]) -> list[Ranked]:
    """The higher value first; ties by votes. Without likelihoods votes alone decide."""
    grids = list(grids)
    if not all(ranked.likelihoods for ranked in grids):
        return votes_then_log_probability(grids)
    return sorted(
        grids,
        key=lambda ranked: (-value(ranked), -ranked.votes, -ranked.log_probability, *_fixed(ranked)),
    )


def _fixed(ranked: Ranked) -> tuple[int, tuple[int, ...], bytes]:
    """The earlier view; then the cells, since several samples of one view can tie in everything else."""
    return ranked.views[0], ranked.grid.shape, ranked.grid.tobytes()


def _log_probabilities(ranked: Ranked) -> list[float]:
    return [one.log_probability for one in ranked.likelihoods]
