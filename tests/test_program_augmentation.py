"""Augmentations carry a task's program along: it is true of the augmented pairs, or the step is left out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_grids import grid

from arc_experiments.augmentation import Colours, Compose, Geometry, Order, Swap, Tile, Translate, Upscale
from arc_experiments.augmentation.augmentations import Transform, augment
from arc_experiments.augmentation.steps import ColourMap, Symmetry
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError, check
from arc_experiments.programs.canvases import painted
from arc_experiments.programs.languages import language
from arc_experiments.programs.languages.draw import read_calls
from arc_experiments.programs.sandbox import Sandbox
from arc_experiments.sources import Drawings, ReArc
from arc_experiments.tasks import BadTasks, Pair, Program, Task

CARRYING = [Geometry(), Colours(background_probability=0.5), Order(), Swap()]


def wrong_pairs(task: Task, sandbox: Sandbox) -> list[int]:
    """The pairs whose input the task's program does not map to the output."""
    assert task.program is not None
    pairs = [*task.train, *task.test]
    (ran,) = sandbox.run([task.program], [[pair.input for pair in pairs]])
    return [
        number
        for number, (pair, outcome) in enumerate(zip(pairs, ran.outcomes, strict=True))
        if not np.array_equal(pair.output, outcome.grid)
    ]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.lists(st.sampled_from(CARRYING), max_size=5))
def test_the_program_of_an_augmented_drawing_draws_it(
    seed: int, num_draws: int, transforms: Sequence[Transform]
) -> None:
    source = Drawings(side=[3, 12], noise=[0.0, 0.3], draws=[1, 8], num_demonstrations=[1, 3])
    task = source.draw(num_draws - 1, np.random.default_rng(seed))
    made = augment(task, transforms, np.random.default_rng(seed), keeps_program=True)
    assert made.num_left_out == 0, "a drawing's program can follow all of these"
    assert made.task.program is not None
    draw = language("draw")
    assert draw.normalise(made.task.program.text) == made.task.program.text
    for pair in (*made.task.train, *made.task.test):
        assert np.array_equal(painted(pair.input, read_calls(made.task.program.text)), pair.output)


@pytest.mark.slow
def test_the_programs_of_augmented_re_arc_tasks_solve_them_in_the_sandbox() -> None:
    source = ReArc(num_demonstrations=[2, 2]).read(BadTasks())
    left_out: Counter[int] = Counter()
    with Sandbox(num_processes=2) as sandbox:
        for number in range(0, len(source.ids), 4):
            task = source.draw(number, np.random.default_rng(number))
            transforms = [Colours(background_probability=0.5), Order(), Swap()]
            made = augment(task, transforms, np.random.default_rng(number), keeps_program=True)
            assert wrong_pairs(made.task, sandbox) == [], (task.id, made.task.program)
            left_out[made.num_left_out] += 1
    assert left_out[0] > 80, "colours are carried into nearly all of these programs"


def test_a_step_that_a_program_cannot_follow_is_left_out_and_counted() -> None:
    pairs = tuple(Pair(input=grid(row), output=grid(row)) for row in ("12", "34", "56"))
    program = Program(language="dsl", text="x1 = vmirror(I)\nO = vmirror(x1)")
    task = Task(id="toy", train=pairs[:2], test=pairs[2:], program=program)
    turn = Geometry()
    rng = np.random.default_rng(0)
    made = [augment(task, [turn, Swap()], rng, keeps_program=True) for _ in range(40)]
    assert {one.num_left_out for one in made} == {1}
    assert {tuple(step.name for step in one.steps) for one in made} == {("swap",)}
    assert {one.task.program for one in made} == {program}
    free = augment(task, [turn], rng)
    assert (free.num_left_out, free.task.program, len(free.steps)) == (0, None, 1)


def test_a_turn_of_inputs_of_several_shapes_is_not_carried() -> None:
    pairs = (Pair(input=grid("11"), output=grid("31")), Pair(input=grid("2", "2"), output=grid("3", "2")))
    task = Task(
        id="toy", train=pairs[:1], test=pairs[1:], program=Program(language="draw", text="pixel(3,0,0)")
    )
    assert task.program is not None
    assert Symmetry(1).carry(task.program, task) is None
    table = np.roll(np.arange(10, dtype=np.uint8), 1)
    assert ColourMap(table).carry(task.program, task) == Program(language="draw", text="pixel(2,0,0)")


def test_only_transforms_that_say_so_carry_programs() -> None:
    carrying = {kind for kind in (Geometry, Colours, Order, Swap, Tile, Translate, Upscale, Compose)
                if getattr(kind, "carries_programs", False)}  # fmt: skip
    assert carrying == {Geometry, Colours, Order, Swap}


@pytest.mark.parametrize("name", ["tile", "translate", "upscale", "compose"])
def test_an_augmentation_that_no_program_can_follow_is_refused(name: str) -> None:
    words = ["data=draw", "prompt=program", f"augmentation=[colours,{name},swap]"]
    with pytest.raises(ConfigError) as raised:
        check(compose_config(words))
    assert f"augmentation has {name}, which no program can follow" in str(raised.value)
    assert "augmentation=[colours,swap]" in str(raised.value)
    check(compose_config([*words[1:], "prompt=arc24"]))
    check(compose_config([*words, "data.augmentation=[colours,swap]"]))


def test_test_time_fine_tuning_on_demonstrations_needs_a_question_about_grids() -> None:
    words = ["data=draw", "prompt=program", "job=adapt"]
    with pytest.raises(
        ConfigError, match=r"job=adapt does not go with prompt\.kinds\.output_from_examples=0"
    ):
        check(compose_config(words))
    check(compose_config([*words, "prompt.kinds.output_from_examples=1"]))
