"""Count the bytes that tensors hold at the same time."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is held by tensors that operations in this context make; with fake tensors, what would be.

    Args:
        known: tensors that are there already, which do not count.

    Attributes:
        peak: the most bytes at once so far.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(each.untyped_storage() for each in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._now -= size


def _tensors(made: Any) -> Iterator[torch.Tensor]:
    """What an operation has made: a tensor, or lists of some."""
    if isinstance(made, torch.Tensor):
        yield made
    elif isinstance(made, list | tuple):
        for one in made:
            yield from _tensors(one)
