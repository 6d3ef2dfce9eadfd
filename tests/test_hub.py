"""Rows of datasets become tasks, whichever layout they have; local folders stand for the hub."""

import json
from pathlib import Path
from typing import Any

import datasets
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from task_files import GOOD, as_json, pairs_json, task_sets, write

from arc_experiments.composing.compose import compose_config
from arc_experiments.sources import Hub
from arc_experiments.tasks import BadTasks, TaskSet, TrainingSource
from arc_experiments.tasks.images import Image
from arc_experiments.tasks.ready_rows import parse_row
from arc_experiments.tasks.rngs import rng_for

ROW = {"id": "a", **GOOD}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` keeps of what it read stays out of the user's folder, and it draws no bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def read(path: Path, **options: Any) -> TrainingSource:
    return Hub(path=str(path), **options).read(BadTasks())


def parquet(folder: Path, rows: list[dict[str, Any]], split: str = "train") -> Path:
    folder.mkdir(exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write(folder, "train.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(task_sets())
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, tasks: TaskSet) -> None:
    folder = tmp_path_factory.mktemp("rows")
    for split in ("training", "evaluation", "test"):
        rows = [{"id": task.id, **task.to_json()} for task in tasks if task.split == split]
        if rows:
            parquet(folder, rows, {"training": "train", "evaluation": "validation", "test": "test"}[split])
    assert as_json(read(folder).fixed) == as_json(tasks)


def test_lines_files_and_saved_datasets_are_read(tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows", [ROW])
    datasets.Dataset.from_list([ROW]).save_to_disk(tmp_path / "saved")
    for path in (rows, rows / "train.jsonl", tmp_path / "saved"):
        source = read(path)
        assert as_json(source.fixed) == {"a": ("training", GOOD)}


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"task_id": "a", **GOOD}, {}),
        ({"task": "a", **GOOD}, {"id_column": "task"}),
        ({"id": "a", "shown": GOOD["train"], "asked": GOOD["test"]},
         {"train_columns": ["shown"], "test_columns": ["asked"]}),
        ({"id": "a", "i": [[[1, 2]]], "o": [[[2], [1]]], "qi": [[[3]]], "qo": [[[4]]]},
         {"train_columns": ["i", "o"], "test_columns": ["qi", "qo"]}),
        ({"id": "a", "train": GOOD["train"], "test_input": [[3]], "test_output": [[4]]},
         {"test_columns": ["test_input", "test_output"]}),
        ({"id": "a", "train": {"input": [[[1, 2]]], "output": [[[2], [1]]]}, "test": GOOD["test"]}, {}),
        ({"id": "a", "train": json.dumps(GOOD["train"]), "test": json.dumps(GOOD["test"])}, {}),
        ({"id": "a", "train": [[[[1, 2]], [[2], [1]]]], "test": [[[[3]], [[4]]]]}, {}),
    ],
)  # fmt: skip
def test_columns_may_have_other_names_and_layouts(
    row: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    assert as_json(read(parquet(tmp_path / "rows", [row]), **options).fixed) == {"a": ("training", GOOD)}


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    assert read(parquet(tmp_path / "rows", [GOOD, GOOD], "test")).ids == ("test_0", "test_1")


def test_only_some_splits_are_read(tmp_path: Path) -> None:
    folder = parquet(parquet(tmp_path / "rows", [ROW]), [{**ROW, "id": "b"}], "validation")
    assert read(folder).ids == ("a", "b")
    assert [task.split for task in read(folder, splits=["validation"]).fixed] == ["evaluation"]
    with pytest.raises(ValueError, match=r"splits: .* has no other, it has: train, validation"):
        read(folder, splits=["other"])


@pytest.mark.parametrize("layout", ["examples", "pairs"])
def test_pairs_without_roles_are_drawn_from(layout: str, tmp_path: Path) -> None:
    pairs: list[Any] = pairs_json(9)
    if layout == "examples":
        pairs = [[pair["input"], pair["output"]] for pair in pairs]
    source = read(parquet(tmp_path / "rows", [{"id": "a", layout: pairs}]), num_demonstrations=[2, 20])
    counts = {len(source.draw(0, rng_for("test", 1, visit)).train) for visit in range(100)}
    assert counts == set(range(2, 9)), "at most all but the test pair"
    assert (len(source.fixed), len(list(source.pairs(0)))) == (0, 9)


def test_a_bad_row_is_told_by_its_number_and_can_be_left_out(tmp_path: Path) -> None:
    bad = {"id": "b", "train": [{"input": [[1]], "output": [[10]]}], "test": GOOD["test"]}
    short = {"id": "c", "train": GOOD["train"], "test": []}
    folder = parquet(tmp_path / "rows", [ROW, bad, short])
    with pytest.raises(
        ValueError, match=r"\(train, row 1\): task b, train pair 0, output: it has the cell 10"
    ):
        read(folder)
    bad_tasks = BadTasks(skip=True)
    assert Hub(path=str(folder)).read(bad_tasks).ids == ("a",)
    assert len(bad_tasks.skipped) == 2


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        ([{"id": "a", "question": "?"}], {}, "has no column train, test, it has: id, question"),
        ([ROW], {"id_column": "name"}, "has no column name"),
        ([ROW, ROW], {}, "it has two tasks with the id a"),
        ([{"id": "a", "train": "{", "test": "[]"}], {}, "task a: not JSON"),
        ([{"id": "a", "train": [1], "test": [2]}], {}, "task a, train pair 0 has no input"),
        ([{"id": "a", "i": [[[1]]], "o": [[[1]], [[2]]]}],
         {"train_columns": ["i", "o"], "test_columns": ["i"]},
         "task a: inputs and outputs are not lists of the same length"),
        ([{"id": "a", "pairs": pairs_json(3)}], {}, "task a has 3 different pairs"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(
    rows: list[dict[str, Any]], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        read(parquet(tmp_path / "rows", rows), **options)


def test_a_dataset_that_cannot_be_loaded_ends_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (str(tmp_path / "empty"), "nobody/nothing"):
        with pytest.raises(ValueError, match=f"data.path={path}: cannot be loaded as a dataset: ") as raised:
            Hub(path=path).read(BadTasks())
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"train_columns": []}, "train_columns=.* is not one column of pairs"),
        ({"num_demonstrations": [3, 2]}, "num_demonstrations=.* is not"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Hub(path="a/b", **options)


def test_a_hub_id_need_not_be_a_folder() -> None:
    assert compose_config(["data=hub", "data.path=owner/name"]).data.path == "owner/name"
    with pytest.raises(ValueError, match=r"data\.path=\./nowhere/name does not exist"):
        compose_config(["data=hub", "data.path=./nowhere/name"])


# Ready rows

TALK = [
    {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "Which colour?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Red."}]},
]


def photo(colour: int) -> Any:
    return PIL.Image.new("RGB", (20, 10), (colour, 0, 0))


def with_images(folder: Path, split: str, colours: list[int]) -> Path:
    rows = [{"messages": TALK, "images": [photo(colour)], "source": "mine"} for colour in colours]
    features = datasets.Dataset.from_list([{"messages": TALK, "source": ""}]).features
    features["images"] = datasets.List(datasets.Image())
    folder.mkdir(exist_ok=True)
    table = datasets.Dataset.from_list(rows, features=features)
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_rows_of_messages_and_images_are_ready_rows(tmp_path: Path) -> None:
    with_images(tmp_path / "rows", "train", [1, 2, 2, 3])
    bad_tasks = BadTasks()
    folder = with_images(tmp_path / "rows", "validation", [3])
    rows = Hub(path=str(folder)).read(bad_tasks).fixed
    expected = [parse_row({"messages": TALK, "image": photo(n)}, split="", where="") for n in (1, 2, 3)]
    assert sorted(rows.ids) == sorted(row.id for row in expected)
    assert [row.split for row in rows.select([row.id for row in expected])] == [
        "training", "training", "evaluation"
    ]  # fmt: skip
    assert len(bad_tasks.skipped) == 2, "one in training twice, one also in validation"


def test_a_folder_of_image_files_with_their_conversations_is_read(tmp_path: Path) -> None:
    lines = []
    for colour in (1, 2):
        photo(colour).save(tmp_path / f"{colour}.png")
        talk = [{"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": "Red."}]
        lines.append(json.dumps({"file_name": f"{colour}.png", "messages": talk}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    rows = read(tmp_path).fixed
    assert {task.images[0].digest for task in rows} == {Image.of(photo(n), "").digest for n in (1, 2)}


def test_a_row_that_cannot_be_read_is_named_by_split_and_number(tmp_path: Path) -> None:
    parquet(tmp_path / "rows", [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}])
    with pytest.raises(ValueError, match=r"rows \(train, row 1\), completion is empty"):
        read(tmp_path / "rows")
