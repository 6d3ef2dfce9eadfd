"""Views: a task seen in several ways, with an exact way back for every answer that has one."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState
from hypothesis import given
from hypothesis import strategies as st
from toy_grids import grid, grids
from transformers import AutoTokenizer

from arc_experiments.augmentation import View, draw_views
from arc_experiments.augmentation.steps import SYMMETRIES, Magnified, OneSided, PairOrder, Step, Symmetry
from arc_experiments.generation.engine import Answer
from arc_experiments.generation.predict import Predictor, Way
from arc_experiments.generation.requests import Request
from arc_experiments.prompts import GridText, Prompt
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid

TINY = Path(__file__).parents[1] / "arc_experiments" / "assets" / "tiny"


ASYMMETRIC = grid("120", "003")
TASK = Task(
    id="toy",
    train=(Pair(input=ASYMMETRIC, output=grid("4")), Pair(input=grid("56"), output=grid("7", "0"))),
    test=(Pair(input=grid("89", "01"), output=ASYMMETRIC), Pair(input=grid("2"), output=None)),
)


def digest(task: Task) -> str:
    return TaskSet([task]).hash()


def test_view_0_is_the_task_as_it_is() -> None:
    view = draw_views(TASK, 8, 1)[0]
    assert view.name == "identity"
    assert view.apply(TASK) is TASK
    assert view.undo(ASYMMETRIC) is ASYMMETRIC


def test_more_views_keep_the_first_ones() -> None:
    few, many = draw_views(TASK, 5, 1), draw_views(TASK, 20, 1)
    assert [view.name for view in many[:5]] == [view.name for view in few]
    assert [view.index for view in many] == list(range(20))
    assert [digest(view.apply(TASK)) for view in many[:5]] == [digest(view.apply(TASK)) for view in few]


def test_eight_views_hold_all_eight_symmetries() -> None:
    assert [view.name.split()[0] for view in draw_views(TASK, 8, 1)] == list(SYMMETRIES)


def test_views_differ_by_seed_and_task_and_by_nothing_else() -> None:
    other = Task(id="other", train=TASK.train, test=TASK.test)

    def names(task: Task, seed: int) -> list[str]:
        return [view.name for view in draw_views(task, 8, seed)]

    assert names(TASK, 1) == names(TASK, 1)
    assert len({tuple(names(task, seed)) for task in (TASK, other) for seed in (1, 2)}) == 4


@given(cells=grids(), seed=st.integers(0, 1000), index=st.integers(0, 15))
def test_a_view_undoes_itself_on_every_test_output(cells: Grid, seed: int, index: int) -> None:
    task = Task(
        id="a", train=TASK.train, test=(Pair(input=cells, output=cells), Pair(input=cells, output=cells))
    )
    view = draw_views(task, index + 1, seed)[index]
    made = view.apply(task)
    assert len(made.train) == len(task.train)
    for pair in made.test:
        assert pair.output is not None
        assert np.array_equal(view.undo(pair.output), cells)


def test_a_view_needs_no_solutions() -> None:
    task = TASK.without_solutions()
    made = draw_views(task, 4, 1)[3].apply(task)
    assert [pair.output for pair in made.test] == [None, None]


@pytest.mark.parametrize("step", [OneSided("output", Symmetry(1)), PairOrder((1, 0))])
def test_a_view_refuses_a_step_that_makes_another_task(step: Step) -> None:
    with pytest.raises(ValueError, match=rf"{step.name} makes another task.*in training only"):
        View(index=1, steps=(step,))  # type: ignore[arg-type]


class Canned:
    """An engine that gives these answers."""

    rows_per_prompt = num_samples = 1

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers

    def answer(self, *args: object) -> list[list[Answer]]:
        return [[answer] for answer in self._answers]


def test_an_answer_without_a_way_back_is_an_invalid_candidate(tmp_path: Path) -> None:
    prompt = Prompt(
        tokenizer=AutoTokenizer.from_pretrained(TINY), grid=GridText(), system=None, introduction="",
        demonstration="I{input}O{output}", question="I{input}O", answer="{output}", loss_on="test_output",
        chat=False, max_length=2048,
    )  # fmt: skip
    view = View(index=1, steps=(Symmetry(1), Magnified(2, 1)))
    asked = prompt.encode(view.apply(TASK), with_answer=False)
    requests = [
        Request(task_id=id, test_index=0, view=view, encoded=asked) for id in ("doubled", "not", "ragged")
    ]
    texts = ["12\n12\n", "12\n34\n", "12\n3\n"]
    answers = [
        Answer(ids=tuple(prompt.tokenize(text)), num_tokens=7, log_probability=-1.0, finished=True)
        for text in texts
    ]
    predictor = Predictor(
        prompt, Way(engine=Canned(answers), max_new_tokens=9), batch_tokens=10_000, scoring_views=0, seed=1,
        processes=PartialState(cpu=True), autocast=nullcontext,
    )  # fmt: skip
    candidates = predictor.predict(None, requests, tmp_path / "kept")
    assert [candidate.reason for candidate in candidates] == [None, "not_upscaled", "ragged"]
    assert candidates[0].grid is not None
    assert candidates[0].grid.tolist() == [[1], [2]]
    assert candidates[0].transforms == "rot90 upscale_2x1"
