"""Tables in a narrow terminal: what is too long for a column goes to the next line, and nothing is lost."""

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from arc_experiments.jobs import inspect
from arc_experiments.jobs.results import selection_table
from arc_experiments.launching.tables import plain_table, progress_table, show_table
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import RunState
from arc_experiments.status import status_table
from arc_experiments.stream.counting import Counted, Lengths, SourceCount

NAME = "batch_size_16-learning_rate_0.0005-rank_128-seed_3"
BORDERS = str.maketrans(dict.fromkeys("┃│━─┏┓┡┩└┘┳╇┴╍ \n"))


def printed(shown: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(shown)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return text


def whole(shown: RenderableType) -> str:
    """As in eighty columns, which it may exceed."""
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def check_whole(text: str, *columns: list[str]) -> None:
    """Every character of each column's cells is there: the letters of all lines, whatever their order."""
    assert "…" not in text
    letters = "".join(text.translate(BORDERS))
    for cells in columns:
        for cell in cells:
            assert all(letters.count(letter) >= cell.count(letter) for letter in set(cell) - {" "}), cell


@pytest.mark.parametrize("width", [30, 50, 80])
def test_a_cell_that_is_too_long_goes_to_the_next_line(width: int) -> None:
    table = plain_table("job", "state", "validation loss per token", title="a title")
    table.add_row(NAME, "a-word-as-long-as-this-one-is-seldom-seen", "1.234")
    text = printed(table, width)
    pieces = [
        [line.split("│")[1 + place].strip() for line in text.splitlines() if "│" in line] for place in (0, 1)
    ]
    assert ["".join(column) for column in pieces] == [NAME, "a-word-as-long-as-this-one-is-seldom-seen"]


def test_the_tables_of_a_sweep_keep_the_names_of_its_jobs(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / f"{NAME}_{number}") for number in range(3)]
    for folder in folders:
        folder.path.mkdir()
        (folder / "run.yaml").touch()
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    show_table(folders, tmp_path, lambda folder: RunState(name="waiting"), console)
    results = console.file.getvalue()  # type: ignore[attr-defined]
    states = {folder.path: RunState(name="running", step=3, max_steps=10, loss=0.5) for folder in folders}
    for text in (results, printed(progress_table(states, max_rows=5)), whole(status_table(folders))):
        check_whole(text, [folder.path.name for folder in folders])


def test_the_names_of_selection_rules_are_whole() -> None:
    name = "votes_then_log_probability_of_everything"
    part = {"not_chosen": 0.1, "interval": [0.05, 0.2]}
    score = {
        "by_selection": {name: {"pass_at_1": 0.1, "pass_at_2": 0.2}},
        "lost": {"by_selection": {name: part}},
    }
    check_whole(printed(selection_table(score, name, ""), 80), [f"{name} (the attempts)", "20.0%"])


def test_the_lengths_of_samples_are_whole_in_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    counts = {"tokens": [1000] * 20000, "learnt": 300, "num_shrunk": 12345, "num_redrawn": 12345}
    source = SourceCount(**counts, visits=Counter({f"task_{number}": 12345 for number in range(400)}))
    counted = Counted(by_source={"a_source_of_a_mixture": source}, rows=[1000])
    inspect._show_lengths(counted, Lengths(**counts), console)
    text = console.file.getvalue().partition("lengths of")[0]  # type: ignore[attr-defined]
    check_whole(text, ["a_source_of_a_mixture", "20,000"], list(inspect.LENGTHS))
