"""`python -m arc_experiments.programs check`: one program on one task, shown and judged."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from arc_experiments.programs.__main__ import main

TASKS = {
    "mirror": {
        "train": [
            {"input": [[1, 2, 3]], "output": [[3, 2, 1]]},
            {"input": [[4, 0], [5, 6]], "output": [[0, 4], [6, 5]]},
        ],
        "test": [{"input": [[7, 8]], "output": [[8, 7]]}, {"input": [[9, 0]]}],
    }
}
RIGHT = "import numpy as np\ndef transform(grid):\n    return np.fliplr(grid)\n"


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(TASKS))
    return str(path)


def check(program: str, tasks: str, tmp_path: Path, *more: str) -> int:
    file = tmp_path / "program.py"
    file.write_text(program)
    return main(["check", str(file), "--data", tasks, "--task", "mirror", *more])


def test_a_right_program_is_verified_and_its_test_outputs_are_shown(
    tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(RIGHT, tasks, tmp_path) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "demonstration 1: right",
        "demonstration 2: right",
        "test 1: right",
        "input   given",
        "7 8     8 7",
        "",
        "test 2: no solution is known",
        "input   given",
        "9 0     0 9",
        "",
        "verified: 2 of 2 demonstrations right, 100.0% of cells",
    ]


def test_a_wrong_program_is_shown_cell_by_cell(
    tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "```python\ndef transform(grid):\n"
        "    if len(grid) == 1:\n        return [[3, 2, 9]]\n    return [[1]] if len(grid) == 2 else 1\n```"
    )
    assert check(program, tasks, tmp_path) == 1
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:7] == [
        "demonstration 1: wrong, 66.7% of cells right",
        "input   expected   given",
        "1 2 3   3 2 1      3 2 9!",
        "",
        "demonstration 2: wrong, 1x1 in place of 2x2",
        "input   expected   given",
        "4 0     0 4        1",
    ]
    assert lines[-1] == "not verified: 0 of 2 demonstrations right, 33.3% of cells"


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        (
            "def transform(grid):\n    return grid[9]",
            "demonstration 1: raised, line 2: IndexError: list index",
        ),
        ("import os\ndef transform(grid):\n    return grid", "import, line 1: ImportError: programs may not"),
        ("def transform(grid):\n    while True: pass", "timeout, it took over 0.2 s of CPU time"),
        ("def transform(grid):\n    return [[", "not a program in python (syntax)"),
        ("print('hello')", "not a program in python (no_program)"),
    ],
)
def test_a_program_that_fails_is_shown_with_the_reason(
    program: str, shown: str, tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(program, tasks, tmp_path, "--cpu-seconds", "0.2") == 1
    assert shown in capsys.readouterr().out


def test_a_program_of_another_language_comes_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tasks.json"
    pair = {"input": [[0, 0]], "output": [[0, 3]]}
    path.write_text(json.dumps({"dot": {"train": [pair], "test": [pair]}}))
    monkeypatch.setattr("sys.stdin", io.StringIO("pixel(3,0,1)\n"))
    assert main(["check", "-", "--data", str(path), "--task", "dot", "--language", "draw"]) == 0
    assert "verified: 1 of 1 demonstration right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mirrors"], "--task mirrors is not among the 1 task of {tasks}, such as mirror"),
        (["--task", "mirror", "--data", "arc3"], "data.path=arc3 does not exist"),
        (["--task", "mirror", "--data", "files"], "data.path is needed"),
    ],
)
def test_a_mistake_in_the_command_is_told_in_a_line(
    arguments: list[str], message: str, tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "program.py"
    file.write_text(RIGHT)
    assert main(["check", str(file), "--data", tasks, *arguments]) == 2
    assert message.format(tasks=tasks) in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["check"],
        ["check", "x", "--task", "y", "--cpu-seconds", "0"],
        ["check", "x", "--task", "y", "--language", "lisp"],
    ],
)
def test_a_wrong_argument_ends_the_command_with_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_the_command_runs_as_a_module_and_a_missing_file_is_told(tasks: str) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "arc_experiments.programs",
            "check",
            "none.py",
            "--data",
            tasks,
            "--task",
            "mirror",
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("programs check: the program none.py cannot be read: ")
    assert "Traceback" not in ended.stderr
