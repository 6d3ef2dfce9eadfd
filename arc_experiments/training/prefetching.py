"""Batches made ahead of the training, in a thread: while a step computes, the next step's batches are made."""

import threading
from collections.abc import Iterator
from queue import Full, Queue
from typing import Any

LOOK_SECONDS = 0.1  # how often a thread that has nothing to do looks whether it is to end


class Ahead(Iterator[Any]):
    """The batches of an iterator, in its order; what it raises is raised when its turn comes.

    Args:
        batches: the first is taken in the calling thread, which so starts a DataLoader's worker processes.
        depth: so many batches are made ahead.
    """

    def __init__(self, batches: Iterator[Any], *, depth: int) -> None:
        self.batches = batches
        self._queue: Queue[tuple[Any, BaseException | None]] = Queue(depth)
        self._closed = threading.Event()
        self._put_next()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __next__(self) -> Any:
        batch, error = self._queue.get()
        if error is not None:
            self._queue.put((None, error))  # for whoever asks again
            raise error
        return batch

    def close(self) -> None:
        """End the thread; batches that were made ahead are dropped."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closed.is_set() and self._put_next():
            pass

    def _put_next(self) -> bool:
        """Make one batch; says whether there may be more."""
        item: tuple[Any, BaseException | None]
        try:
            item = (next(self.batches), None)
        except BaseException as error:  # noqa: BLE001 (raised in the thread that asks, StopIteration too)
            item = (None, error)
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=LOOK_SECONDS)
                break
            except Full:
                pass
        return item[1] is None
