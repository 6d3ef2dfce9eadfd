"""What notebooks use: tasks from lists, pictures of answers, whole runs, comparisons; docs/notebook.ipynb."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from arc_experiments import Task, TaskSet, answers, compare_runs, compose
from arc_experiments.notebook import Answers
from arc_experiments.run import Run
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.sources import Files
from arc_experiments.tasks import BadTasks
from arc_experiments.tasks.grids import GridError

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def a_task(task_id: str = "flip<1>") -> Task:
    return Task.from_lists(
        task_id, train=[([[1, 0]], np.array([[0, 1]]))], test=[([[2, 3]], [[3, 2]]), ([[4]], None)]
    )


def test_a_task_from_lists_is_saved_and_read_back(tmp_path: Path) -> None:
    tasks = TaskSet([a_task("flip"), a_task("again")])
    read = Files(path=str(tasks.save(tmp_path / "new" / "mine.json"))).read(BadTasks()).fixed
    assert {task.id: task.to_json() for task in read} == {task.id: task.to_json() for task in tasks}
    assert [pair.output is None for pair in read["flip"].test] == [False, True]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([[10]], "it has the cell 10, not 0 to 9"),
        ([[1], [1, 2]], "its rows have different lengths"),
        ([1, 2], r"but a single row: write \[\[...\]\]"),
        ([[[1]]], "but lists nested 3 deep instead of 2"),
        (5, "but a single value"),
        ([], "but empty"),
        ([[0.5]], "decimals"),
    ],
)
def test_a_task_of_what_is_no_grid_is_refused_with_its_pair(cells: object, reason: str) -> None:
    good = ([[1]], [[2]])
    with pytest.raises(GridError, match=f"task t, train pair 1, output: .*{reason}"):
        Task.from_lists("t", train=[good, ([[1]], cells)], test=[good])


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ([], [([[1]], None)], "task t, train: there are no pairs"),
        ([([[1]], [[1]])], [], "task t, test: there are no pairs"),
        ([([[1]],)], [], r"task t, train pair 0 \(counted from 0\) is not \(input, output\)"),
        ([{"input": 1, "output": 2}], [], "task t, train pair 0"),
        (
            [([[1]], [[1]])],
            [[[4, 5]]],
            r"test pair 0 .*, or \(input, None\) if the output is not known: \[\[4, 5\]\]",
        ),
    ],
)
def test_a_task_without_pairs_is_refused(train: list, test: list, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Task.from_lists("t", train=train, test=test)


def test_a_notebook_shows_every_grid_of_a_task_and_ten_tasks_of_a_set() -> None:
    page = a_task()._repr_html_()
    assert page.count("<svg") == 5
    assert "flip&lt;1&gt;, test 2" in page
    tasks = TaskSet(a_task(f"t{number}") for number in range(12))
    assert tasks._repr_html_().count("<svg") == 10 * 5
    assert "and 2 more" in tasks._repr_html_()


# Answers


@pytest.fixture
def run(tmp_path: Path) -> Run:
    tasks = TaskSet(
        [Task.from_lists(f"t{n}", train=[([[1, 0]], [[0, 1]])], test=[([[2, n]], [[n, 2]])]) for n in (3, 4)]
    )
    path = tasks.save(tmp_path / "tasks.json")
    return compose(
        ["job=evaluate", "data=files", f"data.path={path}", "data.partition=all", "tracking=off"],
        tmp_path / "run",
    )


def candidate(task_id: str, cells: list[list[int]] | None) -> Candidate:
    return Candidate(
        task_id=task_id, test_index=0, view=0, transforms="identity", text="", num_tokens=3,
        log_probability=-1.0, grid=None if cells is None else np.array(cells, np.uint8),
        reason=None if cells else "ragged",
    )  # fmt: skip


def test_answers_are_shown_with_their_verdicts_and_scored(run: Run) -> None:
    found = Answers(run=run, candidates=[candidate("t3", [[3, 2]]), candidate("t4", None)])
    page = found._repr_html_()
    assert "✓ t3, test" in page
    assert "✗ t4, test, no valid answer (ragged)" in page
    assert page.count("<svg") == 2 + 2 + 1
    assert found.scores["pass_at_2"] == 0.5
    head, *lines = str(found).splitlines()
    assert head.endswith("to 2 test outputs, 1 of 2 solved")
    assert [line.strip() for line in lines] == ["t3, test: solved", "t4, test: no valid answer (ragged)"]


def test_answers_are_saved_as_a_page_with_their_pictures(run: Run, tmp_path: Path) -> None:
    found = Answers(run=run, candidates=[candidate("t3", [[3, 2]]), candidate("t4", None)])
    page = found.save_html(tmp_path / "new" / "answers.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "✓ t3, test" in page
    assert page.count("<svg") == 2 + 2 + 1


def test_a_run_without_answers_says_how_to_get_them(run: Run) -> None:
    with pytest.raises(ValueError, match=r"has no answers yet: run\.execute\(\)"):
        answers(run)
    assert run.metrics == {}


def test_a_whole_run_that_fails_raises_what_it_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder.path.parent / "tasks.json").unlink()
    with pytest.raises(RuntimeError, match=r"tasks\.json"):
        run.execute()
    assert "Failed:" in capsys.readouterr().out


def test_the_first_run_named_is_the_baseline(run: Run, tmp_path: Path) -> None:
    runs = []
    for num_views, cells in ((3, [[4, 2]]), (2, [[2, 2]])):
        other = compose(
            ["job=evaluate", "data=files", f"data.path={run.config.data.path}", "data.partition=all",
             "tracking=off", f"inference.num_views={num_views}"],
            tmp_path / str(num_views),
        )  # fmt: skip
        found = Answers(run=other, candidates=[candidate("t4", cells)])
        other.folder.write_json("metrics.json", {"score": found.scores})
        other.folder.end("done")
        runs.append(other)
    compared = compare_runs(*runs)
    assert list(compared.found.groups["value"]) == [0.5, 0]
    assert "num_views=3" in compared._repr_markdown_() == repr(compared)
    assert list(compare_runs(*reversed(runs)).found.groups["value"]) == [0, 0.5]


def test_runs_that_are_not_finished_cannot_be_compared(run: Run) -> None:
    with pytest.raises(ValueError, match="finished"):
        compare_runs(run, run.folder.path)


# The notebook


@pytest.mark.parametrize(
    "notebook", [NOTEBOOK, NOTEBOOK.with_name("kaggle.ipynb")], ids=lambda path: path.stem
)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {
        cell.source.splitlines()[-1]: output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    }
    assert outputs["answered"].data["text/html"].count("test") >= 2
    assert "<svg" in outputs['tasks["mirror_0"]'].data["text/html"]
    assert "learning_rate" in outputs["compare_runs(slow, fast)"].data["text/markdown"]
    assert (tmp_path / "outputs" / "fast" / "report.html").exists()
    assert os.listdir(tmp_path) == ["outputs"]
