"""The name and the note of a run: free text that is shown, and that makes no other run."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from arc_experiments import status
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.composing.naming import differences, folder_name
from arc_experiments.config.check import ConfigError
from arc_experiments.launching import worker
from arc_experiments.report.page import write_report
from arc_experiments.runs.folder import FolderError
from arc_experiments.runs.labels import Labels, read_labels, read_values
from arc_experiments.tasks.task import TaskSet

LABELS = ["name=higher rank", "note=does it help [again], with {the} same steps?"]


def frozen(path: Path, *overrides: str) -> Labels:
    """The labels of a folder after a command."""
    return read_labels(freeze(compose_config(list(overrides)), path, list(overrides)).path)


@pytest.mark.parametrize(
    "text",
    ["why not (again), {now} [or] later: a=b", "what's that", r"a \ b\\", r"it's \'so\'", "7"],
)
def test_any_text_is_taken_as_it_was_typed(text: str) -> None:
    assert compose_config([f"note={text}"]).note == text
    assert compose_config(["note='in quotes'"]).note == "in quotes"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("name=two\nlines", "must be one line of visible text"),
        ("name='  '", "must be one line of visible text"),
        (f"name={61 * 'x'}", "name has 61 characters, at most 60"),
        (f"note={1001 * 'x'}", "note has 1001 characters, at most 1000"),
    ],
)
def test_what_no_table_could_show_is_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose_config([override])


def test_a_label_makes_no_other_run() -> None:
    plain, named = compose_config([]), compose_config(LABELS)
    assert folder_name(plain) == folder_name(named)
    assert differences(plain, named) == []


@pytest.mark.slow
def test_another_note_belongs_to_the_same_folder_and_none_leaves_what_is_there(tmp_path: Path) -> None:
    first = Labels(name="higher rank", note="does it help [again], with {the} same steps?")
    assert frozen(tmp_path, *LABELS) == first
    assert frozen(tmp_path) == first
    assert frozen(tmp_path, "note=it does") == Labels(name="higher rank", note="it does")
    assert frozen(tmp_path, "name=", "note=null") == Labels(note="it does")
    with pytest.raises(FolderError, match="holds another run"):
        frozen(tmp_path, "note=it does", "seed=2")


def test_labels_of_a_run_yaml_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: [")
    assert read_labels(tmp_path) == Labels()
    with pytest.raises(FolderError, match=r"run\.yaml is not whole YAML: while parsing"):
        read_values(tmp_path)
    (tmp_path / "run.yaml").write_text("")
    with pytest.raises(FolderError, match="holds no settings"):
        read_values(tmp_path)


def test_the_worker_shows_them_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, shown = freeze(compose_config(LABELS), tmp_path, []), io.StringIO()
    monkeypatch.setattr(worker, "lasting_console", lambda quiet: Console(file=shown, width=200, quiet=quiet))
    monkeypatch.setattr(worker, "_work", lambda folder, node, console: 0)
    monkeypatch.setattr(worker.cores_and_gpus, "end_with_starter", lambda: None)
    assert worker.main([str(folder.path)]) == 0
    assert [line.split(maxsplit=1) for line in shown.getvalue().splitlines()] == [
        ["name", "higher rank"],
        ["note", "does it help [again], with {the} same steps?"],
    ]


def test_the_status_shows_them_below_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    frozen(tmp_path / "run", *LABELS)
    assert status.main([str(tmp_path)]) == 0
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    at = lines.index(next(line for line in lines if line.startswith("higher rank")))
    assert str(tmp_path / "run") in lines[at - 1]
    assert lines[at + 1].startswith("does it help [again], with {the} same steps?")


def test_the_report_begins_with_the_name_and_the_note(tmp_path: Path) -> None:
    frozen(tmp_path / "run-1", "name=<b>higher", "note=is 1 < 2?")
    page = write_report(tmp_path / "run-1", TaskSet([])).read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;higher – report</title>" in page.replace("\N{EN DASH}", "–")  # noqa: RUF001
    assert "<h1>&lt;b&gt;higher</h1>" in page
    assert '<p class="subtitle">run-1 · finetune' in page
    assert "is 1 &lt; 2?" in page
