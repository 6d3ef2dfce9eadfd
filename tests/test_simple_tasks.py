"""The task source data=see: simple tasks to see by, endless ones and a fixed list."""

from collections import Counter

import numpy as np
import pytest

from arc_experiments.sources import FixedSimpleTasks, SimpleTasks
from arc_experiments.tasks import BadTasks, Pair, Task
from arc_experiments.tasks.grids import TURNS
from arc_experiments.tasks.rngs import rng_for

RULES = ["read", "copy", "recolour", "turn"]


def visits(rule: str, count: int = 80, **options: object) -> list[Task]:
    source = SimpleTasks(rules=[rule], **options)
    return [source.draw(0, rng_for("test", i)) for i in range(count)]


def pairs(task: Task) -> list[Pair]:
    return [*task.train, *task.test]


def colour_map(shown: list[Pair]) -> dict[int, set[int]]:
    """Which colours each colour becomes."""
    found: dict[int, set[int]] = {}
    for pair in shown:
        for before, after in zip(pair.input.ravel().tolist(), pair.output.ravel().tolist(), strict=True):
            found.setdefault(before, set()).add(after)
    return found


def fitting_turns(shown: list[Pair]) -> list[str]:
    return [
        name
        for name, turn in TURNS.items()
        if all(np.array_equal(turn(pair.input), pair.output) for pair in shown)
    ]


@pytest.mark.parametrize("rule", ["read", "copy"])
def test_to_read_and_to_copy_leaves_grids_as_they_are(rule: str) -> None:
    for task in visits(rule):
        assert all(np.array_equal(pair.input, pair.output) for pair in pairs(task))
        assert bool(task.train) == (rule == "copy"), "a task to read shows no demonstrations"
        assert task.id == f"simple_{rule}"


def test_a_recoloured_task_shows_every_colour_that_the_test_needs() -> None:
    for task in visits("recolour"):
        shown, asked = colour_map(list(task.train)), colour_map(list(task.test))
        assert all(len(to) == 1 for to in colour_map(pairs(task)).values()), "one colour for each"
        assert asked.keys() <= shown.keys()
        assert any(to != {colour} for colour, to in asked.items()), "the test grid changes"
        assert 1 <= sum(to != {colour} for colour, to in colour_map(pairs(task)).items()) <= 3


def test_the_demonstrations_of_a_turned_task_fit_one_turn_alone() -> None:
    seen = Counter()
    for task in visits("turn", 200):
        (name,) = fitting_turns(list(task.train))
        assert name in fitting_turns(list(task.test))
        seen[name] += 1
    assert set(seen) == set(list(TURNS)[1:]), "every turn but none"


@pytest.mark.parametrize("rule", RULES)
def test_grids_and_demonstrations_are_within_the_ranges(rule: str) -> None:
    tasks = visits(rule, 200, side=[2, 4], num_demonstrations=[2, 4])
    shapes = {pair.input.shape for task in tasks for pair in pairs(task)}
    assert {side for shape in shapes for side in shape} == {2, 3, 4}
    assert {len(task.train) for task in tasks} == ({0} if rule == "read" else {2, 3, 4})
    assert all(pair.input.dtype == pair.output.dtype == np.uint8 for task in tasks for pair in pairs(task))


@pytest.mark.parametrize("rule", RULES)
def test_a_task_depends_on_its_rng_alone(rule: str) -> None:
    first, again = visits(rule, 20), visits(rule, 20)
    for left, right in zip(first, again, strict=True):
        assert all(np.array_equal(a.input, b.input) for a, b in zip(pairs(left), pairs(right), strict=True))
    assert len({pair.input.tobytes() for task in first for pair in task.test}) > 10


def test_each_rule_is_a_task_of_the_source() -> None:
    source = SimpleTasks(rules=["turn", "read"])
    assert source.ids == ("simple_turn", "simple_read")
    assert [source.draw(number, rng_for("test", 0)).id for number in (0, 1)] == list(source.ids)


def test_a_fixed_list_has_each_rule_as_often_in_turn_and_is_always_the_same() -> None:
    first, again = (FixedSimpleTasks(num_tasks=3).read(BadTasks()).fixed for _ in range(2))
    assert first.ids[:5] == ("read_0000", "copy_0000", "recolour_0000", "turn_0000", "read_0001")
    assert [task.split for task in first] == RULES * 3
    for left, right in zip(first, again, strict=True):
        assert np.array_equal(left.test[0].input, right.test[0].input)
    other = FixedSimpleTasks(num_tasks=3, seed=1).read(BadTasks()).fixed
    assert any(
        not np.array_equal(a.test[0].input, b.test[0].input) for a, b in zip(first, other, strict=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": []}, r"rules=\[\] is not some of read, copy, recolour, turn"),
        ({"rules": ["rotate"]}, r"rules=\['rotate'\] is not some of"),
        ({"rules": ["read", "read"]}, "is not some of"),
        ({"side": [0, 6]}, r"side=\[0, 6\] is not \[minimum, maximum\] within 1..30"),
        ({"side": [6, 5]}, r"side=\[6, 5\]"),
        ({"side": [1, 31]}, r"side=\[1, 31\]"),
        ({"side": [1, 1]}, "beyond 1 x 1"),
        ({"side": [3]}, r"side=\[3\]"),
        ({"num_demonstrations": [0, 2]}, "num_demonstrations"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimpleTasks(**options)


def test_a_list_of_no_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="num_tasks=0 is not at least 1"):
        FixedSimpleTasks(num_tasks=0)
