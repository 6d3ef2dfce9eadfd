"""Functions of the user's in place of a selection rule or a schedule: found, checked, and used."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import ones
from torch.optim import SGD

from arc_experiments.augmentation import augment
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.user_code.files import code_files
from arc_experiments.scoring.selection import Ranked, in_order, rule_named
from arc_experiments.tasks import Task
from arc_experiments.training.schedules import own_shares, schedule_of

MODULE = """
def largest(grids):
    return sorted(grids, key=lambda ranked: -ranked.grid.size)

def first_only(grids):
    return grids[:1]

def stairs(step, *, warmup_steps, max_steps):
    return 0.5 ** (4 * step // max_steps)

def negative(step, *, warmup_steps, max_steps):
    return -1

def of_steps(step):
    return 1.0
"""
CLASSES = """
from dataclasses import dataclass

class Plain:
    def draw(self, task, rng):
        return None

@dataclass
class NoDraw:
    size: int = 1

@dataclass
class FewArguments:
    def draw(self, task):
        return None

@dataclass
class ReturnsTask:
    def draw(self, task, rng):
        return task
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_functions_here.py").write_text(MODULE)
    (folder / "own_classes_here.py").write_text(CLASSES)
    (folder / "own_broken.py").write_text("x = 1\ny = 1 / 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "own_functions_here.py"


def ranked(size: int, votes: int, view: int = 0) -> Ranked:
    grid = np.zeros((size, size), np.uint8)
    return Ranked(grid=grid, votes=votes, log_probability=0.0, sum_log_probability=0.0, views=(view,))


def test_a_rule_of_the_users_orders_the_grids_and_ties_go_by_votes() -> None:
    grids = [ranked(2, votes=1, view=0), ranked(3, votes=1), ranked(2, votes=5, view=1)]
    order = in_order(grids, rule_named("own_functions_here.largest"))
    assert [(each.grid.shape[0], each.votes) for each in order] == [(3, 1), (2, 5), (2, 1)]


def test_a_rule_that_loses_grids_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"own_functions_here\.first_only must return .* 2 and returned 1"):
        rule_named("own_functions_here.first_only")([ranked(1, 1), ranked(2, 1)])


def test_a_schedule_of_the_users_gives_each_group_its_share() -> None:
    optim = check(compose_config(["experiment=smoke", "optim.schedule=own_functions_here.stairs"])).optim
    shares = own_shares(optim)
    assert shares is not None
    groups = [{"params": [ones(1)], "lr": 1.0}, {"params": [ones(1)], "lr": 2.0}]
    optimizer = SGD(groups)
    schedule = schedule_of(shares, optimizer, warmup_steps=0, max_steps=8)
    rates = []
    for _ in range(8):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    assert rates == [[share, 2 * share] for share in (1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125)]


def test_a_schedule_that_returns_no_share_is_refused_by_name_and_step() -> None:
    optim = check(compose_config(["experiment=smoke", "optim.schedule=own_functions_here.negative"])).optim
    shares = own_shares(optim)
    assert shares is not None
    with pytest.raises(
        ValueError, match=r"optim\.schedule=own_functions_here\.negative .* -1 for step 3 of 8"
    ):
        shares(3, warmup_steps=0, max_steps=8)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("inference.selection=best", ["is not one of", "majority_vote", "<module>.<function>"]),
        ("inference.selection=not_there.best", ["inference.selection=not_there.best: No module named"]),
        ("inference.selection=own_functions_here.best", ["_here.py has no function best", "largest, "]),
        ("inference.selection=own_broken.best", ["inference.selection: ", "own_broken.py, line 2: Zero"]),
        ("optim.schedule=own_functions_here.of_steps", [
            "optim.schedule=own_functions_here.of_steps: ", "own_functions_here.py, line 14: of_steps(step)",
            "of_steps(step, warmup_steps=..., max_steps=...)",
        ]),
        ("optim.schedule=own_functions_here.stairs optim.cycles=3", ["optim.cycles=3"]),
        ("+augmentation.mine._target_=own_classes_here.Missing", [
            "augmentation.mine: _target_=own_classes_here.Missing: ", "_classes_here.py has no class Missing",
            "It has: Plain, NoDraw, FewArguments, ReturnsTask",
        ]),
        ("+augmentation.mine._target_=own_classes_here.Plain", [
            "augmentation.mine: ", "own_classes_here.py, line 4: Plain is not a dataclass: write @dataclass",
        ]),
        ("+augmentation.mine._target_=own_classes_here.NoDraw", [
            "augmentation.mine: ", "own_classes_here.py, line 8: NoDraw has no method draw(self, task, rng)",
        ]),
        ("+augmentation.mine._target_=own_classes_here.FewArguments", [
            "augmentation.mine: ", "draw(self, task) cannot be called as draw(task, rng): too many",
        ]),
        ("data.source._target_=own_classes_here.NoDraw", ["data.source: ", "no method read(self, "]),
    ],
)  # fmt: skip
def test_a_wrong_name_is_refused_with_key_file_and_line(typed: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["experiment=smoke", *typed.split()])
    for text in said:
        assert text in str(raised.value)


def test_the_functions_files_are_part_of_the_run(module: Path) -> None:
    names = {"inference.selection": "largest", "optim.schedule": "stairs"}
    typed = [f"{key}=own_functions_here.{name}" for key, name in names.items()]
    found = code_files(compose_config(["experiment=smoke", *typed]))
    assert found == {key: {"own_functions_here": module} for key in names}


def test_a_draw_that_returns_no_step_is_refused_with_file_and_line() -> None:
    transform = importlib.import_module("own_classes_here").ReturnsTask()
    with pytest.raises(
        ValueError, match=r"_classes_here\.ReturnsTask: .*\.py, line 19: draw returned <Task a"
    ):
        augment(
            Task.from_lists("a", [([[1]], [[2]])], [([[1]], [[2]])]), [transform], np.random.default_rng(0)
        )
