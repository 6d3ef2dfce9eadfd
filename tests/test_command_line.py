"""The words of a command line: help, other commands, tab completion, mistyped words."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from arc_experiments.composing.completion import completions
from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.help import EXAMPLES, help_text
from arc_experiments.composing.words import COMMANDS, GROUPS
from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import conf_dir
from arc_experiments.config.user_code.folders import options_of

ROOT = Path(__file__).resolve().parents[1]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the console script, as pip writes it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["arc-experiments"].partition(":")
    script = tmp_path_factory.mktemp("bin") / "arc-experiments"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    )
    script.chmod(0o755)
    return script.parent


def run(folder: Path, bin_folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words, cwd=folder, env=os.environ | paths, capture_output=True, text=True, timeout=60
    )


# Help


def test_help_has_each_group_with_its_options_and_each_command() -> None:
    files = {file.parent.relative_to(conf_dir()).as_posix() for file in conf_dir().glob("*/**/*.yaml")}
    assert set(GROUPS) == files - {"study"}, "studies are no part of a composition"
    words = help_text().split()
    for group in GROUPS:
        assert group in words
        assert options_of(group), group
        assert set(options_of(group)) <= set(words), group
    assert set(COMMANDS) <= set(words)


def test_the_table_of_the_documents_has_each_group_with_its_options() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([\w/]+)` \| ([^|]+) \|", text.partition("## ")[0], flags=re.MULTILINE))
    assert {group: sorted(re.findall(r"`(\w+)`", cell)) for group, cell in rows.items()} == {
        group: options_of(group) for group in GROUPS
    }


def test_help_fits_a_terminal_of_80_columns() -> None:
    assert max(map(len, help_text().splitlines())) <= 80


@pytest.mark.parametrize("typed", EXAMPLES)
def test_the_examples_of_help_compose(typed: str) -> None:
    words = [word for word in typed.split() if "=" in word and "<" not in word]
    parsed = OverridesParser.create().parse_overrides(words)
    swept = [
        f"{each.key_or_group}={next(each.sweep_string_iterator())}"
        for each in parsed
        if each.is_sweep_override()
    ]
    compose_config([*(word for word in words if "," not in word), *swept])


# Other commands


def test_the_table_names_every_other_command() -> None:
    package = ROOT / "arc_experiments"
    runnable = [*package.glob("*.py"), *package.glob("*/__main__.py")]
    with_main = {file for file in runnable if 'if __name__ == "__main__"' in file.read_text()}
    names = {file.parent.name if file.stem == "__main__" else file.stem for file in with_main}
    assert set(COMMANDS) == names - {"arc_experiments"}


@pytest.mark.slow
def test_a_first_word_is_another_command_with_its_arguments_and_its_exit_code(
    tmp_path: Path, bin_folder: Path
) -> None:
    status = run(tmp_path, bin_folder, "arc-experiments", "status", "nowhere")
    assert (status.returncode, status.stdout) == (2, "no runs in nowhere (a run's folder holds a run.yaml)\n")
    program = run(tmp_path, bin_folder, "arc-experiments", "programs", "check", "missing.py", "--task", "x")
    assert program.returncode == 2
    assert program.stderr.startswith("programs check: ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("compar", "compare?"),
        ("re_arc", "data=re_arc?"),
        ("optim.learning_rat", "optim.learning_rate=...?"),
        ("modle", "model=...?"),
    ],
)
def test_a_word_that_is_no_override_is_told_what_it_could_have_been(word: str, meant: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config([word, "seed=2"])
    assert str(raised.value).startswith(f"{word} is neither <key>=<value>, <group>=<option> nor ")
    assert str(raised.value).endswith(f"Did you mean: {meant}")


def test_a_word_that_is_like_nothing_is_told_the_commands() -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["xyzzy"])
    assert str(raised.value).endswith(f"nor one of the commands {', '.join(COMMANDS)}")


def test_an_option_added_to_the_one_that_is_there_is_told_how_to_replace_it() -> None:
    with pytest.raises(
        ConfigError, match=r"^data has an option already, which data=\.\.\. replaces: leave the \+"
    ):
        compose_config(["+data=re_arc"])


# Tab completion

RE_ARC = ("re_arc", "re_arc_held_out", "re_arc_short", "re_arc_trained")  # all data options that begin so
TYPE_LINES = """
eval "$(arc-experiments -sc install=bash)"
for COMP_LINE in "$@"; do
  words=($COMP_LINE)
  COMP_CWORD=$((${#words[@]} - 1)) COMP_POINT=${#COMP_LINE} COMPREPLY=()
  hydra_bash_completion
  echo "${COMPREPLY[@]}"
done
"""


@pytest.mark.slow
@needs_bash
def test_bash_completes_options_keys_lists_and_commands(tmp_path: Path, bin_folder: Path) -> None:
    expected = {
        "arc-experiments data=re": "data=re_arc data=re_arc_held_out data=re_arc_short data=re_arc_trained",
        "arc-experiments data=re_arc optim.learn": "optim.learning_rate=",
        "arc-experiments augmentation=[order,geo": "augmentation=[order,geometry",
        "arc-experiments comp": "compare",
        "arc-experiments seed=x=y data=re_arc_h": "",
    }
    done = run(tmp_path, bin_folder, "bash", "-c", TYPE_LINES, "bash", *expected)
    assert done.stdout.splitlines() == list(expected.values())
    assert done.stderr == "", "a message would stand in the middle of what is being typed"
    assert list(tmp_path.iterdir()) == []


@needs_bash
def test_python_m_installs_the_same_completion(tmp_path: Path, bin_folder: Path) -> None:
    module = run(tmp_path, bin_folder, sys.executable, "-m", "arc_experiments", "-sc", "install=bash")
    script = run(tmp_path, bin_folder, "arc-experiments", "-sc", "install=bash")
    assert module.stdout == script.stdout
    assert script.stdout.endswith("-F hydra_bash_completion arc-experiments\n")


@pytest.mark.parametrize(
    "line", ["arc-experiments --foo data=re", "arc-experiments data=nope seed.", "arc-experiments 'x se"]
)
def test_a_line_with_a_mistake_completes_to_nothing_in_silence(
    line: str, tmp_path: Path, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    done = run(tmp_path, bin_folder, "arc-experiments", "-sc", "query=bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) <= {f"data={name}" for name in RE_ARC}


def test_what_hydra_does_not_complete_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "out[1].json").touch()
    for line, found, is_all in [
        ("arc-experiments", list(COMMANDS), False),
        ("arc-experiments re", ["report", "reselect"], False),
        ("arc-experiments data=arc1 re", [], False),
        ("arc-experiments compare out", [], True),
        ("arc-experiments --mul", ["--multirun"], True),
        (
            "arc-experiments data=arc1,re_arc_",
            [f"data=arc1,{name}" for name in RE_ARC[1:]],
            True,
        ),
        ("arc-experiments prompt/grid=[minimal,sep", ["prompt/grid=[minimal,separated"], True),
        ("arc-experiments from_run=out", ["from_run=out[1].json", "from_run=outputs/"], True),
        ("arc-experiments data.path=out[", ["data.path=out[1].json"], True),
        ("arc-experiments data.path=none", [], True),
        ("arc-experiments nonsense=[a,", [], True),
    ]:
        assert completions(line) == (found, is_all), line
