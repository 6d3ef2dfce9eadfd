"""BARC: lines of examples, as JSONL and as Parquet."""

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from arc_experiments.composing.compose import compose_config
from arc_experiments.corpus.corpus import Corpus
from arc_experiments.sources import Barc
from arc_experiments.tasks import BadTasks, Program, TrainingSource
from arc_experiments.tasks.rngs import rng_for


def example(number: int) -> list[list[list[int]]]:
    return [[[number % 10, number // 10], [1, 2]], [[number % 10]]]


def line(task: int, num_examples: int = 8) -> dict[str, Any]:
    return {
        "source": "def main(grid): return grid", "seeds": ["025d127b.py"],
        "examples": [example(10 * task + number) for number in range(num_examples)],
    }  # fmt: skip


LINES = [line(task) for task in range(3)]


def write_jsonl(path: Path, lines: list[Any] = LINES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in lines))
    return path


def write_parquet(path: Path, lines: list[Any] = LINES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(lines), path)
    return path


def read(path: Path, bad_tasks: BadTasks | None = None, **options: Any) -> TrainingSource:
    cache = path.parent / "cache"
    return Barc(path=str(path), cache_dir=str(cache), **options).read(bad_tasks or BadTasks())


def shown(source: TrainingSource, number: int) -> list[Any]:
    return [
        [pair.input.tolist(), pair.output.tolist()]
        for pair in source.pairs(number)
        if pair.output is not None
    ]


SOURCES = [
    "from common import *\n\ndef main(input_grid):\n    # turn it\n    return input_grid.T",
    "from common import *\n\ndef main(input_grid):\n    return crop(input_grid)\n\ndef unused(): ...",
    "def main(input_grid",
    None,
]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_a_task_has_the_program_of_its_line_in_its_normal_form(write: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a{'.jsonl' if write is write_jsonl else '.parquet'}"
    write(path, [{**line(number), "source": source} for number, source in enumerate(SOURCES)])
    for _ in range(2):  # from the file, then from the cache
        bad_tasks = BadTasks()
        source = pickle.loads(pickle.dumps(read(path, bad_tasks)))
        tasks = [source.draw(number, rng_for("test", number)) for number in range(4)]
        assert [task.program for task in tasks] == [
            Program(
                language="python",
                text="import numpy as np\n\ndef transform(v0):\n    v0 = np.array(v0)\n    return v0.T",
            ),
            Program(
                language="python",
                text="from common import crop\nimport numpy as np\n\n"
                "def transform(v0):\n    v0 = np.array(v0)\n    return crop(v0)",
            ),
            None,
            None,
        ]
        assert bad_tasks.notes == [
            "1 of 3 programs cannot be read: their tasks have none",
            "1 of 3 programs run only with programs.barc_library, since they use helpers of BARC's `common`",
        ]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_each_line_is_a_task_whose_examples_are_drawn(write: Any, tmp_path: Path) -> None:
    source = read(write(tmp_path / f"problems{'.jsonl' if write is write_jsonl else '.parquet'}"))
    assert source.ids == ("problems-000000", "problems-000001", "problems-000002")
    assert [shown(source, number) for number in range(3)] == [entry["examples"] for entry in LINES]
    lengths = set()
    for visit in range(40):
        task = source.draw(1, rng_for("test", visit))
        lengths.add((len(task.train), len(task.test)))
        assert (task.id, task.split) == ("problems-000001", "barc")
    assert lengths == {(3, 1), (4, 1), (5, 1)}


def test_the_files_of_a_folder_are_read_together(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "barc" / "b.jsonl")
    write_parquet(tmp_path / "barc" / "sub" / "a.parquet", LINES[:1])
    (tmp_path / "barc" / "README.md").write_text("")
    source = read(tmp_path / "barc")
    assert source.ids == ("b-000000", "b-000001", "b-000002", "sub/a-000000")


def test_files_in_a_zip_are_read_where_they_lie(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "barc.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(write_jsonl(tmp_path / "a.jsonl"), "a.jsonl")
        archive.write(write_parquet(tmp_path / "b.parquet", LINES[:1]), "b.parquet")
    source = read(tmp_path / "barc.zip")
    assert source.ids == ("a-000000", "a-000001", "a-000002", "b-000000")
    assert shown(source, 3) == LINES[0]["examples"]


def test_problems_with_too_few_examples_are_left_out_and_noted(tmp_path: Path) -> None:
    bad_tasks = BadTasks()
    source = read(write_jsonl(tmp_path / "a.jsonl", [line(0, 3), line(1, 4)]), bad_tasks)
    assert source.ids == ("a-000001",)
    assert bad_tasks.notes == ["1 of 2 tasks has fewer than 4 pairs and is never drawn: a-000000"]


def test_blank_lines_are_no_problems(tmp_path: Path) -> None:
    assert read(write_jsonl(tmp_path / "a.jsonl", [line(0), "", line(1)])).ids == ("a-000000", "a-000002")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"examples": [[', "{file}, line 2: not JSON in UTF-8"),
        ("3", "{file}, line 2 does not have the form"),
        ({"problem": []}, "{file}, line 2 does not have the form"),
        ({"examples": []}, "{file}, line 2 does not have the form"),
        ({"examples": [[[[1]]]]}, "{file}, line 2: task a-000001, pair 0 has no input"),
        (
            {"examples": [example(1), [[[1]], [[0.5]]]]},
            "{file}, line 2: task a-000001, pair 1, output: its cells are",
        ),
        ({"examples": [[[[1]], [[0] * 31]]]}, "{file}, line 2: task a-000001, pair 0, output: it is 1x31"),
    ],
)
def test_a_bad_line_is_refused_or_left_out(bad: Any, reason: str, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [line(0), bad, line(2)])
    with pytest.raises(ValueError, match=re.escape(reason.format(file=file))):
        read(file)
    bad_tasks = BadTasks(skip=True)
    source = read(file, bad_tasks)
    assert source.ids == ("a-000000", "a-000002")
    assert len(bad_tasks.skipped) == 1


def test_a_bad_pair_of_a_parquet_row_is_refused_with_its_place(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "a.parquet", [line(0), {**line(1), "examples": [example(1), [[[1, 2], [3]], [[1]]]]}]
    )
    with pytest.raises(
        ValueError, match=r"a\.parquet, line 2: task a-000001, pair 1, input: its rows have different"
    ):
        read(file)


@pytest.mark.parametrize("kept", [0.1, 0.9, 0.999])
def test_a_torn_parquet_file_is_told_in_one_message(kept: float, tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet")
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole Parquet file"):
        read(file)


def test_a_parquet_file_without_examples_is_refused_with_its_columns(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", [{"text": "x", "id": 1}])
    with pytest.raises(ValueError, match=r"a\.parquet: no column examples, only text, id"):
        read(file)


def test_a_folder_without_problems_is_refused(tmp_path: Path) -> None:
    (tmp_path / "barc").mkdir()
    with pytest.raises(ValueError, match=r"data\.path=.*/barc: no \.jsonl or \.parquet file in it"):
        read(tmp_path / "barc")


def test_barc_trains_and_arc_1_validates(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [*LINES, line(4, 2)])
    config = compose_config(["data=barc", f"data.path={file}", f"data.source.cache_dir={tmp_path}"])
    from arc_experiments.config.check import check

    corpus = Corpus(check(config).data, partition_seed=7)
    assert corpus.partition.train == ("a-000000", "a-000001", "a-000002")
    assert len(corpus.validation_tasks) == 100
    assert corpus.notes == {"barc": ["1 of 4 tasks has fewer than 4 pairs and is never drawn: a-000003"]}
