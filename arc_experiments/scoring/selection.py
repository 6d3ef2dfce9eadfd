"""Selection: the candidates for a test output become its distinct grids, best first.

In: the candidates of one test output, each already mapped back to the original orientation and colours.
Out: the distinct valid grids, ordered by a rule; the first `NUM_ATTEMPTS` are the attempts.

    views 0 and 2 answer A, view 1 answers B, view 3 cannot be parsed
    -> [A with 2 votes of views (0, 2), B with 1 vote of views (1,)]

Grids that verified programs gave come before those of the rule, grids of other programs behind them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from arc_experiments.config.schema import NEED_LIKELIHOODS, SELECTIONS
from arc_experiments.config.user_code.functions import is_own, load_function
from arc_experiments.scoring.candidates import Candidate, Likelihood
from arc_experiments.scoring.support import Support, support
from arc_experiments.tasks.grids import Grid

NUM_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """A distinct grid and the evidence for it.

    Attributes:
        votes: number of candidates with this grid.
        log_probability: mean over these candidates of their mean log-probability per token. If some answered
            the grid itself, they alone count here and below.
        sum_log_probability: sum over these candidates of their log-probabilities.
        views: the view of each of these candidates, ascending.
        likelihoods: under the scoring views; empty if none were computed.
        support: the programs that gave it; None if there are none.
    """

    grid: Grid
    votes: int
    log_probability: float
    sum_log_probability: float
    views: tuple[int, ...]
    likelihoods: tuple[Likelihood, ...] = ()
    support: Support | None = None


Rule = Callable[[Iterable[Ranked]], list[Ranked]]
"""Orders distinct grids, best first. Named as in `config.schema.SELECTIONS`, or a function of the user's."""


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


def rule_named(name: str) -> Rule:
    """The rule of this name: one of ours, or a function of the user's (`module.function`).

    The user's is given the grids in the order of `votes_then_log_probability`, which so decides its ties.

    Raises:
        ValueError: there is no such rule; when it is called: it does not return the grids in some order.
    """
    if not is_own(name):
        rule: Rule = globals()[name]
        return rule
    function = load_function("inference.selection", name)

    def own(grids: Iterable[Ranked]) -> list[Ranked]:
        given = votes_then_log_probability(grids)
        found = list(function(list(given)))
        if sorted(map(id, found)) != sorted(map(id, given)):
            raise ValueError(
                f"inference.selection={name} must return the grids that it is given, each once, best first: "
                f"it was given {len(given)} and returned {len(found)}, or others"
            )
        return found

    own.__name__ = name
    return own


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
    """The distinct valid grids among the candidates of one test output, best first (see `in_order`)."""
    assert len({(candidate.task_id, candidate.test_index) for candidate in candidates}) <= 1
    return in_order(distinct(candidates), rule)


def in_order(grids: Iterable[Ranked], rule: Rule) -> list[Ranked]:
    """Order the distinct grids of one test output, best first.

    1. Grids of verified programs: more distinct programs first, then the shortest program.
    2. Grids that were answered themselves, by the rule, for which other programs do not count.
    3. Grids of other programs: by the demonstrations and cells that the best of them got right, then by the
       number of distinct programs.
    """
    verified, answered, others = [], [], []
    for ranked in grids:
        found = ranked.support
        if found is None:
            answered.append(ranked)
        elif found.num_verified:
            verified.append(((-found.num_verified, found.shortest, *_fixed(ranked)), ranked))
        elif found.num_answers:
            answered.append(replace(ranked, votes=found.num_answers))
        else:
            right, cells = found.best
            others.append(((-right, -cells, -found.num_programs, *_fixed(ranked)), ranked))
    return [
        *(ranked for _, ranked in sorted(verified, key=lambda one: one[0])),
        *rule(answered),
        *(ranked for _, ranked in sorted(others, key=lambda one: one[0])),
    ]


def rank(group: Sequence[Candidate]) -> Ranked:
    """The evidence for the one grid of these candidates."""
    assert group[0].grid is not None
    counted = [candidate for candidate in group if candidate.program is None] or group
    return Ranked(
        grid=group[0].grid,
        votes=len(group),
        # fsum is exact, so the order of the candidates cannot decide a tie by rounding.
        log_probability=math.fsum(candidate.mean_log_probability for candidate in counted) / len(counted),
        sum_log_probability=math.fsum(candidate.log_probability for candidate in counted),
        views=tuple(sorted(candidate.view for candidate in counted)),
        likelihoods=counted[0].likelihoods,
        support=support(group) if len(counted) < len(group) or counted[0].program is not None else None,
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
