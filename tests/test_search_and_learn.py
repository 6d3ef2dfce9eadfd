"""Search and learn: what is relabelled, what a round adds, and that a killed search loses nothing."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_tools import VARYING, predictions
from program_tools import DRAWINGS, SETTINGS, learnt_by_heart
from quick_compose import compose
from rich.console import Console

from arc_experiments.adaptation.results import Ending
from arc_experiments.config.check import ConfigError
from arc_experiments.jobs import adapt
from arc_experiments.programs.sandbox import Sandbox
from arc_experiments.report.versus import write_versus
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.search_and_learn.relabelling import Relabelled, Written, best_last, relabel
from arc_experiments.search_and_learn.searcher import Searcher
from arc_experiments.tasks import Pair, Program, Task

CANVAS = np.zeros((3, 4), np.uint8)
TASK = Task(
    id="drawing", train=(Pair(input=CANVAS, output=CANVAS + 1),), test=(Pair(input=CANVAS, output=None),)
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(num_processes=1) as opened:
        yield opened


def written(text: str, view: int = 0) -> Written:
    return Written(view=view, program=Program(language="draw", text=text))


def relabelled(sandbox: Sandbox, *programs: Written, most: int = 8, joined: int = 0) -> list[Relabelled]:
    return relabel({0: TASK, 1: TASK}, programs, sandbox, most=most, joined=joined)


def texts(found: list[Relabelled]) -> list[str]:
    return [one.task.program.text for one in found if one.task.program is not None]


def test_a_wrong_program_solves_the_task_of_its_own_outputs(sandbox: Sandbox) -> None:
    [found] = relabelled(sandbox, written("pixel(5,0,3)"))
    expected = CANVAS.copy()
    expected[0, 3] = 5
    for pair in (*found.task.train, *found.task.test):
        assert np.array_equal(pair.input, CANVAS)
        assert pair.output is not None
        assert np.array_equal(pair.output, expected)
    assert found.task.program == Program(language="draw", text="pixel(5,0,3)")


def test_programs_that_fail_or_change_nothing_teach_nothing(sandbox: Sandbox) -> None:
    assert relabelled(sandbox, written("circle(1,1)"), written("pixel(0,0,0)")) == []


def test_of_programs_that_do_the_same_the_shortest_is_kept(sandbox: Sandbox) -> None:
    long, short = written("pixel(3,0,0)\npixel(5,0,0)"), written("pixel(5,0,0)")
    assert texts(relabelled(sandbox, long, short, long)) == ["pixel(5,0,0)"]


def test_the_best_programs_are_kept_and_come_last(sandbox: Sandbox) -> None:
    right = [f"line(1,0,0,0,{last})" for last in (1, 3, 2)]  # the expected output is all ones
    found = relabelled(sandbox, written("pixel(9,0,0)"), *map(written, right), most=3)
    assert texts(found) == [right[0], right[2], right[1]]
    other = relabelled(sandbox, written("line(1,0,0,2,0)"), written("rect(1,0,0,2,3)"))
    names = [task.program.text for task in best_last([found, other]) if task.program is not None]
    assert names == [right[0], right[2], "line(1,0,0,2,0)", right[1], "rect(1,0,0,2,3)"]


def test_several_programs_in_one_are_added_where_they_give_something_new_the_best_last(
    sandbox: Sandbox,
) -> None:
    parts = ["line(1,0,0,2,0)", "line(1,0,1,0,3)", "pixel(9,2,3)"]
    found = relabelled(sandbox, *map(written, parts), joined=8)
    assert texts(found) == [
        "pixel(9,2,3)",
        "line(1,0,0,2,0)\npixel(9,2,3)",
        "line(1,0,1,0,3)\npixel(9,2,3)",
        "line(1,0,0,2,0)",
        "line(1,0,1,0,3)",
        "line(1,0,0,2,0)\nline(1,0,1,0,3)\npixel(9,2,3)",
        "line(1,0,0,2,0)\nline(1,0,1,0,3)",
    ]
    best = relabelled(sandbox, *map(written, parts), most=2, joined=1)
    assert texts(best) == [*parts[:2], "line(1,0,0,2,0)\nline(1,0,1,0,3)"]
    expected = CANVAS.copy()
    expected[:, 0] = expected[0] = 1
    assert np.array_equal(best[-1].task.test[0].output, expected)
    known = [*parts, texts(found)[-1]]
    again = texts(relabelled(sandbox, *map(written, known), joined=8))
    assert sorted(again) == sorted(texts(found)), "outputs of known programs come once"


def test_programs_of_different_views_are_not_joined(sandbox: Sandbox) -> None:
    assert len(relabelled(sandbox, written("pixel(1,0,0)"), written("pixel(1,2,2)", view=1), joined=8)) == 2


OPTIONS = [
    *DRAWINGS, *SETTINGS, "job=adapt", "adapt.method=search_and_learn", "adapt.mode=joint", "adapt.rounds=3",
    "adapt.programs=24", "inference.temperature=1.2", "inference.limit=null", "optim.max_steps=4",
    "optim.batch_size=2", "optim.learning_rate=1e-3", "adapt.joined=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> list[str]:
    """A model that knows one of the four drawings."""
    return learnt_by_heart(number=1)


def searched(folder: Path, model: list[str], *overrides: str, printed: io.StringIO | None = None) -> Run:
    torch.set_num_threads(1)
    run = compose([*OPTIONS, *model, *overrides], folder)
    adapt.main(run, Console(file=printed or io.StringIO(), width=200))
    return run


@pytest.fixture(scope="module")
def finished(model: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return searched(tmp_path_factory.mktemp("finished") / "run", model)


@pytest.fixture(scope="module")
def control(model: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """The same in one round, and what it printed."""
    printed = io.StringIO()
    run = searched(tmp_path_factory.mktemp("control") / "run", model, "adapt.rounds=1", printed=printed)
    return run, printed.getvalue()


def lasting(run: Run) -> dict[str, Any]:
    metrics = run.folder.read_json("metrics.json")
    return {name: value for name, value in metrics.items() if name not in VARYING}


def rounds_of(run: Run) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = run.folder.read_json("metrics.json")["adaptation"]["rounds"]
    return rounds


def test_a_round_trains_on_relabelled_programs_and_asks_for_unsolved_tasks_only(finished: Run) -> None:
    first, *later = rounds_of(finished)
    assert (first["programs"], first["relabelled"], first["steps"]) == (4 * 8, 0, 0)
    assert first["solved"] >= 1, "the drawing that the model knows"
    before = first
    for each in later:
        assert each["programs"] == before["programs"] + 8 * (4 - before["solved"])
        assert each["relabelled"] > 0
        assert each["steps"] == 4
        before = each


def test_every_program_is_paid_for_once(finished: Run) -> None:
    programs = {(one["task"], one["sample"]): one["num_tokens"] for one in predictions(finished)}
    prompts = {one.task_id: len(one.ids) for one in finished.requests if one.ids is not None}
    cost = finished.folder.read_json("metrics.json")["cost"]
    assert cost["generated_tokens"] == sum(programs.values())
    asked = {(task_id, sample // 8) for task_id, sample in programs}
    assert cost["prompt_tokens"] == sum(prompts[task_id] for task_id, _ in asked)


def test_page_and_terminal_tell_the_rounds_and_two_searches_share_a_chart(
    finished: Run, control: tuple[Run, str]
) -> None:
    page = (finished.folder / "report.html").read_text()
    _, second, *_ = rounds_of(finished)
    assert "Search and learn" in page
    assert '<th scope="row">adapt.<wbr>rounds</th><td>3</td>' in page
    assert "programs spent on a task" in page
    assert f"trained on {plural(second['relabelled'], 'relabelled program')} in 4 steps, " in page
    run, printed = control
    assert "search       all tasks together, 1 round of 24 programs for each task; 4 steps" in printed
    assert f"round 1: {4 * 24} programs so far, " in printed
    assert re.search(rf"search +\S+, round 1: {4 * 24} programs so far, ", printed), "as it ends"
    tasks = run.predicted_tasks()
    against = write_versus(finished.folder.path, tasks, run.folder.path, tasks).read_text()
    assert '<th scope="row">adapt.rounds</th><td>1</td><td>3</td>' in against
    assert f"A: {run.folder.path.name}" in against
    assert "tasks with a verified program" in against


def test_one_round_is_the_control_and_each_sample_is_what_it_is_in_one_round(
    finished: Run, control: tuple[Run, str]
) -> None:
    assert [each["programs"] for each in rounds_of(control[0])] == [4 * 24]
    ours, theirs = (
        {
            (line["task"], line["sample"]): line["program"]["text"]
            for line in predictions(run)
            if line["sample"] < 8
        }
        for run in (finished, control[0])
    )
    assert ours == theirs, "the first round's"


def test_programs_in_a_language_that_does_not_join_them_are_refused_before_anything_is_written(
    model: list[str], tmp_path: Path
) -> None:
    run = compose([*OPTIONS, *model, "adapt.joined=4", "prompt.language=dsl"], tmp_path / "run")
    with pytest.raises(ValueError, match=r"adapt\.joined=4: programs in dsl are not joined"):
        adapt.main(run, Console(file=io.StringIO()))
    assert not (tmp_path / "run" / "predictions.jsonl").exists()


@pytest.mark.slow
def test_a_search_that_is_stopped_anywhere_ends_as_if_it_had_not_been(
    finished: Run, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each training, and after each before its programs, and resumed each time."""
    passed = set()
    learn = Searcher._learn

    def stop_once(moment: str) -> None:
        if moment not in passed:
            passed.add(moment)
            raise KeyboardInterrupt

    def stops(self: Searcher, group: Any, programs: Any, place: str) -> Any:
        stop_once(f"before {place}")
        found = learn(self, group, programs, place)
        stop_once(f"after {place}")
        return found

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "_learn", stops)
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                searched(folder, model)
        assert lasting(searched(folder, model)) == lasting(finished)
    assert len(passed) == 4, "two trainings"
    for name in ("predictions.jsonl", "submission.json", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()


@pytest.mark.slow
def test_a_search_whose_training_diverges_keeps_the_rounds_before_and_the_weights_that_wrote_them(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = searched(tmp_path / "two", model, "adapt.rounds=2", "adapt.programs=16")
    learn = Searcher._learn

    def diverges(self: Searcher, group: Any, programs: Any, place: str) -> Any:
        found = learn(self, group, programs, place)
        return (0, Ending.DIVERGED, None) if place.endswith("round-3") else found

    monkeypatch.setattr(Searcher, "_learn", diverges)
    printed = io.StringIO()
    three = searched(tmp_path / "three", model, printed=printed)
    assert len(rounds_of(three)) == len(rounds_of(two)) == 2
    assert "not adapted to the end: a guard stopped it" in printed.getvalue()
    for name in ("predictions.jsonl", "submission.json", "model/model.safetensors"):
        assert (three.folder / name).read_bytes() == (two.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prompt=compact"], "it searches for programs"),
        (["inference.temperature=0"], "set inference.temperature=0.9"),
        (["adapt.programs=25"], "adapt.programs=25 cannot be shared out .* take 24"),
        (["adapt.method=fine_tune"], "adapt.method=search_and_learn"),
        (
            ["adapt.method=fine_tune", "adapt.programs=null", "adapt.joined=4"],
            "nothing writes programs that could be joined",
        ),
    ],
)
def test_what_a_search_cannot_do_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([*OPTIONS, *overrides], tmp_path / "run")
