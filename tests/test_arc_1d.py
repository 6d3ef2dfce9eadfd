"""1D-ARC: generators that depend on the rng alone, or published files."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from task_files import GOOD, write

from arc_experiments.sources import Arc1D
from arc_experiments.tasks import BadTasks
from arc_experiments.tasks.grids import check_grid
from arc_experiments.tasks.rngs import rng_for


@pytest.fixture(scope="module")
def arc_1d() -> Arc1D:
    pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")
    return Arc1D()


def test_every_rule_gives_valid_tasks(arc_1d: Arc1D) -> None:
    assert len(arc_1d.ids) > 60
    for number, task_id in enumerate(arc_1d.ids):
        for visit in range(3):
            task = arc_1d.draw(number, rng_for("test", visit, number))
            pairs = [*task.train, *task.test]
            assert (task.id, len(task.test)) == (task_id, 1)
            assert 3 <= len(task.train) <= 5
            assert len({pair.input.shape for pair in pairs}) == 1
            assert len({pair.input.tobytes() for pair in pairs}) == len(pairs)
            for pair in pairs:
                assert pair.input.shape[0] == 1
                assert 10 <= pair.input.shape[1] <= 30
                assert pair.output is not None
                assert np.array_equal(check_grid(pair.output.tolist()), pair.output)
                assert not np.array_equal(pair.input, pair.output)


def test_tasks_depend_on_the_rng_alone(arc_1d: Arc1D) -> None:
    for number in range(0, len(arc_1d.ids), 7):
        tasks = [arc_1d.draw(number, rng_for("test", seed)).to_json() for seed in (1, 1, 2)]
        assert tasks[0] == tasks[1] != tasks[2]


def test_the_source_travels_to_workers(arc_1d: Arc1D) -> None:
    here = arc_1d.draw(20, rng_for("test", 1)).to_json()
    assert pickle.loads(pickle.dumps(arc_1d)).draw(20, rng_for("test", 1)).to_json() == here


def test_length_and_number_of_demonstrations_can_be_chosen(arc_1d: Arc1D) -> None:
    for number in range(len(arc_1d.ids)):
        task = Arc1D(num_cells=[8, 8], num_demonstrations=[1, 1]).draw(number, rng_for("test", number))
        assert (task.train[0].input.shape, len(task.train)) == ((1, 8), 1)


def test_published_files_are_read_instead(tmp_path: Path) -> None:
    write(tmp_path, "1d_fill/1d_fill_0.json", GOOD)
    source = Arc1D(path=str(tmp_path)).read(BadTasks())
    assert [(task.id, task.split) for task in source.fixed] == [("1d_fill_0", "1d_fill")]


@pytest.mark.parametrize(
    "options",
    [{"num_cells": [7, 20]}, {"num_cells": [10, 31]}, {"num_cells": [9, 8]}, {"num_demonstrations": [0, 1]}],
)
def test_bad_options_are_refused(options: dict[str, list[int]]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}=.* is not"):
        Arc1D(**options)  # type: ignore[arg-type]


def test_without_reasoning_gym_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from arc_experiments.sources.arc_1d import _generators

    for name in ["reasoning_gym", *[name for name in sys.modules if name.startswith("reasoning_gym.")]]:
        monkeypatch.setitem(sys.modules, name, None)
    _generators.cache_clear()
    with pytest.raises(ValueError, match=r"data=arc_1d needs reasoning-gym .*pip install"):
        Arc1D().ids  # noqa: B018
