"""All runs at a glance: the table, the page, and what both make of folders that are damaged."""

import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from omegaconf import OmegaConf

from arc_experiments.overview import command
from arc_experiments.overview.listed import list_runs
from arc_experiments.overview.page import compared_values, render
from arc_experiments.report.gallery import task_cards
from arc_experiments.report.thumbnail import picture
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks.grids import Grid, check_grid
from arc_experiments.tasks.task import Pair, Task, TaskSet

Tree = dict[str, Any]
RIGHT, WRONG = check_grid([[1, 2], [3, 4]]), check_grid([[1, 2], [3, 5]])


def make_run(folder: Path, day: int, *options: str, score: float | None = None, **status: Any) -> Path:
    """A run folder, done if it has a score, with the options set in its run.yaml."""
    values = OmegaConf.create({"optim": {"max_steps": 5}, "model": {"lora": {"rank": 8}}, "seed": 1})
    for key, value in (option.split("=", 1) for option in options):
        OmegaConf.update(values, key, value)
    folder.mkdir(parents=True)
    OmegaConf.save(values, folder / "run.yaml")
    typed = [option for option in options if not option.startswith(("name=", "note="))]
    write(folder, "environment.json", {"command": ["python", "-m", "arc_experiments", *options[:1], *typed]})
    state = {"state": "waiting" if score is None else "done", "started": f"2026-03-{day:02}T12:00:00+00:00"}
    write(folder, "status.json", state | status)
    if score is not None:
        write(folder, "metrics.json", metrics(score))
        (folder / "predictions.jsonl").touch()
        (folder / "report.html").write_text("<p>the report</p>")
    return folder


def metrics(score: float) -> Tree:
    interval = {"pass_at_2": [score - 0.05, score + 0.05]}
    counts = {"num_tasks": 16, "num_validation_tasks": 100}
    return {
        "score": {
            "version": 2, "pass_at_1": score / 2, "pass_at_2": score, "by_task": {"t1": score},
            "interval": interval,
        },
        "validation": {"loss": {"token_mean": 1 - score}}, "seconds": {"total": 1000 * score},
        "answered": counts,
        "cost": {"device": "cpu", "device_seconds_per_task": 2.5, "generated_tokens": 1234},
    }  # fmt: skip


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value))


def task(name: str, output: Grid | None = RIGHT) -> Task:
    pair = Pair(input=check_grid([[5, 6]]), output=RIGHT)
    return Task(id=name, train=(pair,), test=(Pair(input=pair.input, output=output),))


def answer(name: str, grid: Grid) -> Candidate:
    return Candidate(
        task_id=name, test_index=0, view=0, transforms="identity", text="", num_tokens=1,
        log_probability=-1.0, grid=grid, reason=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of a sweep, a single run, one under way, one that died, and damaged ones."""
    home = tmp_path_factory.mktemp("home")
    sweep = home / "multirun/sweep"
    make_run(sweep / "rank_8", 2, "model.lora.rank=8", score=0.125)
    make_run(sweep / "rank_16", 3, "model.lora.rank=16", score=0.25)
    # A folder's name may hold what a shell and HTML read in their own way.
    named = make_run(
        home / "outputs/it's <b>", 1, "name=<i>first</i>", "note=a </script> & more", "seed=2", score=0.5
    )
    drawn = picture(task_cards(TaskSet([task("t1")]), [answer("t1", RIGHT)], 1))
    assert drawn is not None
    (named / "picture.svg").write_text(drawn)
    here = {"state": "running", "pid": os.getpid(), "host": platform.node(), "step": 10, "max_steps": 40}
    later = (datetime.now(UTC) + timedelta(seconds=90)).isoformat()
    make_run(home / "outputs/going", 5, "seed=3", **here, loss=2.5, expected_end=later)
    make_run(home / "outputs/dead", 4, "seed=4", **here | {"pid": 2**22 + 1})
    return home


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Folders that each have something that cannot be read."""
    for name, file, text in (
        ("yaml", "run.yaml", "a: ["), ("scores", "metrics.json", '{"score": {"pass'),
        ("status", "status.json", '{"state"'), ("environment", "environment.json", "[1]"),
        ("shape", "metrics.json", '{"score": {"version": 1, "num_tasks": 2}}'),
        ("numbers", "metrics.json", '{"score": {"version": 2, "pass_at_2": "x", "interval": 3}, "cost": []}'),
        ("times", "status.json", '{"state": "running", "started": 3, "expected_end": "soon", "loss": "x"}'),
        ("labels", "run.yaml", "name: [1]\nnote: {a: 1}\nseed: 2026-03-01"),
    ):  # fmt: skip
        (make_run(tmp_path / name, 1, "seed=5", score=0.5) / file).write_text(text)
    (make_run(tmp_path / "lost", 1, "seed=5", score=0.5) / "status.json").unlink()
    return tmp_path


def shown(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str, width: int = 80, code: int = 0
) -> str:
    """What the command prints when it is typed in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", str(width))
        assert command.main(arguments) == code
    return capsys.readouterr().out


# The terminal


def test_the_table_has_every_run_the_newest_first_in_80_columns(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, home)
    assert all(len(line) <= 80 for line in text.splitlines())
    wide = shown(capsys, home, width=160)
    folders = ["outputs/going", "outputs/dead", "sweep/rank_16", "sweep/rank_8", "outputs/it's <b>"]
    places = [wide.index(folder) for folder in folders]
    assert places == sorted(places)
    for words in (
        "<i>first</i>", "a </script> & more", "model.lora.rank=16", "10/40", "1 min", "died",
        f"process {2**22 + 1} is gone", "25.0%", "20.0–30.0%", "16 of 100", "0.7500", "4 min 10 s",  # noqa: RUF001
    ):  # fmt: skip
        assert words in wide
    assert wide.count("seed=2") == 1, "a name is no option"
    assert (home / "runs.html").exists()


def test_where_there_are_no_runs_the_command_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no runs in outputs/* multirun/*" in shown(capsys, tmp_path, code=2)
    assert "no runs in nowhere" in shown(capsys, tmp_path, "nowhere", code=2)
    assert not (tmp_path / "runs.html").exists()


def test_a_page_that_cannot_be_written_and_an_odd_interval_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no folder none; make it first" in shown(capsys, home, "--page", "none/x.html", code=2)
    assert "--watch 0: name a whole number" in shown(capsys, home, "--watch", "0", code=2)


def test_damaged_folders_are_listed_with_what_is_wrong(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, damaged, ".", width=250)
    for words in (
        "yaml/run.yaml is not whole YAML", "scores/metrics.json is not whole JSON",
        "status/status.json cannot be read", "environment/environment.json holds a list",
        "shape/metrics.json is not that of a run (KeyError: 'by_task')",
        "lost/status.json is missing, though there is metrics.json",
    ):  # fmt: skip
        assert words in text
    page = (damaged / "runs.html").read_text()
    assert page.count('<tr data-folder="') == 9
    assert "scores/metrics.json is not whole JSON" in page


# The page


def test_links_lead_from_the_page_to_the_reports(home: Path, tmp_path: Path) -> None:
    page = render(list_runs([f"{home}/outputs/*"]), tmp_path)
    (address,) = {part.split('"')[0] for part in page.split('href="')[1:]} - {"data:,"}
    assert address.startswith("../")
    assert address.endswith("outputs/it%27s%20%3Cb%3E/report.html")


def test_labels_cannot_become_part_of_the_page(home: Path) -> None:
    page = render(list_runs([f"{home}/outputs/*"]), home)
    assert page.count("</script>") == 2, "that of the data and that of the script"
    assert "<i>" not in page
    assert "&lt;i&gt;first&lt;/i&gt;" in page


def test_only_settings_that_differ_among_the_runs_are_in_the_page(home: Path) -> None:
    runs = list_runs([f"{home}/multirun/*"])
    assert [one["settings"] for one in compared_values(runs)] == [
        {"model.lora.rank": "16"},
        {"model.lora.rank": "8"},
    ]


def test_the_page_refreshes_itself_as_long_as_a_run_is_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"state": "running", "pid": os.getpid(), "host": platform.node()}
    folder = make_run(tmp_path / "outputs/run", 1, "seed=3", **here)
    pages = []

    def sleep(seconds: float) -> None:
        assert seconds == 7
        pages.append((tmp_path / "runs.html").read_text())
        write(folder, "status.json", here if len(pages) < 2 else {"state": "done"})

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(command, "PATIENCE_SECONDS", 0.0)
    assert "done" in shown(capsys, tmp_path, "--watch", "7")
    assert ['http-equiv="refresh" content="7"' in page for page in pages] == [True, True]
    assert "refresh" not in (tmp_path / "runs.html").read_text().partition("<style>")[0]


def test_a_watch_waits_a_minute_for_a_run_to_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "outputs/run", 1, "seed=3")
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(command.time, "monotonic", lambda: now)
    assert "waiting" in shown(capsys, tmp_path, "--watch", "40")
    assert now == 80, "the first look after a minute"


# The picture


@pytest.mark.parametrize(
    ("grids", "output", "words"),
    [
        ([WRONG, RIGHT], RIGHT, "t1: solved"),
        ([WRONG], RIGHT, "t0: not solved"),
        ([WRONG], None, "t0: answered"),
    ],
)
def test_the_picture_shows_a_solved_task_if_there_is_one(
    grids: list[Grid], output: Grid | None, words: str
) -> None:
    tasks = TaskSet(task(f"t{number}", output) for number in range(2))
    candidates = [answer(f"t{number}", grid) for number, grid in enumerate(grids)]
    drawn = picture(task_cards(tasks, candidates, 2))
    assert drawn is not None
    assert f"<title>{words}</title>" in drawn
    assert drawn.count("<svg") == 5, "around a demonstration, a test input and its answer"


def test_there_is_no_picture_without_a_valid_answer() -> None:
    assert picture(task_cards(TaskSet([task("t0")]), [], 1)) is None


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def text(home: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return render(list_runs(["outputs/*", "multirun/*"]), home)


@pytest.fixture
def page(text: str, browser: Browser, tmp_path: Path) -> Browser:
    """The browser with the page of all runs, opened for the first time."""
    (tmp_path / "runs.html").write_text(text)
    browser.open(tmp_path / "runs.html")
    return browser


def seen(page: Browser) -> list[str]:
    """The last part of the folders of the rows that are shown, from above."""
    rows = page.do(
        "[...document.querySelectorAll('.runs tbody tr:not([hidden])')].map(r => r.dataset.folder)"
    )
    return [folder.rpartition("/")[2] for folder in rows]


def search(page: Browser, words: str) -> None:
    page.do(f"search.value = {json.dumps(words)}; search.dispatchEvent(new Event('input'))")


def click(page: Browser, selector: str) -> None:
    page.do(f"document.querySelector({json.dumps(selector)}).click()")


def test_search_looks_through_names_notes_options_and_folders(page: Browser) -> None:
    for words, found in (
        ("", ["going", "dead", "rank_16", "rank_8", "it's <b>"]),
        ("FIRST more", ["it's <b>"]),
        ("lora.rank", ["rank_16", "rank_8"]),
        ("sweep rank=8", ["rank_8"]),
        ("nothing like it", []),
    ):
        search(page, words)
        assert seen(page) == found
        assert page.do("document.getElementById('count').textContent") == f"{len(found)} of 5 shown"


def test_states_filter_together_with_the_search(page: Browser) -> None:
    click(page, "button[data-state=done]")
    assert seen(page) == ["rank_16", "rank_8", "it's <b>"]
    search(page, "seed")
    assert seen(page) == ["it's <b>"]


def test_columns_sort_both_ways_and_what_is_not_known_comes_last(page: Browser) -> None:
    click(page, "button[data-key='pass@2']")
    assert seen(page) == ["it's <b>", "rank_16", "rank_8", "going", "dead"]
    click(page, "button[data-key='pass@2']")
    assert seen(page) == ["rank_8", "rank_16", "it's <b>", "going", "dead"]
    click(page, "button[data-key=loss]")
    assert seen(page) == ["it's <b>", "rank_16", "rank_8", "going", "dead"]
    click(page, "button[data-key=options]")
    assert seen(page)[:2] == ["rank_16", "rank_8"]
    assert page.do("document.querySelector('[aria-sort]').textContent") == "options"


def test_two_runs_are_shown_side_by_side_with_the_command_for_more(page: Browser) -> None:
    assert page.do("compare.disabled")
    for place in (2, 3, 4):  # of three, the last two stay
        click(page, f".runs input[value='{place}']")
    click(page, "#compare")
    lines = page.do("comparison.innerText").splitlines()
    assert "\t<i>first</i>\trank_8\tdifference" in lines
    assert "pass@2\t50.0%\t12.5%\t−37.5 points" in lines  # noqa: RUF001
    assert "validation loss\t0.5000\t0.8750\t+0.3750" in lines
    assert any(line.startswith("95% interval of pass@2\t45.0–55.0%\t7.5–17.5%") for line in lines)  # noqa: RUF001
    assert "seed\t2\t1" in lines
    assert not any(line.startswith("optim.max_steps") for line in lines), "it is the same in both"
    quoted = "'outputs/it'\"'\"'s <b>'"
    assert f"python -m arc_experiments.report multirun/sweep/rank_8 --against {quoted}" in lines
    click(page, ".runs input[value='4']")
    assert page.do("comparison.hidden && compare.disabled")


def test_options_that_an_evaluation_does_not_read_are_empty_beside_a_training(
    browser: Browser, tmp_path: Path
) -> None:
    for day, options in enumerate(
        (
            ["job.name=finetune", "optim.max_steps=100"],
            ["job.name=evaluate"],
            ["job.name=evaluate", "optim.max_steps=9"],
        ),
        start=1,
    ):
        make_run(tmp_path / f"run{day}", day, *options, score=0.5)
    (tmp_path / "runs.html").write_text(render(list_runs([f"{tmp_path}/*"]), tmp_path))
    browser.open(tmp_path / "runs.html")

    def compared(*places: int) -> list[str]:
        for place in places:
            click(browser, f".runs input[value='{place}']")
        click(browser, "#compare")
        return str(browser.do("comparison.innerText")).splitlines()

    lines = compared(1, 2)
    assert "job.name\tfinetune\tevaluate" in lines
    assert "optim.max_steps\t100\t" in lines
    assert "None: they differ at most in their names and notes." in compared(0, 1), "neither has trained"


def test_what_was_typed_and_chosen_survives_a_refresh(page: Browser) -> None:
    search(page, "rank")
    click(page, "button[data-key=loss]")
    for place in (2, 3):
        click(page, f".runs input[value='{place}']")
    click(page, "#compare")
    page.reload()
    assert seen(page) == ["rank_16", "rank_8"]
    assert page.do("search.value") == "rank"
    assert page.do("document.querySelector('[aria-sort]').textContent") == "loss"
    assert "pass@2\t12.5%\t25.0%\t+12.5 points" in page.do("comparison.innerText")


@pytest.mark.parametrize("width", [1400, 900, 400])
def test_nothing_is_cut_off_or_scrolls_inside_the_page(width: int, page: Browser, tmp_path: Path) -> None:
    page.open(tmp_path / "runs.html", width=width)
    for place in (2, 4):
        click(page, f".runs input[value='{place}']")
    click(page, "#compare")
    assert page.do("document.documentElement.scrollWidth <= innerWidth")
    is_wide = "e.getBoundingClientRect().right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1"
    found = f"[...document.querySelectorAll('main *')].filter(e => e.clientWidth && ({is_wide}))"
    assert page.do(f"{found}.map(e => e.outerHTML)") == []
    assert page.do("[...document.images].every(image => image.naturalWidth > 0)")
