"""The page that compares two runs: which tasks were won and lost, and which are not compared at all."""

# ruff: noqa: RUF001 (the signs are those of the page)

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_compose import compose
from rich.console import Console
from task_files import write
from toy_grids import grid

from arc_experiments.jobs import evaluate
from arc_experiments.report.__main__ import main
from arc_experiments.report.files import read_run
from arc_experiments.report.summary import settings
from arc_experiments.report.versus import _differing, write_versus
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import Pair, Task, TaskSet

RUN_YAML = """\
data: {name: arc1}
model: {name: %s}
inference: {num_views: %d, selection: votes_then_log_probability}
job: {name: evaluate}
"""


def task(name: str, num_tests: int = 1, *, demonstration: str = "1", solved: bool = True) -> Task:
    test = Pair(input=grid("1"), output=grid("2") if solved else None)
    pair = Pair(input=grid(demonstration), output=grid("2"))
    return Task(id=name, train=(pair,), test=(test,) * num_tests)


def run_folder(folder: Path, *, model: str = "tiny", num_views: int = 8, **right: str) -> Path:
    """A run that answered each test output rightly (1), wrongly (0) or not at all (-)."""
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(RUN_YAML % (model, num_views), encoding="utf-8")
    lines = [
        Candidate(
            task_id=task_id, test_index=index, view=0, transforms="identity", text="2", num_tokens=3,
            log_probability=-1.0, grid=None if mark == "-" else grid("32"[int(mark)]),
            reason="ragged" if mark == "-" else None,
        ).to_json()
        for task_id, marks in right.items()
        for index, mark in enumerate(marks)
    ]  # fmt: skip
    (folder / "predictions.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def words_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_tasks_are_won_lost_or_as_before(tmp_path: Path) -> None:
    tasks = TaskSet([task("both"), task("lost"), task("won"), task("half", 2), task("none"), task("same", 2)])
    old = run_folder(tmp_path / "old", both="1", lost="1", won="0", half="10", none="-", same="10")
    new = run_folder(
        tmp_path / "new", num_views=16, both="1", lost="-", won="1", half="11", none="0", same="01"
    )
    page = write_versus(new, tasks, old, tasks)
    assert page == new / "against-old.html"
    html = page.read_text(encoding="utf-8")
    words = words_of(html)
    assert "new against old" in words
    assert "6 tasks, 8 test outputs that both have answered" in words
    assert "All 6 Won 2 Lost 1 Right in neither 2 Right in both 1" in words
    assert "pass_at_2 one of the two attempts right: the headline, as on Kaggle 50.0% 58.3% +8.3" in words
    assert re.findall(r'<article class="task \w+ is-(\w+)"', html) == [
        "won",
        "won",
        "lost",
        "neither",
        "neither",
        "both",
    ]
    assert "inference.num_views 8 16" in words
    assert "model.name" not in words
    [half] = [part for part in html.split("<article")[1:] if "half" in part]
    assert "won, 1 → 2 of 2" in words_of(half)
    [lost] = [part for part in html.split("<article")[1:] if ">lost</a>" in part]
    assert "A attempt 1 1×1 ✓ right" in words_of(lost)
    assert "B no valid answer" in words_of(lost)


def test_the_page_stands_alone_and_is_the_same_each_time(tmp_path: Path) -> None:
    name = '<img src=x onerror="alert(1)"> & co'
    tasks = TaskSet([task(name), task("b")])
    old, new = (run_folder(tmp_path / n, **{name: "0", "b": "1"}) for n in ("old", "new"))
    page = write_versus(new, tasks, old, tasks)
    first = page.read_text(encoding="utf-8")
    assert write_versus(new, tasks, old, tasks).read_text(encoding="utf-8") == first
    assert "<script" not in first
    assert "<img" not in first
    body = first.split("</style>")[1]
    ids = re.findall(r'\bid="([^"]+)"', body)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', first)) <= set(ids)
    assert set(re.findall(r'for="([^"]+)"', body)) <= set(ids)
    assert "Nothing of what is shown" in first


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    shared, unsolved = task("a"), task("u", solved=False)
    old = run_folder(tmp_path / "old", a="1", u="1", other="1", alone="1")
    new = run_folder(tmp_path / "new", a="1", u="1", other="1")
    before = TaskSet([shared, unsolved, task("other"), task("alone")])
    after = TaskSet([shared, unsolved, task("other", demonstration="3")])
    words = words_of(write_versus(new, after, old, before).read_text(encoding="utf-8"))
    assert "1 task of old alone: not compared." in words
    assert "1 task without solutions: not compared." in words
    assert "1 task of the same id, but with other grids in each run: not compared." in words
    assert "1 task, 1 test output that both have answered" in words
    with pytest.raises(ValueError, match="old and new have no task with solutions in common"):
        write_versus(new, TaskSet([unsolved]), old, before)
    (old / "predictions.jsonl").unlink()
    with pytest.raises(ValueError, match=r"old has no predictions\.jsonl"):
        write_versus(new, after, old, before)


def test_a_task_that_only_one_run_has_answered_counts_for_the_other_as_wrong(tmp_path: Path) -> None:
    tasks = TaskSet([task("a"), task("b")])
    old, new = run_folder(tmp_path / "old", a="1", b="1"), run_folder(tmp_path / "new", a="1")
    words = words_of(write_versus(new, tasks, old, tasks).read_text(encoding="utf-8"))
    assert "Lost 1" in words
    assert "B no candidate" in words


def test_a_submission_is_compared_with_a_run_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair: dict[str, Any] = {"input": [[1]], "output": [[2]]}
    write(tmp_path, "tasks/training/t.json", {"train": [pair, pair], "test": [pair]})
    for name in "ab":
        write(tmp_path, f"tasks/evaluation/{name}.json", {"train": [pair, pair], "test": [pair]})
    options = [
        "job=evaluate",
        "data=files",
        f"data.path={tmp_path}/tasks",
        "data.partition=official",
        "tracking=off",
    ]
    folders = []
    for name, cell in (("theirs", 0), ("ours", 2)):
        entry = {"attempt_1": np.full((1, 1), cell).tolist(), "attempt_2": [[5]]}
        file = write(
            tmp_path, f"{name}.json", json.dumps({"a": [entry], "b": [{**entry, "attempt_1": [[0]]}]})
        )
        run = compose([*options, f"submission={file}"], tmp_path / name)
        evaluate.main(run, Console(file=io.StringIO()))
        folders.append(str(tmp_path / name))
    assert main([folders[1], "--against", folders[0]]) == 0
    assert capsys.readouterr().out.strip().endswith("ours/against-theirs.html")
    words = words_of((tmp_path / "ours" / "against-theirs.html").read_text(encoding="utf-8"))
    assert "Won 1" in words
    assert "pass_at_1" not in words
    assert main([folders[1], "--against", str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_what_both_runs_chose_is_no_difference_though_one_of_them_does_not_show_it(tmp_path: Path) -> None:
    paths = [run_folder(tmp_path / name, a="1") for name in ("trained", "evaluated")]
    for path, job, data in zip(
        paths, ("finetune", "evaluate"), (tmp_path, tmp_path / "x" / ".."), strict=True
    ):
        text = (path / "run.yaml").read_text().replace("name: evaluate", f"name: {job}")
        text = text.replace("{name: arc1}", f"{{name: arc1, path: '{data}'}}")
        (path / "run.yaml").write_text(f"{text}optim: {{max_steps: 100, learning_rate: 1.0e-3}}\n")
    before, after = map(read_run, paths)
    assert "optim.max_steps" in settings(before)
    assert "optim.max_steps" not in settings(after), "it did not train"
    assert [key for key, _, _ in _differing(before, after)] == ["job.name"]
