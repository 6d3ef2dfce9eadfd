"""The page and the terminal on programs: what was sampled, what failed, and the programs behind attempts."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from arc_experiments.jobs.results import show_programs
from arc_experiments.programs.canvases import painted
from arc_experiments.programs.languages.draw import read_calls
from arc_experiments.report.page import write_report
from arc_experiments.report.programs import ShownProgram, highlighted
from arc_experiments.scoring.by_program import verified_tasks
from arc_experiments.scoring.candidates import Candidate, ProgramAnswer
from arc_experiments.scoring.metrics import score
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Pair, Program, Task, TaskSet

RUN_YAML = """\
data: {name: draw, path: null}
model: {name: tiny}
augmentation: {}
prompt: {name: program}
inference: {num_views: 1, selection: votes_then_log_probability}
job: {name: evaluate}
seed: 1
"""
TRUTH = "rect(3,1,1,2,2)\nline(8,0,0,0,5)"
CLOSE = "rect(3,1,1,2,2)\nline(8,0,0,0,4)"
AWKWARD = "box(1,0,0,2,2) # <script>alert(1)</script>"


def run(text: str, grid: Grid) -> Grid:
    return painted(grid, read_calls(text))


@pytest.fixture
def tasks() -> TaskSet:
    inputs = [np.full((6, 6), colour, np.uint8) for colour in range(4)]
    pairs = tuple(Pair(input=grid, output=run(TRUTH, grid)) for grid in inputs)
    return TaskSet([Task(id=name, train=pairs[:3], test=pairs[3:]) for name in ("found", "missed")])


def candidate(task: Task, sample: int, text: str, reason: str | None = None) -> Candidate:
    """The candidate of a program that runs, or of an answer that is none."""
    right = [reason is None and np.array_equal(run(text, pair.input), pair.output) for pair in task.train]
    return Candidate(
        task_id=task.id,
        test_index=0,
        view=0,
        sample=sample,
        transforms="identity",
        text=text,
        num_tokens=20,
        log_probability=-3.0,
        grid=None if reason else run(text, task.test[0].input),
        reason=reason,
        program=ProgramAnswer(
            program=Program(language="draw", text=text),
            demonstrations=tuple(map(bool, right)) if reason is None else (),
            right_cells=0.5,
            reason=reason,
        ),
    )


def shown(task: Task, number: int, text: str) -> ShownProgram:
    return ShownProgram(
        task_id=task.id,
        attempts=((0, number),),
        transforms="rot90 colours_0213456789",
        program=Program(language="draw", text=text),
        length=2,
        outputs=(*(run(text, pair.input) for pair in task.train[:2]), "timeout"),
    )


@pytest.fixture
def folder(tmp_path: Path, tasks: TaskSet) -> Path:
    candidates = [
        candidate(tasks[0], 0, TRUTH),
        candidate(tasks[0], 1, CLOSE),
        candidate(tasks[1], 0, CLOSE),
        candidate(tasks[1], 1, "fill(<>)", "syntax"),
    ]
    (tmp_path / "run.yaml").write_text(RUN_YAML, encoding="utf-8")
    (tmp_path / "metrics.json").write_text(json.dumps({"score": score(tasks, candidates)}), encoding="utf-8")
    write_lines(tmp_path / "predictions.jsonl", [one.to_record() for one in candidates])
    programs = [shown(tasks[0], 1, TRUTH), shown(tasks[0], 2, CLOSE), shown(tasks[1], 1, AWKWARD)]
    write_lines(tmp_path / "programs.jsonl", [one.to_record() for one in programs])
    return tmp_path


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def words_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_a_program_stands_in_its_task_with_what_it_gave_for_each_demonstration(
    folder: Path, tasks: TaskSet
) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    found, missed = (words_of(card) for card in page.split("<article")[1:])
    assert "attempt 1: draw, length 2, 2 of 3 demonstrations right" in found
    assert "written for the view rot90 colours_0213456789" in found
    assert re.search(r"demonstration 1 . right demonstration 2 . right demonstration 3 . timeout", found)
    assert "attempt 2: draw, length 2, 0 of 3 demonstrations right" in found
    assert "demonstration 1 ✗ 1 of 36 cells wrong" in found
    assert "attempt 1: draw" in missed


def test_a_grid_is_drawn_for_wrong_demonstrations_only(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    right, wrong = page.split("<article")[1].split('<div class="program">')[1:]
    assert (right.count("<svg"), wrong.count("<svg")) == (0, 2)


def test_of_many_distinct_grids_the_best_are_drawn_and_the_others_counted(
    folder: Path, tasks: TaskSet
) -> None:
    many = [candidate(tasks[0], n, f"pixel(9,{n // 6},{n % 6})") for n in range(30)]
    again = [candidate(tasks[0], 30 + n, TRUTH) for n in range(3)]
    write_lines(folder / "predictions.jsonl", [one.to_record() for one in many + again])
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    candidates = page.split("<article")[1].split("33 candidates: 31 distinct grids, 0 not valid")[1]
    assert candidates.count('<div class="candidate">') == 16
    assert "… and 15 more distinct grids" in candidates
    assert "<li>view 0: identity, 3 times</li>" in candidates


def test_what_a_program_holds_is_text(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_part_of_the_page_says_how_the_programs_did(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    section = words_of(page.split("<h2>Programs</h2>")[1].split("</section>")[0])
    assert (
        "4 programs for 2 tasks: 3 distinct; of all, 3 gave a grid for every demonstration, 1 the" in section
    )
    assert "Verified and wrong on a test: 0 of 1 distinct program" in section
    assert "Programs without a grid for some demonstration: 1 syntax" in section
    assert "1 0.8 0.8 25.0%" in section, "a row of the table"


def test_the_terminal_says_the_same(tasks: TaskSet) -> None:
    candidates = [candidate(tasks[0], sample, text) for sample, text in enumerate((TRUTH, CLOSE))]
    console = Console(width=120, record=True, file=io.StringIO())
    show_programs(score(tasks, candidates)["programs"], " (2 of 5 tasks asked)", console)
    text = console.export_text()
    assert "programs (2 of 5 tasks asked)" in text
    assert re.search(r"2 +│ 1\.0 +│ 1\.0 +│ 50\.0%", text)
    assert "2 programs for 2 tasks: 2 distinct" in text


def test_verified_tasks_are_counted_without_solutions(folder: Path, tasks: TaskSet) -> None:
    candidates = [candidate(tasks[0], 0, TRUTH), candidate(tasks[1], 0, CLOSE)]
    assert verified_tasks(candidates) == {"found"}
    grids = [replace(one, program=None) for one in candidates]
    assert verified_tasks(grids) is None
    answered = {
        "num_tasks": 2,
        "num_test_outputs": 2,
        "num_tasks_without_solutions": 2,
        "num_tasks_verified": 1,
    }
    (folder / "metrics.json").write_text(json.dumps({"answered": answered}), encoding="utf-8")
    page = words_of(write_report(folder, tasks.without_solutions()).read_text(encoding="utf-8"))
    assert "1 of 2 tasks have a program that gives the output of every demonstration." in page
    assert "attempt 1: draw, length 2, 2 of 3 demonstrations right" in page


def test_numbers_and_what_is_called_are_coloured() -> None:
    assert highlighted("x1 = f(2) # 3") == "x1 = <b>f</b>(<i>2</i>) <s># 3</s>"


def test_a_line_that_is_not_whole_is_named(folder: Path, tasks: TaskSet) -> None:
    (folder / "programs.jsonl").write_text('{"task": "found"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"programs\.jsonl, line 1: this line holds no whole program"):
        write_report(folder, tasks)
