"""Random streams: the same purpose, seed and place give the same numbers, anything else gives others."""

import numpy as np

from arc_experiments.tasks.rngs import rng_for


def test_a_random_stream_depends_on_purpose_seed_and_place_alone() -> None:
    def first(*key: int | str) -> float:
        return float(rng_for(str(key[0]), int(key[1]), *key[2:]).random())

    keys = [
        ("a", 1, 2),
        ("b", 1, 2),
        ("a", 2, 2),
        ("a", 1, 3),
        ("a", 1),
        ("a", 1, 2, 0),
        ("a", 12),
        ("a", 1, "x"),
    ]
    assert len({first(*key) for key in keys}) == len(keys)
    assert [first(*key) for key in keys] == [first(*key) for key in keys]
    assert first("stream", 1, 42) == 0.7161641627297732, "the same for everybody"


def test_random_streams_leave_numpys_global_state_alone() -> None:
    np.random.seed(1)
    first = np.random.random()
    np.random.seed(1)
    rng_for("stream", 1, 42).random()
    assert np.random.random() == first
