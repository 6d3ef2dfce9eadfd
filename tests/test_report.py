"""The report page: what it says of solved, wrong, unanswered and unpredicted tasks; it stands alone."""

# ruff: noqa: RUF001 (the signs are those of the page)

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from arc_experiments.jobs.results import _show_losses
from arc_experiments.report import figures, svg
from arc_experiments.report.__main__ import main
from arc_experiments.report.chart_kinds import (
    Bar,
    Dots,
    Line,
    bar_chart,
    interval_chart,
    line_chart,
    scatter_chart,
)
from arc_experiments.report.figures import task_picture, write_charts, write_figures
from arc_experiments.report.gallery import TaskCard, task_cards
from arc_experiments.report.page import write_report
from arc_experiments.report.run_charts import (
    SCORES,
    count_not_finite,
    learning_rate_chart,
    loss_chart,
    predictions_chart,
    read_points,
    smooth,
    thin,
)
from arc_experiments.report.svg import CARD, NARROW, VARIABLES, WIDE
from arc_experiments.report.wording import (
    cost_sentence,
    duration,
    invalid_sentence,
    memory,
    number,
    percent,
    plural,
)
from arc_experiments.scoring.by_num_predictions import by_num_predictions
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.tasks.grids import PALETTE, Grid, check_grid, to_rich, to_svg
from arc_experiments.tasks.task import Pair, Task, TaskSet

RUN_YAML = """\
data: {name: arc1, path: null, partition: seeded, limit: null}
model: {name: tiny, dtype: auto, lora: {rank: 16, alpha: 32.0}}
augmentation: {geometry: {probability: 1.0}, colours: {probability: 1.0}}
optim: {max_steps: 60, batch_size: 16, learning_rate: 0.0001, schedule: cosine}
prompt: {name: compact, max_length: 2048}
inference: {num_views: 8, limit: 6, selection: votes_then_log_probability}
job: {name: finetune}
seed: 1
"""
AWKWARD = '<img src=x onerror="alert(1)"> & co'
SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "link", "input", "br", "img", "wbr"}


def toy_task(name: str, num_tests: int = 1) -> Task:
    """Mirror the grid left to right; every test input is another."""
    inputs = [check_grid([[i % 10, 1, 2], [3, (i + 4) % 10, 5]]) for i in range(3 + num_tests)]
    pairs = [Pair(input=grid, output=grid[:, ::-1].copy()) for grid in inputs]
    return Task(id=name, train=tuple(pairs[:3]), test=tuple(pairs[3:]))


def answer(
    task: Task, test_index: int, view: int, grid: Grid | None, reason: str | None = None, text: str = "1 2"
) -> Candidate:
    return Candidate(
        task_id=task.id,
        test_index=test_index,
        view=view,
        transforms=f"rot{90 * (view % 4)} colours_0123456789",
        text=text,
        num_tokens=10,
        log_probability=-1.5 - view,
        grid=grid,
        reason=reason,
    )


@pytest.fixture
def tasks() -> TaskSet:
    return TaskSet(
        [toy_task("solved"), toy_task("half", 2), toy_task("wrong"), toy_task(AWKWARD), toy_task("silent")]
    )


@pytest.fixture
def candidates(tasks: TaskSet) -> list[Candidate]:
    """Solved with votes to spare; one of two outputs right; two wrong grids; only invalid text; nothing."""
    right = [[pair.output for pair in task.test] for task in tasks]
    small = check_grid([[1, 2]])
    return [
        *(answer(tasks[0], 0, view, right[0][0]) for view in range(5)),
        answer(tasks[0], 0, 5, small),
        answer(tasks[0], 0, 6, None, "ragged"),
        answer(tasks[1], 0, 0, right[1][0]),
        answer(tasks[1], 1, 0, right[1][0]),
        answer(tasks[2], 0, 0, small),
        answer(tasks[2], 0, 1, tasks[2].test[0].input),
        answer(tasks[3], 0, 0, None, "no_grid", text="</pre><script>alert(2)</script>\ud800" + "x" * 1000),
        answer(tasks[3], 0, 1, None, "no_grid", text=""),
    ]


@pytest.fixture
def folder(tmp_path: Path, tasks: TaskSet, candidates: list[Candidate]) -> Path:
    """A finished run that predicted 5 of its 7 validation tasks."""
    folder = tmp_path / "arc1-tiny-1a2b3c"
    folder.mkdir()
    (folder / "run.yaml").write_text(RUN_YAML, encoding="utf-8")
    write_json(folder / "partition.json", {"validation": [*tasks.ids, "later_1", "later_2"], "train": ["t"]})
    write_json(folder / "environment.json", {"command": ["python", "-m", "arc_experiments", "model=a b"]})
    write_json(folder / "metrics.json", metrics(tasks, candidates))
    log: list[dict[str, Any]] = [
        {"step": step, "loss": 3.0 / step**0.5 + 0.1 * (step % 3), "learning_rate": 1e-4 * (1 - step / 60)}
        for step in range(1, 61)
    ]
    log += [{"step": step, "validation_loss": 3.1 / step**0.5} for step in (20, 40, 60)]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in log), encoding="utf-8")
    lines = "".join(candidate.to_json() + "\n" for candidate in candidates)
    (folder / "predictions.jsonl").write_text(lines, encoding="utf-8")
    return folder


def metrics(tasks: TaskSet, candidates: list[Candidate]) -> dict[str, Any]:
    loss = {"token_mean": 0.412, "task_mean": 0.5, "num_tokens": 12345, "num_tasks": 7}
    return {
        "validation": {"loss": loss, "initial_loss": {"token_mean": 2.5, "task_mean": 2.6}},
        "score": score(tasks, candidates),
        "train": {"steps": 60, "samples": 960, "tokens": 400000, "final_loss": 0.39, "final_loss_steps": 10},
        "peak_memory_bytes": 1_900_000_000,
        "seconds": {"training": 192.0, "generation": 40.0, "total": 250.0},
    }


def write_json(path: Path, contents: Any) -> None:
    path.write_text(json.dumps(contents), encoding="utf-8")


class Outline(HTMLParser):
    """Every tag with its attributes, every id, and whether all tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def words_of(html: str) -> str:
    """The text of a piece of HTML with single blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html.replace("<wbr>", "")))


def card_of(page: str, index: int) -> str:
    return page.split("<article")[index + 1].split("</article>")[0]


def test_the_page_starts_with_what_was_run_and_how_it_went(folder: Path, tasks: TaskSet) -> None:
    page = words_of(write_report(folder, tasks).read_text(encoding="utf-8"))

    assert "finetune · arc1 · tiny · 60 steps · seed 1" in page
    assert "30.0% Kaggle&#39;s and ARC Prize&#39;s rule, mean over 5 tasks 95% interval 0.0–" in page
    assert "test_output right test outputs / all test outputs 33.3% – 2 of 6 outputs" in page
    assert "task_strict share of tasks with every test output right 20.0% – 1 of 5 tasks" in page
    assert "2.500 → 0.412 before → after training 12,345 tokens of 7 tasks" in page
    assert "4 min 10 s training 3 min 12 s generation 40.0 s memory at its peak 1.9 GB" in page
    assert "python -m arc_experiments &#39;model=a b&#39;" in page
    assert "2 × no_grid (no beginning of a grid), 1 × ragged (rows of different lengths)" in page


def test_the_page_has_groups_and_a_chart_where_there_are_several_numbers_of_predictions(
    folder: Path, tasks: TaskSet, candidates: list[Candidate]
) -> None:
    plain = words_of(write_report(folder, tasks).read_text(encoding="utf-8"))
    assert "Against the number of predictions" not in plain, "as metrics.json has none"
    contents = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    contents["score"]["by_num_predictions"] = by_num_predictions(tasks, candidates)
    write_json(folder / "metrics.json", contents)
    html = write_report(folder, tasks).read_text(encoding="utf-8")
    words = words_of(html)
    assert "number of demonstrations tasks pass_at_2 95% interval 3 5 30.0%" in words
    assert "cells of the test output tasks pass_at_2 95% interval 1-9 5 30.0%" in words
    rows = words.split("predictions pass_at_1 pass_at_2")[1]
    assert [row.split()[0] for row in re.findall(r"\d+ (?:[\d.]+% ){5}", rows)] == ["1", "2", "4", "7"]
    assert "7 predictions: 30.0%" in html


def test_the_page_says_what_was_never_proposed_and_what_not_chosen_by_each_rule(
    folder: Path, tasks: TaskSet
) -> None:
    words = words_of(write_report(folder, tasks).read_text(encoding="utf-8"))
    assert "What is lost by Kaggle&#39;s rule" in words.replace("Kaggle's", "Kaggle&#39;s")
    assert re.search(
        r"right in two attempts 30\.0% 0\.0–[\d.]+% a candidate was right, but not chosen 0\.0%", words
    )
    assert "no candidate was right 70.0%" in words
    assert "pass_at_2 not chosen 95% interval votes_then_log_probability gave the attempts" in words
    contents = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    del contents["score"]["lost"]
    write_json(folder / "metrics.json", contents)
    earlier = words_of(write_report(folder, tasks).read_text(encoding="utf-8"))
    assert "What is lost" not in earlier, "of a run before that was counted"
    assert "votes_then_log_probability gave the attempts" in earlier


def test_the_final_loss_says_what_it_is_the_mean_of(folder: Path, tasks: TaskSet) -> None:
    assert "mean of the last 10 logged steps, of 60" in words_of(write_report(folder, tasks).read_text())
    found = json.loads((folder / "metrics.json").read_text())
    del found["train"]["final_loss_steps"]  # as older runs
    write_json(folder / "metrics.json", found)
    assert "after 60 steps" in words_of(write_report(folder, tasks).read_text())


def test_epochs_take_the_place_of_steps(folder: Path, tasks: TaskSet) -> None:
    settings = (folder / "run.yaml").read_text().replace("optim: {", "optim: {epochs: 3, ")
    (folder / "run.yaml").write_text(settings)
    page = words_of(write_report(folder, tasks).read_text())
    assert "finetune · arc1 · tiny · 3 epochs · seed 1" in page
    assert "optim.max_steps" not in page


def test_leaks_are_told_with_the_tasks_and_where_they_stand(folder: Path, tasks: TaskSet) -> None:
    found = {"whole": 1, "part": 1, "by_id": 0, "leaks": 2, "tasks": 7, "answers": 1}
    rows = [
        {"task": "solved", "extent": "whole", "how": "symmetry", "pairs": [4, 4], "answers": [1, 1],
         "found_in": ["x", "y"], "num_found_in": 2},
        {"task": "half", "extent": "part", "how": "identical", "pairs": [1, 5], "answers": [0, 2],
         "found_in": ["x"], "num_found_in": 1},
    ]  # fmt: skip
    training = {
        "sought": "validation tasks",
        "searched": "the training tasks",
        "counts": found,
        "tasks": rows,
    }
    nothing = dict.fromkeys(found, 0) | {"tasks": 7}
    ancestry = {**training, "searched": "what came before", "counts": nothing, "tasks": []}
    write_json(folder / "leaks.json", {"policy": "warn", "training": training, "ancestry": ancestry})
    page = words_of(write_report(folder, tasks).read_text(encoding="utf-8"))

    assert (
        "Of 7 validation tasks, 2 are also in the training tasks: 1 wholly, 1 in part; with the answers of 1"
        in page
    )
    assert "Of 7 validation tasks, none is in what came before." in page
    assert "solved the training tasks: x, y 4 of 4 1 of 1 turned or reflected" in page
    assert "half the training tasks: x 1 of 5 0 of 2 cell for cell" in page


def test_tasks_that_were_not_predicted_are_told_and_count_nowhere(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")

    assert "Answers were asked for 5 of the 7 validation tasks, and the scores are over these 5." in page
    assert "later_1, later_2" in page
    assert page.count("<article") == 5


def test_more_tasks_than_the_denominator_are_not_failures(
    folder: Path, tasks: TaskSet, candidates: list[Candidate]
) -> None:
    cards = task_cards(TaskSet([*tasks, toy_task("later")]), candidates, num_scored=5)

    assert [card.state for card in cards] == [
        "solved", "partly", "unsolved", "unsolved", "unsolved", "waiting",
    ]  # fmt: skip
    assert cards[-1].filters == ()


def test_attempts_are_marked_by_word_and_sign(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")

    solved, half, wrong = (words_of(card_of(page, index)) for index in range(3))
    assert "✓ solved" in solved
    assert "attempt 1 2×3 ✓ right 5 of 7 votes log-prob. −0.350" in solved
    assert "attempt 2 1×2 ✗ wrong 1×2 instead of 2×3 1 of 7 votes" in solved
    assert "7 candidates: 2 distinct grids, 1 not valid" in solved
    assert "Not valid: 1 × ragged" in solved
    assert "◐ 1 of 2 solved" in half
    assert "✗ wrong 2 of 6 cells wrong" in half
    assert "no second distinct grid" in half
    assert "✗ not solved" in wrong


def test_unanswered_tasks_say_why(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")

    assert "no valid answer Not" not in words_of(card_of(page, 4))
    assert "no valid answer" in words_of(card_of(page, 3))
    assert "Not valid: 2 × no_grid" in words_of(card_of(page, 3))
    assert "(empty)" in card_of(page, 3)
    assert "… and 632 more characters" in card_of(page, 3)
    assert "no candidate" in words_of(card_of(page, 4))
    assert "1 task got no candidate at all and counts as wrong." in page


def test_only_the_first_of_many_invalid_texts_are_shown() -> None:
    tasks = TaskSet([toy_task("long")])
    candidates = [answer(tasks[0], 0, view, None, "ragged", text="y" * 500) for view in range(40)]

    [test] = task_cards(tasks, candidates, num_scored=1)[0].tests

    assert (len(test.invalid), test.num_invalid, test.reasons) == (16, 40, (("ragged", 40),))


def test_filters_count_the_predicted_tasks(tasks: TaskSet, candidates: list[Candidate]) -> None:
    def count(name: str) -> int:
        return sum(name in card.filters for card in cards)

    cards: tuple[TaskCard, ...] = task_cards(tasks, candidates, num_scored=5)
    assert [count(name) for name in ("solved", "unsolved", "valid", "no-valid")] == [1, 4, 3, 2]


def test_names_and_texts_cannot_become_markup(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    outline = Outline(page)

    assert not outline.open
    assert not {"script", "img"} & {tag for tag, _ in outline.tags}
    assert "&lt;img src=x onerror=" in page
    assert "&lt;/pre&gt;&lt;script&gt;" in page


def test_names_break_after_dots_and_underscores_and_numbers_do_not(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    assert '<th scope="row">optim.<wbr>max_<wbr>steps</th><td>60</td>' in page
    assert not re.search(r"\d\.<wbr>\d", page)


def test_the_page_asks_the_network_for_nothing(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    outline = Outline(page)

    addresses = [a[key] or "" for _, a in outline.tags for key in ("src", "href") if key in a]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"url\(|@import", page)
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a[1:] for a in addresses if a.startswith("#")} <= set(ids)


def test_the_same_files_give_the_same_bytes(folder: Path, tasks: TaskSet) -> None:
    first = write_report(folder, tasks).read_bytes()

    assert write_report(folder, tasks).read_bytes() == first
    assert not list(folder.glob(".report*"))


@pytest.mark.parametrize("missing", ["train_log.jsonl", "predictions.jsonl", "metrics.json", "everything"])
def test_a_folder_that_lacks_a_file_still_gives_a_page(folder: Path, tasks: TaskSet, missing: str) -> None:
    names = ["train_log.jsonl", "predictions.jsonl", "metrics.json", "partition.json", "environment.json"]
    for name in names if missing == "everything" else [missing]:
        (folder / name).unlink()

    page = write_report(folder, tasks).read_text(encoding="utf-8")

    assert not Outline(page).open
    assert ('class="chart' in page) == (missing not in ("train_log.jsonl", "everything"))
    assert ("This folder holds no predictions" in page) == (missing in ("predictions.jsonl", "everything"))
    assert ("Nothing was scored yet" in page) == (missing in ("metrics.json", "everything"))


def test_an_evaluation_alone_shows_no_settings_of_training(folder: Path, tasks: TaskSet) -> None:
    (folder / "train_log.jsonl").unlink()
    (folder / "run.yaml").write_text(RUN_YAML.replace("finetune", "evaluate"), encoding="utf-8")
    contents = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    del contents["train"], contents["validation"]["initial_loss"]
    write_json(folder / "metrics.json", contents)

    page = words_of(write_report(folder, tasks).read_text(encoding="utf-8"))

    assert "evaluate · arc1 · tiny · seed 1" in page
    assert "Validation loss per token 0.412" in page
    assert "before → after" not in page


def test_without_solutions_nothing_is_called_right_or_wrong(folder: Path, tasks: TaskSet) -> None:
    page = write_report(folder, tasks.without_solutions()).read_text(encoding="utf-8")

    assert "✓ right" not in page
    assert "✗ wrong" not in page
    assert "no solution known" in page


def test_pictures_that_contradict_the_score_are_told(folder: Path, tasks: TaskSet) -> None:
    contents = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    contents["score"]["by_rule"]["test_output"] = 0.5
    write_json(folder / "metrics.json", contents)

    page = write_report(folder, tasks).read_text(encoding="utf-8")

    assert "The pictures show 2 right test outputs, metrics.json counts 3" in page


def test_predictions_of_other_tasks_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="'solved', which is not among the 1 task"):
        write_report(folder, TaskSet([toy_task("other")]))
    assert not (folder / "report.html").exists()


def test_a_line_that_is_just_being_written_is_left_out(folder: Path, tasks: TaskSet) -> None:
    before = write_report(folder, tasks).read_bytes()
    with (folder / "train_log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 61, "lo')
    assert write_report(folder, tasks).read_bytes() == before

    with (folder / "train_log.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"train_log\.jsonl, line 64"):
        write_report(folder, tasks)


def test_the_command_on_the_page_names_the_run_that_was_evaluated_from_anywhere(
    folder: Path, tasks: TaskSet
) -> None:
    command = ["python", "-m", "arc_experiments", "job=evaluate", "from_run=.", "data.path=."]
    write_json(folder / "environment.json", {"command": command, "directory": str(folder)})
    page = write_report(folder, tasks).read_text(encoding="utf-8")
    assert f"arc_experiments job=evaluate from_run={folder} data.path=.</pre>" in page


def test_the_command_names_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_smoothing_does_not_lag() -> None:
    line = [(float(x), 10.0 - x) for x in range(9)]

    assert smooth(line, span=5)[:7] == line[:7]
    assert smooth([(0, 1.0), (1, 4.0), (2, 1.0)], span=3) == [(0, 1.0), (1, 2.0), (2, 2.5)]


def test_long_curves_are_thinned_to_means() -> None:
    points = thin([(float(x), float(x)) for x in range(2400)])

    assert len(points) == 600
    assert points[0] == (1.5, 1.5)


def test_losses_that_are_not_finite_are_counted_not_drawn() -> None:
    log = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}]

    assert read_points(log, "loss") == [(1, 2.0), (3, 1.0)]
    assert count_not_finite(log) == 1
    chart = loss_chart(log)
    assert chart is not None
    assert "nan" not in chart.svg()


@pytest.mark.parametrize("loss", [0.0, 1.0, 1e-9])
def test_a_single_or_constant_loss_can_be_drawn(loss: float) -> None:
    for steps in ((1,), range(1, 9)):
        chart = loss_chart([{"step": step, "loss": loss} for step in steps])
        assert chart is not None
        assert "training loss" in chart.svg()
    assert loss_chart([]) is None


def test_charts_above_each_other_have_their_steps_in_the_same_places() -> None:
    log = [{"step": step, "loss": 1 / step, "learning_rate": 1e-6 * step} for step in range(1, 41)]
    for width in (WIDE, NARROW):
        places = []
        for chart in (loss_chart(log, 2.5), learning_rate_chart(log)):
            assert chart is not None
            with chart._drawn(width) as figure:
                (axes,) = figure.axes
                marks = axes.get_tightbbox().bounds
                assert marks[0] >= 0, "label and marks have room"
                assert marks[0] + marks[2] <= figure.bbox.width + 1
                places.append((*axes.get_position().intervalx, *axes.get_xlim()))
        assert places[0] == pytest.approx(places[1])


def test_axes_of_a_run_without_a_right_answer_begin_at_zero_and_have_plain_marks() -> None:
    rows = [{"predictions": n, **dict.fromkeys(SCORES, 0.0)} for n in (1, 2)]
    zeros = [Dots(name="a", mean=(0, 0, "a"), runs=[(0, 0, "first"), (0, 0, "second")])]
    late = [Dots(name="a", mean=(9, 0, "a"), runs=[(8, 0, "first")])]
    charts = (
        (predictions_chart(rows), "y", 10),
        (interval_chart(zeros, x_label="score", word=percent), "x", 1),
        (scatter_chart(late, x_label="time", y_label="score", word=percent), "y", 1),
    )
    for chart, name, top in charts:
        assert chart is not None
        with chart._drawn(WIDE) as figure:
            assert getattr(figure.axes[0], f"get_{name}lim")() == (0, top)


def test_a_chart_in_a_page_has_the_colours_of_the_page_and_tooltips() -> None:
    lines = [
        Line(name="a <b> $x_1$", points=[(0, 1), (4, 2)], words=lambda point: f"step {point[0]:g} & more")
    ]
    chart = line_chart([*lines, Line(name="second", points=[(0, 3)])], x_label="step", y_label="loss")
    wide, narrow = (ElementTree.fromstring(f"{part}</svg>") for part in chart.__html__().split("</svg>")[:-1])
    for image in (wide, narrow):
        assert [title.text for title in image.iter(f"{SVG}title")] == ["step 0 & more", "step 4 & more"]
        assert "a <b> $x_1$" in [text.text for text in image.iter(f"{SVG}text")]
        assert image.get("aria-label") == "loss over step"
    assert float(str(wide.get("viewBox")).split()[2]) > 2 * float(str(narrow.get("viewBox")).split()[2])
    assert not re.findall("#[0-9a-f]{6}", chart.__html__()), "a colour that dark mode could not change"
    assert len(set(ids := re.findall(r' id="([^"]*)"', chart.__html__()))) == len(ids)


def test_the_colours_of_charts_are_those_of_the_page() -> None:
    light = (Path(svg.__file__).parent / "page.css").read_text().partition("@media")[0]
    colours = dict(re.findall(r"(--[\w-]+): (#\w+);", light))
    assert colours["--card"] == "#fff"
    assert {name: colours[name] for colour, name in VARIABLES.items() if colour != CARD} == {
        name: colour for colour, name in VARIABLES.items() if colour != CARD
    }


def test_a_chart_is_saved_as_the_file_that_its_ending_names(tmp_path: Path) -> None:
    chart = bar_chart("speeds", [("tokens/s", [Bar(name="ours", value=2.0, words="2.00", colour="#2c62a8")])])
    for ending, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        chart.save(tmp_path / f"speeds.{ending}")
        assert (tmp_path / f"speeds.{ending}").read_bytes().startswith(start)
    assert (tmp_path / "speeds.svg").read_text() == chart.svg()


def test_nothing_imports_matplotlib_before_a_chart_is_drawn() -> None:
    program = "import sys, arc_experiments.report.page; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_words_for_numbers() -> None:
    assert [duration(s) for s in (3.21, 59.96, 192, 7500)] == [
        "3.2 s",
        "1 min 0 s",
        "3 min 12 s",
        "2 h 5 min",
    ]
    assert [duration(s) for s in (0, 0.00421, 0.0421, 0.949, 0.96)] == [
        "0 s", "0.0042 s", "0.042 s", "0.95 s", "1.0 s",
    ]  # fmt: skip
    assert [memory(b) for b in (0, 2e4, 5e8, 1.5e9)] == ["0 MB", "under 1 MB", "500 MB", "1.5 GB"]
    assert [plural(1, "task"), plural(1200, "task")] == ["1 task", "1,200 tasks"]
    assert number(-0.25, 2) == "−0.25"


def test_a_line_says_why_answers_are_invalid_and_what_they_cost() -> None:
    counts = {"ragged": 3, "unfinished": 1200, "raised": 3}
    assert invalid_sentence(counts) == (
        "invalid answers: 1,200 unfinished (cut off by inference.max_new_tokens), 3 ragged (rows of "
        "different lengths), 3 raised"
    )
    assert invalid_sentence({}) == ""
    cost = {
        "device_seconds_per_task": 0.0421, "device": "cpu, 2 threads", "device_seconds": 3.0,
        "prompt_tokens": 10312, "generated_tokens": 3034, "compared_tokens": 0, "peak_memory_bytes": 1.1e9,
    }  # fmt: skip
    assert cost_sentence(cost) == (
        "0.042 s a task on cpu, 2 threads (3.0 s in all attempts and processes); tokens: 10,312 of prompts, "
        "3,034 generated; memory at its peak 1.1 GB"
    )


def test_losses_say_how_many_answers_had_no_room() -> None:
    shown = io.StringIO()
    loss = {"token_mean": 1.0569, "num_tasks": 60, "num_too_long": 40, "by_source": {}}
    _show_losses({"loss": loss, "initial_loss": 1.3221}, Console(file=shown, width=200))
    assert shown.getvalue() == (
        "validation loss per token: 1.3221 -> 1.0569, over 60 tasks (left out, as prompt.max_length has no "
        "room for them: 40 answers)\n"
    )


def test_an_svg_holds_every_cell_in_its_official_colour() -> None:
    grid = check_grid(np.random.default_rng(0).integers(0, 10, size=(7, 5)))
    svg = to_svg(grid)

    drawn = np.full(grid.shape, PALETTE.index(re.findall(r'fill="(#\w+)"', svg)[0]))
    for colour, path in re.findall(r'<path stroke="(#\w+)" d="([^"]+)"', svg):
        for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)", path):
            drawn[int(row), int(column) : int(column) + int(length)] = PALETTE.index(colour)
    assert np.array_equal(drawn, grid)


def test_a_grid_in_the_terminal_is_two_blanks_a_cell() -> None:
    text = to_rich(check_grid([[1, 2, 2], [0, 5, 9]]))

    assert text.plain == "      \n      "
    assert [str(span.style) for span in text.spans][:2] == ["on #0074d9", "on #ff4136"]


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_long_name_of_an_axis_stays_within_the_chart(width: float) -> None:
    name = "validation.loss.by_source.re_arc_held_out_in_small_grids.token_mean"
    chart = line_chart([Line(name="a", points=[(0, 1), (1, 2)])], x_label=f"{name}.{name}", y_label=name)
    with chart._drawn(width) as figure:
        figure.dpi = 72
        figure.savefig(io.BytesIO(), format="png", dpi=72)
        [axes] = figure.axes
        for label in (axes.xaxis.label, axes.yaxis.label):
            shown = label.get_window_extent()
            assert shown.y0 >= 0
            assert shown.x0 >= 0
            assert shown.y1 <= chart.height
            assert shown.x1 <= width


def test_the_figures_of_a_run_are_its_charts_and_its_answered_tasks(
    folder: Path, tasks: TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "KINDS", ("svg",))
    written = write_figures(folder, tasks, folder / "a" / "figures")
    assert [path.stem for path in written[:2]] == ["losses", "learning_rate"]
    named = {path.stem for path in written if path.stem.startswith("task-")}
    assert {"task-solved", "task-half", "task-wrong", "task-silent"} < named
    assert len(named) == len(tasks), "whatever a task is called"
    texts = {path.stem: path.read_text() for path in written}
    for name, text in texts.items():
        assert ElementTree.fromstring(text).tag == f"{SVG}svg", name
    shown = [text.text for text in ElementTree.fromstring(texts["task-half"]).iter(f"{SVG}text")]
    assert shown.count("input") == shown.count("output") == 3
    assert shown[6:9] == ["test 1 of 2", "solution", "attempt 1: right"]
    assert shown[9:] == ["test 2 of 2", "solution", "attempt 1: wrong"]
    assert "attempt 1: wrong" in texts["task-wrong"]
    assert "attempt" not in texts["task-silent"], "it has no answer"


def test_a_picture_of_a_task_has_the_official_colours_cell_by_cell(tasks: TaskSet) -> None:
    [card] = task_cards(TaskSet([tasks["solved"]]), [], 1)
    svg = task_picture(card).svg()
    grids = [
        grid for pair in (*card.demonstrations, *tasks["solved"].test) for grid in (pair.input, pair.output)
    ]
    for colour, value in list(enumerate(PALETTE))[1:]:  # black is the colour of what names none
        assert svg.count(f"fill: {value.lower()}") == sum(int((grid == colour).sum()) for grid in grids)


def test_each_figure_is_written_as_svg_pdf_and_png(tmp_path: Path) -> None:
    chart = loss_chart([{"step": step, "loss": 1 / step} for step in (1, 2, 3)])
    written = write_charts({"losses": chart, "nothing": None}, tmp_path)
    assert [path.name for path in written] == ["losses.svg", "losses.pdf", "losses.png"]
    assert [path.read_bytes()[:4] for path in written] == [b"<svg", b"%PDF", b"\x89PNG"]


def test_a_run_without_anything_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        write_charts({"losses": None}, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_figures_beside_a_page_of_two_runs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["a", "--figures", "b", "--against", "c"])
    assert "not allowed with" in capsys.readouterr().err
