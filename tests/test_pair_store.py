"""Stores of pairs: what is written reads back, completely or not at all, however the writing ends."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_grids import grids

from arc_experiments.sources.pools.pair_store import (
    CELLS,
    HEADER,
    INDEX,
    TEXTS,
    DamagedStore,
    PairStore,
    StoreWriter,
    open_or_make,
    pack,
)  # fmt: skip
from arc_experiments.sources.pools.pooled import PooledTasks, pooled
from arc_experiments.tasks import BadTasks, Pair, TaskSet
from arc_experiments.tasks.rngs import rng_for


def toy_pair(number: int, side: int = 2) -> Pair:
    """Pairs that differ by number."""
    rng = rng_for("toy pair", 0, number)
    return Pair(
        input=rng.integers(0, 10, (side, side + 1), dtype=np.uint8),
        output=rng.integers(0, 10, (side, side), dtype=np.uint8),
    )


TOY = {"a": [toy_pair(n) for n in range(6)], "b": [toy_pair(n, 5) for n in range(10, 19)]}


def fill(writer: StoreWriter, tasks: dict[str, list[Pair]]) -> None:
    for task_id, pairs in tasks.items():
        writer.add(task_id, pack(pairs))
    writer.finish({"told": 1})


def toy_store(folder: Path, tasks: dict[str, list[Pair]] = TOY) -> PairStore:
    return open_or_make("toy", {"of": "this test"}, partial(fill, tasks=tasks), str(folder))


def cells_of(pair: Pair) -> tuple[object, object]:
    assert pair.output is not None
    return pair.input.tolist(), pair.output.tolist()


def test_texts_are_kept_by_task(tmp_path: Path) -> None:
    texts = {"a": "def f():\n    return 'ä'", "b": "", "c": "x"}

    def make(writer: StoreWriter) -> None:
        for task_id, text in texts.items():
            writer.add(task_id, pack(TOY["a"]), text)
        writer.finish({})

    open_or_make("texts", {}, make, str(tmp_path))
    store = pickle.loads(pickle.dumps(open_or_make("texts", {}, make, str(tmp_path))))
    assert {task_id: store.text(task_id) for task_id in texts} == texts
    (store.path / TEXTS).write_text("cut")
    with pytest.raises(DamagedStore, match=r"texts\.bin does not have the 25 bytes"):
        PairStore(store.path)
    assert toy_store(tmp_path).text("a") == ""


@settings(max_examples=30)
@given(tasks=st.lists(st.lists(st.tuples(grids(), grids()), max_size=4), min_size=1, max_size=4))
def test_what_is_written_reads_back(
    tasks: list[list[tuple[np.ndarray, np.ndarray]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = {
        str(number): [Pair(input=shown, output=answer) for shown, answer in pairs]
        for number, pairs in enumerate(tasks)
    }
    folder = tmp_path_factory.mktemp("cache")
    if not any(tasks):
        with pytest.raises(ValueError, match="no pairs of grids"):
            toy_store(folder, written)
        return
    store = toy_store(folder, written)
    assert store.ids == tuple(written)
    assert np.diff(store.starts).tolist() == [len(pairs) for pairs in tasks]
    read = [store.pair(number) for number in range(len(store))]
    assert [cells_of(pair) for pair in read] == [cells_of(p) for pairs in written.values() for p in pairs]
    assert all(pair.input.dtype == np.uint8 for pair in read)


def test_a_store_says_what_it_was_made_from_and_what_was_noted(tmp_path: Path) -> None:
    store = toy_store(tmp_path)
    assert store.key == {"of": "this test"}
    assert store.notes == {"told": 1}


def test_a_pair_that_was_read_can_be_changed_without_the_store_changing(tmp_path: Path) -> None:
    store = toy_store(tmp_path)
    store.pair(0).input[:] = 9
    assert cells_of(store.pair(0)) == cells_of(TOY["a"][0])


def test_two_tasks_with_one_id_are_refused(tmp_path: Path) -> None:
    def twice(writer: StoreWriter) -> None:
        writer.add("a", pack(TOY["a"]))
        fill(writer, TOY)

    with pytest.raises(ValueError, match="found twice: a"):
        open_or_make("toy", {}, twice, str(tmp_path))


def test_another_key_is_another_store(tmp_path: Path) -> None:
    first = open_or_make("toy", {"seed": 1}, partial(fill, tasks=TOY), str(tmp_path))
    second = open_or_make("toy", {"seed": 2}, partial(fill, tasks=TOY), str(tmp_path))
    assert first.path != second.path


def test_a_store_is_made_once(tmp_path: Path) -> None:
    toy_store(tmp_path)
    again = open_or_make("toy", {"of": "this test"}, lambda writer: pytest.fail("made again"), str(tmp_path))
    assert len(again) == 15


def test_an_error_in_the_making_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(writer: StoreWriter) -> None:
        writer.add("a", pack(TOY["a"]))
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        open_or_make("toy", {}, fail, str(tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"the cache .*/file/sub/toy-.* cannot be made: .*cache_dir"):
        toy_store(tmp_path / "file" / "sub")


def test_the_default_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = open_or_make("toy", {}, partial(fill, tasks=TOY))
    assert store.path.parent == tmp_path / "arc_experiments"


# Torn stores


def cut(name: str, path: Path) -> None:
    (path / name).write_bytes((path / name).read_bytes()[:-1])


def change_header(path: Path, **changes: object) -> None:
    (path / HEADER).write_text(json.dumps(json.loads((path / HEADER).read_text()) | changes))


TEARS = {
    "cells cut short": partial(cut, CELLS),
    "index cut short": partial(cut, INDEX),
    "header cut short": partial(cut, HEADER),
    "no header": lambda path: (path / HEADER).unlink(),
    "no cells": lambda path: (path / CELLS).unlink(),
    "empty files": lambda path: [file.write_bytes(b"") for file in path.iterdir()],
    "a header of nothing": lambda path: (path / HEADER).write_text("[]"),
    "another format": lambda path: change_header(path, format=0),
    "other counts": lambda path: change_header(path, counts=[6, 8]),
}


@pytest.mark.parametrize("tear", TEARS.values(), ids=list(TEARS))
def test_a_torn_store_is_refused_and_made_again(tear: object, tmp_path: Path) -> None:
    path = toy_store(tmp_path).path
    tear(path)  # type: ignore[operator]
    with pytest.raises((DamagedStore, FileNotFoundError)):
        PairStore(path)
    store = toy_store(tmp_path)
    assert [cells_of(store.pair(n)) for n in range(15)] == [cells_of(p) for p in (*TOY["a"], *TOY["b"])]


@pytest.mark.parametrize(
    ("name", "place", "value"), [(CELLS, 3, 10), (INDEX, 8, 0), (INDEX, 8, 31), (INDEX, 7, 9)]
)
def test_a_pair_of_a_damaged_store_is_refused(name: str, place: int, value: int, tmp_path: Path) -> None:
    path = toy_store(tmp_path).path
    damaged = bytearray((path / name).read_bytes())
    damaged[place] = value
    (path / name).write_bytes(damaged)
    store = PairStore(path)
    assert cells_of(store.pair(1)) == cells_of(TOY["a"][1])
    with pytest.raises(DamagedStore, match=r"is damaged \(pair 0\): remove the folder"):
        store.pair(0)


# Several processes


MAKER = """
import sys, time
from pathlib import Path
from test_pair_store import TOY, fill, toy_store
from arc_experiments.sources.pools.pair_store import open_or_make, pack

folder = Path(sys.argv[1])
def make(writer):
    with (folder / "made").open("a") as made:
        made.write("x")
    writer.add("a", pack(TOY["a"]))
    time.sleep(float(sys.argv[2]))
    writer.add("b", pack(TOY["b"]))
    writer.finish({})
store = open_or_make("toy", {"of": "this test"}, make, str(folder / "cache"))
print(len(store))
"""


def start_maker(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.getcwd()])}
    command = [sys.executable, "-c", MAKER, str(folder), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_of_two_processes_one_makes_and_the_other_waits_for_it(tmp_path: Path) -> None:
    makers = [start_maker(tmp_path, 1.0) for _ in range(2)]
    assert [maker.communicate(timeout=30)[0] for maker in makers] == ["15\n", "15\n"]
    assert (tmp_path / "made").read_text() == "x", "made once"


def test_what_a_killed_process_leaves_is_not_taken_for_whole(tmp_path: Path) -> None:
    killed, waiting = start_maker(tmp_path, 60), None
    wait_for(tmp_path / "made")
    waiting = start_maker(tmp_path, 0)
    time.sleep(0.5)
    os.kill(killed.pid, signal.SIGKILL)
    assert waiting.communicate(timeout=30)[0] == "15\n", "the next one goes on"
    killed.communicate()
    assert (tmp_path / "made").read_text() == "xx"
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == ["", ".lock"]


# Tasks over a store


def drawn(store: PairStore, *, low: int = 3, high: int = 5, max_side: int = 30) -> PooledTasks:
    return PooledTasks(store=store, split="toy", num_demonstrations=(low, high), max_side=max_side)


def test_a_visit_draws_different_pairs_and_the_last_is_the_test(tmp_path: Path) -> None:
    tasks = drawn(toy_store(tmp_path))
    assert tasks.ids == ("a", "b")
    assert len(tasks.fixed) == 0
    lengths, tests = set(), set()
    for visit in range(100):
        task = tasks.draw(1, rng_for("test", visit))
        shown = [str(cells_of(pair)) for pair in (*task.train, *task.test)]
        assert len(set(shown)) == len(shown)
        assert set(shown) <= {str(cells_of(pair)) for pair in TOY["b"]}
        assert (task.id, task.split, len(task.test)) == ("b", "toy", 1)
        lengths.add(len(task.train))
        tests.add(shown[-1])
    assert lengths == {3, 4, 5}
    assert len(tests) == 9, "each pair is the test now and then"


def test_a_visit_depends_on_its_rng_alone_also_after_pickling(tmp_path: Path) -> None:
    tasks = drawn(toy_store(tmp_path))
    first = TaskSet([tasks.draw(0, rng_for("test", 1))]).hash()
    tasks.draw(1, rng_for("test", 2))
    pickled = pickle.dumps(tasks)
    assert len(pickled) < 1000, "the path and no data"
    assert TaskSet([pickle.loads(pickled).draw(0, rng_for("test", 1))]).hash() == first


def test_the_pairs_of_a_task_are_all_that_are_kept_of_it(tmp_path: Path) -> None:
    tasks = drawn(toy_store(tmp_path))
    assert [cells_of(pair) for pair in tasks.pairs(0)] == [cells_of(pair) for pair in TOY["a"]]


def test_a_task_with_fewer_pairs_than_the_most_gives_all_that_it_has(tmp_path: Path) -> None:
    tasks = drawn(toy_store(tmp_path), low=5, high=8)
    assert {len(tasks.draw(0, rng_for("test", visit)).train) for visit in range(20)} == {5}


def test_tasks_with_too_few_pairs_are_left_out_and_noted(tmp_path: Path) -> None:
    bad_tasks = BadTasks()
    store = toy_store(tmp_path)
    options = {"split": "toy", "num_demonstrations": [3, 5], "max_side": 4}
    tasks = pooled(store, bad_tasks, leave_out=[], **options)  # type: ignore[arg-type]
    assert tasks.ids == ("a",)
    assert bad_tasks.notes == [
        "1 of 2 tasks has fewer than 4 pairs of at most 4 cells a side and is never drawn: b"
    ]
    with pytest.raises(ValueError, match="none of 2 tasks has 4 pairs of at most 4 cells a side"):
        pooled(store, bad_tasks, leave_out=["a"], **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leave_out names c, which is not among 2 tasks"):
        pooled(store, bad_tasks, leave_out=["c"], **options)  # type: ignore[arg-type]


def test_pairs_with_large_grids_are_not_drawn(tmp_path: Path) -> None:
    mixed = {"a": [toy_pair(n, 2 + 3 * (n % 2)) for n in range(12)]}
    tasks = drawn(toy_store(tmp_path, mixed), max_side=4)
    for visit in range(20):
        task = tasks.draw(0, rng_for("test", visit))
        assert max(max(pair.input.shape) for pair in (*task.train, *task.test)) == 3
    assert len(list(tasks.pairs(0))) == 6


def test_tasks_that_are_left_out_are_not_drawn(tmp_path: Path) -> None:
    tasks = PooledTasks(store=toy_store(tmp_path), split="toy", num_demonstrations=(3, 5), leave_out=("a",))
    assert tasks.ids == ("b",)
    assert tasks.too_few == ()
    assert tasks.draw(0, rng_for("test", 1)).id == "b"


# A large store


READER = """
import resource, sys, time
start = time.perf_counter()
from pathlib import Path
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.sources.pools.pair_store import PairStore
from arc_experiments.sources.pools.pooled import PooledTasks
tasks = PooledTasks(store=PairStore(Path(sys.argv[1])), split="", num_demonstrations=(3, 5))
tasks.draw(0, rng_for("first", 0))
print(time.perf_counter() - start)
for visit in range(40_000):
    tasks.draw(visit % 400, rng_for("test", visit))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_400_tasks_of_1000_pairs_start_at_once_and_take_little_memory(tmp_path: Path) -> None:
    def make(writer: StoreWriter) -> None:
        rng = rng_for("large store", 0)
        for number in range(400):
            sides = rng.integers(3, 31, (1000, 4), dtype=np.uint8)
            wide = sides.astype(np.int64)
            size = int((wide[:, 0] * wide[:, 1] + wide[:, 2] * wide[:, 3]).sum())
            writer.add(f"{number:03}", (sides, rng.integers(0, 10, size, dtype=np.uint8)))
        writer.finish({})

    store = open_or_make("large", {}, make, str(tmp_path))
    command = [sys.executable, "-c", READER, str(store.path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, peak_bytes = map(float, answer.split())
    assert seconds < 5
    assert peak_bytes < 1.5e9
