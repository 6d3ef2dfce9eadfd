"""Answers that are programs: read, run as the program saw the task, and turned back into candidates."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program_tools import KNOWN, OPTIONS, evaluated, learnt_by_heart
from quick_compose import compose
from task_files import write
from toy_grids import grid
from toy_models import make_base

from arc_experiments.augmentation import View
from arc_experiments.augmentation.steps import ColourMap, DemonstrationOrder, Symmetry
from arc_experiments.generation.engine import Answer
from arc_experiments.generation.reading import ProgramReader, unanswered
from arc_experiments.generation.requests import Request, make_requests
from arc_experiments.programs.sandbox import Ran, Sandbox
from arc_experiments.prompts import Prompt
from arc_experiments.run import PARTIAL_PREDICTIONS, Run
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Program

# Outputs are the input, painted over in colour 3, but for the second demonstration.
PAINTED = Task(
    id="painted",
    train=(
        Pair(input=grid("111", "111"), output=grid("333", "333")),
        Pair(input=grid("22", "22"), output=grid("44", "43")),
    ),
    test=(
        Pair(input=grid("5", "5"), output=grid("3", "3")),
        Pair(input=grid("67", "66"), output=grid("33", "33")),
    ),
)
TURNED = View(index=2, steps=(Symmetry(1), ColourMap(np.array([0, 2, 3, 4, 5, 6, 7, 8, 9, 1], np.uint8))))
REORDERED = View(index=3, steps=(DemonstrationOrder((1, 0, 2, 3)),))


class Recording(Sandbox):
    """A sandbox that remembers which programs it has run."""

    def __init__(self) -> None:
        super().__init__(num_processes=1)
        self.ran: list[str] = []

    def run(self, programs: Sequence[Program], inputs: Sequence[Sequence[Grid]]) -> list[Ran]:
        self.ran += [program.text for program in programs]
        return super().run(programs, inputs)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Recording]:
    with Recording() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    folder = tmp_path_factory.mktemp("prompt")
    base = make_base(folder / "base")
    run = compose([*OPTIONS, f"model.path={base}", "prompt.language=draw"], folder / "run")
    return run.prompt


def asked(prompt: Prompt, *views: View) -> list[Request]:
    """Questions for the program of PAINTED in these views."""
    (plain,) = make_requests(TaskSet([PAINTED]), prompt, num_views=1, seed=1, asked=["program"])

    def seen(pairs: Sequence[Pair], view: View, *, whole: bool) -> tuple[Pair, ...]:
        return tuple(
            Pair(input=view.see(pair.input), output=view.see(pair.output) if whole else None)
            for pair in pairs
        )

    return [
        replace(
            plain,
            view=view,
            seen=Task(
                id=PAINTED.id,
                train=seen(PAINTED.train, view, whole=True),
                test=seen(PAINTED.test, view, whole=False),
            ),
        )
        for view in views
    ]


def read(prompt: Prompt, sandbox: Sandbox, view: View, *texts: str, finished: bool = True) -> list[Candidate]:
    """The candidates of these answers in one view."""
    (request,) = asked(prompt, view)
    answers = [
        Answer(ids=tuple(prompt.tokenize(text)), num_tokens=9, log_probability=-1.0, finished=finished)
        for text in texts
    ]
    (found,) = ProgramReader(sandbox=sandbox).read(prompt, [request], {request.key: answers}, 0)
    return found


# Questions


def test_a_program_is_asked_for_once_a_view_whatever_the_number_of_tests(prompt: Prompt) -> None:
    requests = make_requests(TaskSet([PAINTED]), prompt, num_views=3, seed=1, asked=["program"])
    assert [one.key for one in requests] == [("painted", 0, view, "program") for view in range(3)]
    assert all(list(one.test_indices) == [0, 1] for one in requests)
    blind = TaskSet([PAINTED]).without_solutions()
    for one, other in zip(
        requests, make_requests(blind, prompt, num_views=3, seed=1, asked=["program"]), strict=True
    ):
        assert np.array_equal(one.ids, other.ids)


def test_the_task_is_run_as_the_view_shows_it_in_its_own_order(prompt: Prompt) -> None:
    requests = make_requests(TaskSet([PAINTED]), prompt, num_views=8, seed=1, asked=["program"])
    for one in requests:
        assert one.seen is not None
        shown = one.view.apply(PAINTED.without_solutions())
        assert {pair.input.tobytes() for pair in one.seen.train} == {
            pair.input.tobytes() for pair in shown.train
        }
        assert [pair.output for pair in one.seen.test] == [None, None]
        for pair, own in zip(one.seen.train, PAINTED.train, strict=True):
            assert pair.output is not None
            assert np.array_equal(one.view.undo(pair.output), own.output)


def test_a_program_that_was_not_asked_for_is_invalid_for_every_test(prompt: Prompt) -> None:
    (one,) = asked(prompt, View(index=0))
    assert [(c.test_index, c.reason, c.program) for c in unanswered(one, "too_long")] == [
        (0, "too_long", None), (1, "too_long", None),
    ]  # fmt: skip


# Answers


def test_outputs_are_turned_back_and_there_is_one_for_each_test(prompt: Prompt, sandbox: Recording) -> None:
    found = read(prompt, sandbox, TURNED, "flood(4,0,0)")  # colour 3, as the view shows it
    assert [one.test_index for one in found] == [0, 1]
    grids = [one.grid.tolist() for one in found if one.grid is not None]
    assert grids[0] == [[3], [3]]
    # What is flooded is the cell that the turned view has in its upper left, and those of its colour.
    assert grids[1] == [[6, 3], [6, 6]]
    assert {one.transforms for one in found} == {TURNED.name}


def test_right_demonstrations_and_cells_are_those_of_the_task_in_its_own_order(
    prompt: Prompt, sandbox: Recording
) -> None:
    for view, colour in ((View(index=0), 3), (REORDERED, 3), (TURNED, 4)):
        found = read(prompt, sandbox, view, f"flood({colour},0,0)")
        for one in found:
            assert one.program is not None
            assert one.program.demonstrations == (True, False)
            assert one.program.right_cells == (1 + 0.25) / 2
            assert not one.program.verified


def test_a_program_that_gives_every_demonstration_is_verified(prompt: Prompt, sandbox: Recording) -> None:
    task = replace(PAINTED, train=PAINTED.train[:1])
    (one,) = make_requests(TaskSet([task]), prompt, num_views=1, seed=1, asked=["program"])
    answer = Answer(
        ids=tuple(prompt.tokenize("flood(3,0,0)")), num_tokens=9, log_probability=-1.0, finished=True
    )
    (found,) = ProgramReader(sandbox=sandbox).read(prompt, [one], {one.key: [answer]}, 5)
    assert all(each.program is not None and each.program.verified for each in found)
    assert [each.sample for each in found] == [5, 5]


def test_what_is_no_program_is_kept_as_it_was_written(prompt: Prompt, sandbox: Recording) -> None:
    before = len(sandbox.ran)
    texts = ["", "flood(3,0", "flood(3,0,0"]
    found = read(prompt, sandbox, View(index=0), *texts)
    assert len(found) == 6
    for one in found:
        assert one.grid is None
        assert one.reason in ("no_program", "syntax")
        assert one.program is not None
        assert (one.program.program.text, one.program.reason) == (one.text, one.reason)
        assert one.program.demonstrations == (False, False)
        assert not one.program.is_program
    (cut, _) = read(prompt, sandbox, View(index=0), "flood(3,0,0)", finished=False)
    assert cut.reason == "unfinished"
    assert len(sandbox.ran) == before, "none of them was run"


def test_programs_that_differ_by_their_layout_are_run_once(prompt: Prompt, sandbox: Recording) -> None:
    before = len(sandbox.ran)
    found = read(prompt, sandbox, View(index=0), "flood(3,0,0)", "flood(3, 0, 0)  # all", "flood(4,0,0)")
    assert sandbox.ran[before:] == ["flood(3,0,0)", "flood(4,0,0)"]
    texts = [one.program.program.text for one in found if one.program is not None]
    assert texts == ["flood(3,0,0)"] * 4 + ["flood(4,0,0)"] * 2
    assert found[2].text == "flood(3, 0, 0)  # all"


def test_any_text_is_answered_with_a_candidate(prompt: Prompt, sandbox: Recording) -> None:
    wild = [
        "(" * 5000,
        "\x00",
        "flood(" + "9" * 6000 + ",0,0)",
        "pixel(3)",
        "é\u2028",
        "x = 1",
        "flood(3,0,0)\n" * 500,
    ]
    found = read(prompt, sandbox, View(index=0), *wild)
    assert len(found) == 2 * len(wild)
    assert all((one.grid is None) == (one.reason is not None) for one in found)
    assert [Candidate.from_json(one.to_json()).to_json() for one in found] == [one.to_json() for one in found]


def test_programs_in_python_are_run_as_well(
    sandbox: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("python")
    own = [*OPTIONS, f"model.path={make_base(folder / 'base')}", "prompt=program", "prompt.language=python"]
    prompt = compose(own, folder / "run").prompt
    body = "    return np.full_like(grid, 3)"
    written = f"Here it is:\n```python\nimport numpy as np\ndef transform(grid):  # all of it\n{body}\n```"
    found = read(prompt, sandbox, View(index=0), written, f"def transform(g):\n{body.replace('grid', 'g')}")
    assert [one.grid.tolist() for one in found if one.grid is not None] == [
        pair.output.tolist() for pair in PAINTED.test if pair.output is not None
    ] * 2
    texts = {one.program.program.text for one in found if one.program is not None}
    assert len(texts) == 1, "they have one normal form"


# From the command line to the files


@pytest.fixture(scope="module")
def model() -> list[str]:
    return learnt_by_heart()


SAMPLED = ["inference.num_samples=[2,6]", "inference.temperature=[0.1,1.0]"]


def lines(run: Run, name: str = "predictions.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run.folder / name).read_text(encoding="utf-8").splitlines()]


def test_programs_known_by_heart_are_verified_and_right(model: list[str], tmp_path: Path) -> None:
    run, printed = evaluated(tmp_path / "run", *model, *SAMPLED)
    metrics = run.folder.read_json("metrics.json")
    assert metrics["score"]["pass_at_1"] == KNOWN / 4
    programs = metrics["score"]["programs"]
    assert programs["sampled"] == 4 * 8
    assert programs["verified"] == programs["right"] > 0
    written = lines(run)
    assert [(one["task"], one["sample"]) for one in written] == [
        (task_id, sample) for task_id in run.validation_tasks.ids for sample in range(8)
    ]
    known = {task.id: task.program.text for task in run.validation_tasks if task.program is not None}
    right = [one for one in written if all(one["program"]["demonstrations"])]
    assert {one["task"] for one in right} == set(run.validation_tasks.ids[:KNOWN])
    assert any(one["program"]["text"] == known[one["task"]] for one in right)
    assert "verified" in printed
    assert metrics["cost"]["generated_tokens"] == sum(one["num_tokens"] for one in written)
    shown = {one["task"]: one for one in lines(run, "programs.jsonl") if one["attempts"][0] == [0, 1]}
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for task in list(run.validation_tasks)[:KNOWN]:
        demonstrations = [pair.output.tolist() for pair in task.train if pair.output is not None]
        assert shown[task.id]["outputs"] == demonstrations
    assert page.count("attempt 1: draw, length") == len(shown)
    assert metrics["answered"]["num_tasks_verified"] == KNOWN


def test_tokens_of_a_program_are_counted_once_however_many_tests_its_task_has(
    model: list[str], tmp_path: Path
) -> None:
    pair = {"input": [[1, 1], [1, 1]], "output": [[1, 3], [1, 1]]}
    write(tmp_path / "data", "twice.json", {"train": [pair], "test": [pair, pair, pair]})
    data = ["data=files", f"data.path={tmp_path / 'data'}", "data.partition=all", "prompt.language=draw"]
    run, _ = evaluated(tmp_path / "run", *model, data=data)
    written = lines(run)
    assert [one["test_index"] for one in written] == [0, 1, 2]
    assert run.folder.read_json("metrics.json")["cost"]["generated_tokens"] == written[0]["num_tokens"]


@pytest.mark.slow
def test_a_killed_search_for_programs_goes_on_after_its_last_whole_batch(
    model: list[str], tmp_path: Path
) -> None:
    few = ["inference.batch_tokens=1500", "inference.num_views=3"]
    run = compose([*OPTIONS, "job=evaluate", *model, *SAMPLED, *few], tmp_path / "run")
    loaded = run.model(trainable=False)
    before = [one.to_json() for one in run.predict(loaded)]
    (file,) = (run.folder / PARTIAL_PREDICTIONS).iterdir()
    written = file.read_text().splitlines()
    assert len(written) > 5
    file.write_text("\n".join([*written[:4], written[4][:90]]))  # torn in the middle of a line
    seen: list[int] = []
    again = run.predict(loaded, lambda done, total: seen.append(done), resume=True)
    assert [one.to_json() for one in again] == before
    assert seen[0] == 3


def test_programs_do_not_depend_on_the_size_of_batches(model: list[str], tmp_path: Path) -> None:
    texts = []
    for number, tokens in enumerate((300, 100_000)):
        own = [*OPTIONS, "job=evaluate", *model, *SAMPLED, f"inference.batch_tokens={tokens}"]
        run = compose(own, tmp_path / str(number))
        texts.append([one.text for one in run.predict(run.model(trainable=False))])
    assert texts[0] == texts[1]


def test_later_samples_are_others(model: list[str], tmp_path: Path) -> None:
    run = compose([*OPTIONS, "job=evaluate", *model, *SAMPLED], tmp_path / "run")
    loaded = run.model(trainable=False)
    assert run.num_samples == 8
    first = run.predictor.predict(loaded, run.requests, tmp_path / "first")
    second = run.predictor.predict(loaded, run.requests, tmp_path / "second", first_sample=run.num_samples)
    assert sorted({one.sample for one in second}) == list(range(8, 16))
    assert [one.text for one in first] != [one.text for one in second]


def test_the_threshold_search_finds_the_likely_programs(model: list[str], tmp_path: Path) -> None:
    own = ["inference.engine=threshold", "inference.threshold=0.3"]
    run, _ = evaluated(tmp_path / "run", *model, *own)
    assert run.folder.read_json("metrics.json")["score"]["pass_at_1"] == KNOWN / 4
