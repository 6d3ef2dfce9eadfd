"""Intervals of means and differences: closed forms by hand, and how often simulated sweeps are covered."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from arc_experiments.scoring.uncertainty import (
    Block,
    Estimate,
    Interval,
    Values,
    difference,
    estimate,
    paired_difference,
    sign_test,
    smallest_effect,
    weighted,
)

NUM_SWEEPS, NUM_TASKS = 1000, 100
# Of the simulated sweeps: a config's true score, and the standard deviations of its tasks (some are hard),
# of its seeds (arc24's three retrainings went 3.2 points apart), and of what is left: luck with a task.
# Scores of ARC runs are such: tasks differ far more than seeds do.
TRUTH, TASK, SEED, REST = 0.30, 0.35, 0.02, 0.25
# The second of two configs: better by GAIN, by task-to-task differences more or less.
GAIN, TASK_GAIN = 0.04, 0.15


def names(count: int) -> tuple[str, ...]:
    return tuple(f"t{number}" for number in range(count))


def block(rows: Sequence[Sequence[float]] | Values) -> Block:
    by_task = np.asarray(rows, dtype=float)
    return Block(runs=by_task.mean(axis=1), tasks=names(by_task.shape[1]), by_task=by_task)


def runs_alone(*runs: float) -> Block:
    return Block(runs=np.array(runs))


def covers(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


def sweeps(
    num_seeds: int, seed_deviation: float = SEED, task_deviation: float = TASK
) -> Iterator[tuple[Block, float]]:
    """Sweeps with what other seeds would score on their tasks."""
    rng = np.random.default_rng(num_seeds)
    for _ in range(NUM_SWEEPS):
        tasks = TRUTH + task_deviation * rng.standard_normal(NUM_TASKS)
        yield block(trained(rng, tasks, num_seeds, seed_deviation)), float(tasks.mean())


def trained(rng: np.random.Generator, tasks: Values, num_seeds: int, seed_deviation: float = SEED) -> Values:
    seeds = seed_deviation * rng.standard_normal((num_seeds, 1))
    return tasks + seeds + REST * rng.standard_normal((num_seeds, len(tasks)))


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_95_of_100_intervals_hold_what_is_true_of_new_seeds_and_of_new_tasks(num_seeds: int) -> None:
    found = [(estimate([runs]), on_these) for runs, on_these in sweeps(num_seeds)]
    new_seeds = np.mean([covers(one.new_seeds, on_these) for one, on_these in found])
    new_tasks = np.mean([covers(one.new_tasks, TRUTH) for one, _ in found])
    assert 0.93 <= new_seeds <= 0.97
    assert 0.93 <= new_tasks <= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_95_of_100_intervals_of_differences_hold_the_true_one(num_seeds: int) -> None:
    rng = np.random.default_rng(100 + num_seeds)
    covered = []
    for _ in range(NUM_SWEEPS):
        old = TRUTH + TASK * rng.standard_normal(NUM_TASKS)
        new = old + GAIN + TASK_GAIN * rng.standard_normal(NUM_TASKS)
        blocks = [[block(trained(rng, tasks, num_seeds))] for tasks in (old, new)]
        on_these = float((new - old).mean())
        for compare in (difference, paired_difference):
            found = compare(*blocks)
            covered.append((covers(found.new_seeds, on_these), covers(found.new_tasks, GAIN)))
    assert np.all(np.mean(np.reshape(covered, (NUM_SWEEPS, 4)), axis=0) >= 0.93)
    assert np.all(np.mean(np.reshape(covered, (NUM_SWEEPS, 4)), axis=0) <= 0.97)


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_right_and_wrong_answers_are_covered_as_well(num_seeds: int) -> None:
    """Marks of 0 and 1: half of the tasks are hopeless, the others are solved by some runs only."""
    rng = np.random.default_rng(200 + num_seeds)
    covered = []
    for _ in range(NUM_SWEEPS):
        chances = np.where(rng.random(NUM_TASKS) < 0.5, 0.0, rng.beta(1.5, 1.0, NUM_TASKS))
        skills = np.clip(1 + 0.1 * rng.standard_normal((num_seeds, 1)), 0, None)
        marks = rng.random((num_seeds, NUM_TASKS)) < chances * skills
        covered.append(covers(estimate([block(marks)]).new_tasks, 0.5 * 0.6))
    # A chance over 1 is cut off: the truth lies a little under 0.3, by far less than an interval is wide.
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(("num_seeds", "most"), [(3, 0.995), (10, 0.98)])
def test_right_and_wrong_answers_that_no_seed_changes_are_covered_rather_too_often(
    num_seeds: int, most: float
) -> None:
    rng = np.random.default_rng(400 + num_seeds)
    covered = []
    for _ in range(NUM_SWEEPS):
        old = 0.96 * rng.beta(0.5, 1.2, NUM_TASKS)
        blocks = [
            [block(1.0 * (rng.random((num_seeds, NUM_TASKS)) < chances))] for chances in (old, old + 0.04)
        ]
        covered.append(covers(difference(*blocks).new_tasks, 0.04))
    assert 0.95 <= np.mean(covered) <= most


def test_several_partitions_that_overlap_are_covered_too() -> None:
    """Three lists of 100 out of the same 400 tasks, two runs each, as with seeds.partition=7,8,9."""
    rng = np.random.default_rng(300)
    covered = []
    for _ in range(NUM_SWEEPS):
        pool = TRUTH + TASK * rng.standard_normal(400)
        blocks = []
        on_these = []
        for _ in range(3):
            drawn = rng.choice(400, NUM_TASKS, replace=False)
            marks = trained(rng, pool[drawn], 2)
            blocks.append(Block(runs=marks.mean(axis=1), tasks=tuple(map(str, drawn)), by_task=marks))
            on_these.append(pool[drawn].mean())
        found = estimate(blocks)
        covered.append((covers(found.new_seeds, float(np.mean(on_these))), covers(found.new_tasks, TRUTH)))
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) <= 0.02)


@pytest.mark.parametrize("seed_deviation", [0.0, 0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("task_deviation", [0.05, 0.35])
def test_no_mixture_of_luck_is_covered_too_seldom(seed_deviation: float, task_deviation: float) -> None:
    found = [estimate([runs]) for runs, _ in sweeps(3, seed_deviation, task_deviation)]
    assert np.mean([covers(one.new_tasks, TRUTH) for one in found]) >= 0.93


@pytest.mark.parametrize(("target", "share_of_tasks"), [("new_seeds", 0.0), ("new_tasks", 1.0)])
def test_a_detectable_difference_is_found_in_four_of_five_sweeps(target: str, share_of_tasks: float) -> None:
    rng = np.random.default_rng(5)
    tasks = TRUTH + TASK * rng.standard_normal(NUM_TASKS)

    def compared(gain: float) -> Interval:
        new = tasks + gain + TASK_GAIN * share_of_tasks * rng.standard_normal(NUM_TASKS)
        found = difference([block(trained(rng, tasks, 5))], [block(trained(rng, new, 5))])
        interval: Interval = getattr(found, target)
        return interval

    detectable = float(np.sqrt(np.mean([compared(0.0).detectable ** 2 for _ in range(300)])))
    found = np.mean([compared(detectable).low > 0 for _ in range(NUM_SWEEPS)])
    assert 0.76 <= found <= 0.86


def test_new_seeds_is_students_interval() -> None:
    # arc24's three retrainings; t(2) = 4.30265.
    found = estimate([runs_alone(6.6, 8.2, 12.8)])
    half = 4.30265 * np.std([6.6, 8.2, 12.8], ddof=1) / np.sqrt(3)
    assert found.value == pytest.approx(9.2)
    assert found.deviation == pytest.approx(3.2187, abs=1e-4)
    assert found.new_seeds is not None
    assert (found.new_seeds.low, found.new_seeds.high) == pytest.approx((9.2 - half, 9.2 + half), rel=1e-4)
    assert found.new_tasks is None


def test_new_tasks_adds_the_squared_half_widths_of_seeds_and_tasks() -> None:
    rows = np.array([[0.0, 1, 1, 0, 1], [0, 1, 0, 0, 1], [1, 1, 1, 0, 1]])
    mean, by_run, by_task = rows.mean(), rows.mean(axis=1), rows.mean(axis=0)
    rest = np.sum((rows - by_run[:, None] - by_task + mean) ** 2) / 8
    of_tasks = by_task.var(ddof=1) / 5
    of_seeds = by_run.var(ddof=1) / 3 - rest / 15
    assert of_seeds > 0
    half = np.sqrt(2.776445**2 * of_tasks + 4.302653**2 * of_seeds)
    found = estimate([block(rows)]).new_tasks
    assert found is not None
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-5)


def test_one_run_shows_the_luck_of_the_tasks_alone() -> None:
    found = estimate([block([[1, 0, 0, 1, 1, 0, 0, 0]])])
    assert found.deviation is None
    assert found.new_seeds is None
    assert found.new_tasks is not None
    assert not found.with_seeds
    half = 2.364624 * np.sqrt(0.375 * 0.625 / 7)  # t(7), variance of 8 marks
    assert found.new_tasks.high - found.value == pytest.approx(half, rel=1e-5)


def test_one_run_against_three_says_nothing_of_seeds() -> None:
    one, three = block([[1, 0, 1, 0]]), block([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    found = difference([one], [three])
    assert found.value == pytest.approx(10 / 12 - 0.5)
    assert (found.new_seeds, found.with_seeds) == (None, False)
    assert found.new_tasks is not None


@pytest.mark.parametrize("rows", [[[0, 0, 0], [0, 0, 0]], [[1, 1, 1]], [[0.1, 0.1, 0.1]] * 3])
def test_what_never_varies_has_no_interval(rows: list[list[float]]) -> None:
    found = estimate([block(rows)])
    assert (found.new_seeds, found.new_tasks) == (None, None)


def test_the_difference_of_unlike_seeds_is_welchs() -> None:
    first, second = [0.2, 0.3, 0.4], [0.5, 0.55, 0.45, 0.52, 0.6]
    found = difference([runs_alone(*first)], [runs_alone(*second)])
    welch = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
    assert found.new_seeds is not None
    assert (found.new_seeds.low, found.new_seeds.high) == pytest.approx((welch.low, welch.high))


def test_seeds_in_pairs_leave_out_what_they_share() -> None:
    first, second = runs_alone(0.1, 0.5, 0.9), runs_alone(0.2, 0.61, 1.0)
    apart, paired = difference([first], [second]), paired_difference([first], [second])
    assert apart.value == pytest.approx(paired.value)
    assert apart.new_seeds is not None
    assert paired.new_seeds is not None
    assert apart.new_seeds.low < 0 < paired.new_seeds.low


def test_the_difference_on_the_same_tasks_is_narrower_than_on_others() -> None:
    rng = np.random.default_rng(0)
    tasks = rng.random(60) * 0.8
    first, second = trained(rng, tasks, 3), trained(rng, tasks + 0.1, 3)
    same = difference([block(first)], [block(second)]).new_tasks
    others = Block(runs=second.mean(axis=1), tasks=tuple(f"other{n}" for n in range(60)), by_task=second)
    apart = difference([block(first)], [others]).new_tasks
    assert same is not None
    assert apart is not None
    assert same.high - same.low < 0.8 * (apart.high - apart.low)


def test_blocks_weigh_the_same_and_pool_their_spread() -> None:
    found = estimate([runs_alone(0.1, 0.3), runs_alone(0.5, 0.5, 0.8)])
    assert found.value == pytest.approx((0.2 + 0.6) / 2)
    assert found.deviation == pytest.approx(np.sqrt((0.02 + 0.06) / 3))
    half = 3.182446 * np.sqrt(0.08 / 3 * (1 / 2 + 1 / 3) / 4)
    assert found.new_seeds is not None
    assert found.new_seeds.high - found.value == pytest.approx(half, rel=1e-5)


def test_a_task_in_two_blocks_is_one_task() -> None:
    row = np.array([[1.0, 0, 0, 1, 0, 1]])
    same = Block(runs=row.mean(axis=1), tasks=names(6), by_task=row)
    other = Block(runs=row.mean(axis=1), tasks=tuple("abcdef"), by_task=row)
    twice, both = estimate([same, same]).new_tasks, estimate([same, other]).new_tasks
    assert twice == estimate([same]).new_tasks, "the same tasks again say nothing new"
    assert twice is not None
    assert both is not None
    assert both.high - both.low < 0.75 * (twice.high - twice.low)


def test_weighted_marks_have_the_runs_scores_as_means() -> None:
    shares, outputs = np.array([[1.0, 0.5, 0], [0, 1, 1]]), np.array([1.0, 2, 3])
    marks = weighted(shares, outputs)
    assert marks.mean(axis=1) == pytest.approx([2 / 6, 5 / 6])
    assert weighted(shares, np.full(3, 2.0)) == pytest.approx(shares)


def test_weighted_marks_are_covered_too() -> None:
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(NUM_SWEEPS):
        outputs = rng.choice([1.0, 2.0, 3.0], NUM_TASKS, p=[0.6, 0.3, 0.1])
        tasks = TRUTH + TASK * rng.standard_normal(NUM_TASKS) + 0.1 * (outputs - 1.5)
        marks = weighted(trained(rng, tasks, 5), outputs)
        covered.append(
            covers(estimate([block(marks)]).new_tasks, TRUTH + 0.1 * (0.6 + 1.2 + 0.9 - 2.25) / 1.5)
        )
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(
    ("won", "lost", "p_value"), [(0, 0, 1.0), (1, 1, 1.0), (5, 0, 1 / 16), (0, 5, 1 / 16), (8, 2, 112 / 1024)]
)
def test_sign_test_is_the_exact_binomial(won: int, lost: int, p_value: float) -> None:
    assert sign_test(won, lost) == pytest.approx(p_value)


@given(st.integers(0, 60), st.integers(0, 60))
def test_sign_test_agrees_with_scipys(won: int, lost: int) -> None:
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_test(won, lost) == sign_test(lost, won) == pytest.approx(expected)


@given(
    st.integers(2, 5).flatmap(
        lambda seeds: st.lists(
            st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6, max_size=6), min_size=seeds, max_size=seeds
        )
    )
)
def test_new_tasks_are_never_better_known_than_these(rows: list[list[float]]) -> None:
    found = estimate([block(rows)])
    if found.new_seeds is not None:
        assert found.new_tasks is not None
        assert found.new_tasks.low <= found.new_seeds.low + 1e-9
        assert found.new_seeds.high <= found.new_tasks.high + 1e-9
        assert found.new_seeds.detectable > 0


Compare = Callable[[Sequence[Block], Sequence[Block]], Estimate]


@pytest.mark.parametrize("compare", [difference, paired_difference])
def test_a_difference_turned_round_changes_its_sign(compare: Compare) -> None:
    rng = np.random.default_rng(3)
    first, second = block(rng.random((3, 7))), block(rng.random((3, 7)))
    there, back = compare([first], [second]), compare([second], [first])
    for one, other in ((there.new_seeds, back.new_seeds), (there.new_tasks, back.new_tasks)):
        assert one is not None
        assert other is not None
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert one.detectable == pytest.approx(other.detectable)


@pytest.mark.parametrize("in_pairs", [False, True])
@pytest.mark.parametrize("num_seeds", [2, 5, 10])
def test_the_smallest_effect_is_found_with_80_percent_probability(num_seeds: int, in_pairs: bool) -> None:
    effect = smallest_effect(0.02, num_seeds, in_pairs=in_pairs)
    groups = 1 if in_pairs else 2
    degrees, error = groups * (num_seeds - 1), 0.02 * np.sqrt(groups / num_seeds)
    assert stats.nct.sf(stats.t.ppf(0.975, degrees), degrees, effect / error) == pytest.approx(0.8)


def test_the_smallest_effect_is_what_such_runs_report_as_detectable() -> None:
    first, second = runs_alone(0.1, 0.2, 0.3), runs_alone(0.4, 0.5, 0.6)
    found = difference([first], [second]).new_seeds
    assert found is not None
    assert smallest_effect(0.1, 3) == pytest.approx(found.detectable)
    again = paired_difference([first], [runs_alone(0.5, 0.5, 0.5)]).new_seeds
    assert again is not None
    assert smallest_effect(0.1, 3, in_pairs=True) == pytest.approx(again.detectable)


def test_one_seed_has_no_smallest_effect() -> None:
    with pytest.raises(ValueError, match="num_seeds=1: one run of each says nothing of other seeds"):
        smallest_effect(0.1, 1)


# Of studies: arms that share seeds and partitions.
POOL, LISTS = 400, 3


def arms(
    rng: np.random.Generator, num_seeds: int, shared: float, *, skewed: bool
) -> tuple[list[Block], list[Block], float]:
    """Two arms of `num_seeds` runs on each of three partitions, and the true difference on these tasks.

    `shared` is the deviation of what a seed does to both arms. Skewed are losses: a few tasks have most of
    the loss, and most of what is gained.
    """
    tasks, gains = rng.standard_normal((2, POOL))
    if skewed:
        old = np.exp(0.8 * tasks - 0.8**2 / 2)
        new = old * (1 + GAIN + TASK_GAIN * gains)
    else:
        old = TRUTH + TASK * tasks
        new = old + GAIN + TASK_GAIN * gains
    blocks: tuple[list[Block], list[Block]] = ([], [])
    on_these = []
    for _ in range(LISTS):
        places = rng.choice(POOL, NUM_TASKS, replace=False)
        luck = shared * rng.standard_normal((num_seeds, 1))
        for found, values in zip(blocks, (old, new), strict=True):
            marks = trained(rng, values[places], num_seeds) + luck
            found.append(Block(runs=marks.mean(axis=1), tasks=tuple(map(str, places)), by_task=marks))
        on_these.append((new - old)[places].mean())
    return *blocks, float(np.mean(on_these))


def held_by_studies(
    compare: Compare, num_seeds: int, shared: float, *, skewed: bool, num_studies: int
) -> Values:
    """How often the intervals for new seeds and for new tasks hold the true difference."""
    rng = np.random.default_rng(500 + num_seeds)
    covered = []
    for _ in range(num_studies):
        old, new, on_these = arms(rng, num_seeds, shared, skewed=skewed)
        found = compare(old, new)
        covered.append((covers(found.new_seeds, on_these), covers(found.new_tasks, GAIN)))
    return np.asarray(np.mean(covered, axis=0))


def test_most_intervals_of_a_few_studies_hold_the_true_difference() -> None:
    held = held_by_studies(paired_difference, 5, 0.03, skewed=True, num_studies=100)
    assert np.all(held >= 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("num_seeds", "shared"), [(3, 0.0), (3, 0.02), (5, 0.0), (5, 0.03), (10, 0.02)])
@pytest.mark.parametrize("compare", [difference, paired_difference])
def test_95_of_100_intervals_of_studies_hold_the_true_difference(
    compare: Compare, num_seeds: int, shared: float, skewed: bool
) -> None:
    held = held_by_studies(compare, num_seeds, shared, skewed=skewed, num_studies=2 * NUM_SWEEPS)
    # Runs that share seeds and are not paired have luck in common, which makes intervals too wide.
    most = 0.97 if compare is paired_difference or not shared else 1.0
    assert np.all(held >= 0.93)
    assert np.all(held <= most)
