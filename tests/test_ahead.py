"""Batches ahead: the same in the same order, errors in their turn, nothing left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from arc_experiments.training.prefetching import Ahead


def test_all_batches_come_in_order_and_then_the_end_however_often_it_is_asked_for() -> None:
    ahead = Ahead(iter(range(50)), depth=3)
    assert list(ahead) == list(range(50))
    with pytest.raises(StopIteration):
        next(ahead)
    assert list(Ahead(iter([]), depth=1)) == []


def test_batches_are_made_while_nobody_asks_and_no_more_than_the_depth() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = Ahead(batches(), depth=4)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(made) == 5, "four that wait, and one that has no room yet"
    assert next(ahead) == 0
    ahead.close()


def test_each_batch_is_completed_ahead_of_its_use() -> None:
    completed: list[int] = []
    ahead = Ahead(iter(range(9)), depth=3, then=lambda batch: completed.append(batch) or -batch)
    deadline = time.monotonic() + 5
    while len(completed) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert completed == [0, 1, 2, 3]
    assert list(ahead) == [-number for number in range(9)]


def test_the_first_batch_is_made_by_the_thread_that_asks() -> None:
    makers = []

    def batches() -> Iterator[int]:
        while True:
            makers.append(threading.current_thread())
            yield 1

    ahead = Ahead(batches(), depth=2)
    next(ahead)
    ahead.close()
    assert makers[0] is threading.main_thread()
    assert all(maker is not threading.main_thread() for maker in makers[1:])


def test_an_error_comes_after_the_batches_that_were_made_before_it() -> None:
    def batches() -> Iterator[int]:
        yield from range(3)
        raise ValueError("a bad task")

    ahead = Ahead(batches(), depth=8)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(ValueError, match="a bad task"):
            next(ahead)


def test_closing_ends_the_thread_also_where_batches_wait() -> None:
    others = set(threading.enumerate())  # which may end at any time
    ahead = Ahead(iter(lambda: 1, 2), depth=2)
    (own,) = set(threading.enumerate()) - others
    ahead.close()
    assert not own.is_alive()
