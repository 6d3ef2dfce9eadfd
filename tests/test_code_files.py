"""The user's code that a composition names is part of a run's identity; its errors are shown as its own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.config.check import ConfigError, build
from arc_experiments.config.user_code.files import code_files, code_hashes, error_in
from arc_experiments.launching import worker
from arc_experiments.runs.folder import FolderError

AUGMENTATION = """
from dataclasses import dataclass

import numpy as np
from {helper} import half


@dataclass(frozen=True, kw_only=True)
class Mine:
    size: int = 2

    def __post_init__(self):
        half(self.size)

    def draw(self, task, rng):
        return half(task)
"""
HELPER = """
def half(number):
    return number / (number - 3)
"""
Typed = Callable[..., list[str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Typed:
    """Write modules that no other test has imported; returns what to type for the augmentation in them."""
    name = f"mine_{abs(hash(request.node.nodeid))}"
    monkeypatch.syspath_prepend(tmp_path)

    def write(augmentation: str = AUGMENTATION, helper: str = HELPER) -> list[str]:
        (tmp_path / f"{name}.py").write_text(augmentation.format(helper=f"{name}_helper"))
        (tmp_path / f"{name}_helper.py").write_text(helper)
        return ["experiment=smoke", f"+augmentation.mine._target_={name}.Mine"]

    return write


def only(tmp_path: Path, pattern: str) -> Path:
    (file,) = tmp_path.glob(pattern)
    return file


# Identity


def test_code_named_by_a_composition_is_found_with_its_imports(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from . import inner")
    (tmp_path / "package" / "inner.py").write_text("import numpy.linalg, json, nowhere")
    data = tmp_path / "data.py"
    data.write_text("import os.path\nimport package.inner\nfrom arc_experiments import compose\n")
    options = [*typed(), "data=custom", f"data.file={data}:load"]
    found = code_files(compose_config(options))
    name = options[1].partition("=")[2].removesuffix(".Mine")
    assert set(found) == {"augmentation.mine", "data.file"}
    assert found["augmentation.mine"] == {
        module: tmp_path / f"{module}.py" for module in (name, f"{name}_helper")
    }
    package = tmp_path / "package"
    assert found["data.file"] == {
        "data": data, "package": package / "__init__.py", "package.inner": package / "inner.py"
    }  # fmt: skip
    assert "package" not in sys.modules, "nothing of the user's is run to find it"


def test_a_composition_of_the_package_names_no_code() -> None:
    assert code_files(compose_config(["data=mix", "experiment=smoke"])) == {}


def test_a_file_of_one_source_of_a_mixture_is_named_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text("def get_custom_dataset(:")  # that it is no Python is told later
    options = ["data=mix", "+data@data.sources.mine=custom", f"data.sources.mine.file={tmp_path}/rows.py"]
    found = code_files(compose_config([*options, "+data.weights.mine=0.1"]))
    assert found == {"data.sources.mine.file": {"rows": tmp_path / "rows.py"}}


@pytest.mark.parametrize("changed", ["mine_*[0-9].py", "*_helper.py"])
def test_a_rerun_with_changed_code_is_refused_and_with_the_same_is_not(
    typed: Typed, tmp_path: Path, changed: str
) -> None:
    config, folder = compose_config(typed()), tmp_path / "run"
    freeze(config, folder, []).end("done")
    freeze(config, folder, [])
    file = only(tmp_path, changed)
    before = file.read_text()
    file.write_text("# A comment\n" + before.rstrip() + "  # and another\n")
    freeze(config, folder, [])
    file.write_text(before + "\nsize = 3\n")
    with pytest.raises(FolderError) as raised:
        freeze(config, folder, [])
    assert f"augmentation.mine: {file}\n" in str(raised.value)
    assert str(raised.value).count("augmentation.mine") == 1, "only what has changed"
    assert "resume=false" in str(raised.value)
    config.resume = False
    assert freeze(config, folder, []).path == tmp_path / "run-2"
    file.write_text(before)
    config.resume = True
    assert freeze(config, folder, []).is_done


@pytest.mark.parametrize(
    ("source", "same", "other"),
    [
        ("x = 1\n", "# é\nx = 1  # one\n", "x = 2\n"),
        ("x = '#a'\n", "x = '#a' #b\n", "x = '#b'\n"),
        ("x = '''a\n\nb'''\n", "x = '''a\n\nb''' # c\n", "x = '''a\nb'''\n"),
        ("if x:\n    y\n", "if x: # é\n    # no\n    y\n", "if x:\n  y\n"),
        ("no python (\n", "no python (\n", "no python ( # x\n"),
    ],
)
def test_comments_do_not_count_and_all_else_does(tmp_path: Path, source: str, same: str, other: str) -> None:
    file = tmp_path / "code.py"
    hashes = []
    for text in (source, same, other):
        file.write_text(text)
        hashes.append(code_hashes({"data.file": {"code": file}})["data.file"]["code"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_frozen_before_code_was_recorded_is_taken_as_it_is(typed: Typed, tmp_path: Path) -> None:
    config = compose_config(typed())
    folder = freeze(config, tmp_path / "run", [])
    recorded = folder.read_json("environment.json")
    assert recorded.pop("code") == code_hashes(code_files(config))
    folder.write_json("environment.json", recorded)
    assert "code" in freeze(config, tmp_path / "run", []).read_json("environment.json"), "from now on"


def test_a_worker_that_starts_later_refuses_code_that_was_changed_meanwhile(
    typed: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = freeze(compose_config(typed()), tmp_path / "run", [])
    only(tmp_path, "*_helper.py").write_text("def half(number): return 0")
    assert worker.main([str(folder.path)]) == worker.MISTAKE
    assert "was begun with other code" in capsys.readouterr().out
    assert "_helper.py" in json.loads((folder / "status.json").read_text())["error"]


# Errors


@pytest.mark.parametrize(
    ("augmentation", "options", "line", "what"),
    [
        (AUGMENTATION, ["+augmentation.mine.size=3"], 3, "ZeroDivisionError: division by zero"),
        ("import json\nx = {{}}['a']\n", [], 2, "KeyError: 'a'"),
        ("x = 1\n\ndef f(:\n", [], 3, "SyntaxError: invalid syntax"),
        ("import not_there\n", [], 1, "ModuleNotFoundError: No module named 'not_there'"),
        ("raise ValueError('no')\n", [], 1, "ValueError: no"),
    ],
)
def test_an_error_on_the_way_to_a_class_names_key_file_and_line(
    typed: Typed, augmentation: str, options: list[str], line: int, what: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config([*typed(augmentation), *options])
    first, *trace = str(raised.value).splitlines()
    assert first.startswith("augmentation.mine: /")
    assert first.endswith(f".py, line {line}: {what}")
    assert trace[0].startswith('  File "/')
    assert "hydra" not in str(raised.value)


def test_a_class_that_is_not_there_is_told_once_with_key_and_file(
    typed: Typed, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"^augmentation\.mine: .*/mine_\d+\.py has no class Mine"):
        compose_config(typed("x = 1"))
    assert capfd.readouterr().err == ""


class Drawn:
    """A dataset whose samples a transform draws."""

    def __init__(self, transform: Any, task: int) -> None:
        self.transform, self.task = transform, task

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self.transform.draw(self.task, np.random.default_rng(0))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_draw_names_key_file_and_line_also_from_a_process_that_loads_data(
    typed: Typed, num_workers: int
) -> None:
    config = compose_config(typed())
    transform = build(dict(config.augmentation.mine))
    samples = iter(DataLoader(Drawn(transform, 3), batch_size=None, num_workers=num_workers))
    with pytest.raises(ZeroDivisionError) as raised:
        next(samples)
    assert list(samples) == [], "its process has ended"
    told = error_in(code_files(config), raised.value)
    assert told is not None
    first, *trace = told.splitlines()
    assert first.startswith("augmentation.mine: /")
    assert first.endswith("_helper.py, line 3: ZeroDivisionError: division by zero")
    assert [text.rpartition(", in ")[2] for text in trace if text.startswith("  File")] == ["draw", "half"]
    assert error_in({}, raised.value) is None


def test_a_worker_ends_with_the_users_mistake_as_its_own(
    typed: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_config(typed())
    folder = freeze(config, tmp_path / "run", [])
    monkeypatch.setattr(
        worker, "_run_job", lambda *_: build(dict(config.augmentation.mine)).draw(3, np.random.default_rng(0))
    )
    assert worker.main([str(folder.path)]) == worker.MISTAKE
    assert "Failed: augmentation.mine: /" in capsys.readouterr().out
