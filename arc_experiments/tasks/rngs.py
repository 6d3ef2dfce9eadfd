"""Named random streams: a generator is a pure function of its purpose, a seed and a position.

Philox is counter-based, so opening the stream at position 5,000,000 is as cheap as at position 0.
"""

import hashlib

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray


class _Key(ISeedSequence):
    """Pass Philox its key; `Philox(key=...)` is 3 times slower, as it reads entropy that it never uses."""

    def __init__(self, *words: int) -> None:
        self._words = np.array(words, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[np.uint64]:
        assert (n_words, dtype) == (len(self._words), np.uint64)
        return self._words


def _hash(*parts: int | str) -> int:
    """Hash the parts to 64 bits, independently of process, machine and PYTHONHASHSEED."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def rng_for(purpose: str, seed: int, *place: int | str) -> np.random.Generator:
    """Return the generator for (purpose, seed, place): `rng_for("stream", 1, 42)` for sample 42 of seed 1."""
    key = _Key(_hash(purpose, seed), _hash(*place))
    return np.random.Generator(np.random.Philox(key))  # type: ignore[arg-type]  # numpy's annotation is too narrow
