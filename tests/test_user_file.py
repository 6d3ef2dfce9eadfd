"""A user's Python file: what its function returns trains and validates; its mistakes are shown as its own."""

import io
import json
import pickle
import random
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from rich.console import Console
from small_training import SMALL, same, trained, weights
from torch.utils.data import DataLoader
from toy_models import make_base

from arc_experiments import compose, load_run
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.jobs import benchmark, evaluate, finetune, inspect
from arc_experiments.jobs.beginning import begin, find_leaks, leaks_text
from arc_experiments.report.__main__ import main as report
from arc_experiments.run import Run
from arc_experiments.runs.folder import FolderError
from arc_experiments.sources import UserFile
from arc_experiments.tasks import BadTasks, FixedTasks, Row, TaskSet
from arc_experiments.training.checkpoints import last_complete
from arc_experiments.training.dataset import Collator, Turn, as_dataset, as_iterable

TASK = {"train": [{"input": [[1, 0]], "output": [[0, 1]]}], "test": [{"input": [[2]], "output": [[3]]}]}
OTHER = {**TASK, "test": [{"input": [[4]], "output": [[5]]}]}

# 12 rows to train on, 4 to validate on, in the tiny model's alphabet.
ROWS_FILE = """
    def get_custom_dataset(dataset_config, processor, split):
        numbers = range(12) if split == "train" else range(12, 16)
        return [{"prompt": f"I{n}\\nO", "completion": f"{n * n}\\n"} for n in numbers]
"""
TASKS_FILE = """
    def get_custom_dataset(dataset_config, processor, split):
        numbers = range(10) if split == "train" else range(10, 14)
        def pairs_of(n):
            return [{"input": [[a, n % 10]], "output": [[n % 10, a]]} for a in range(n % 3 + 3)]
        pairs = {n: pairs_of(n) for n in numbers}
        return {f"swap{n}": {"train": made[:-1], "test": made[-1:]} for n, made in pairs.items()}
"""


def write(folder: Path, text: str, name: str = "my_dataset.py") -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


def read(file: Path | str, bad_tasks: BadTasks | None = None, **options: Any) -> FixedTasks:
    return UserFile(file=str(file), **options).read(bad_tasks or BadTasks())


def given(result: Any, folder: Path, **options: Any) -> TaskSet:
    """What is read of a function that gives this for training."""
    GIVEN[str(folder)] = result
    file = write(
        folder,
        f"""
        from test_user_file import GIVEN

        def get_custom_dataset(dataset_config, processor, split):
            return GIVEN[{str(folder)!r}]
        """,
    )
    return read(file, validation_split=None, **options).fixed


GIVEN: dict[str, Any] = {}


# What a function can give


class Indexed:
    """Like a dataset of torch's, which is read by number."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> dict[str, Any]:
        return [TASK, OTHER][number]


@pytest.mark.parametrize(
    "form",
    ["list", "tuple", "ids", "objects", "taskset", "dataset", "indexed", "arrays"],
)
def test_arc_tasks_can_be_given_in_many_forms(form: str, tmp_path: Path) -> None:
    plain = given({"a": TASK, "b": OTHER}, tmp_path)
    arrays = [{part: [{k: np.array(v) for k, v in pair.items()} for pair in TASK[part]] for part in TASK}]
    result: Any = {
        "list": [TASK | {"id": "a"}, OTHER | {"task_id": "b"}],
        "tuple": ({"id": "a", **TASK}, {"id": "b", **OTHER}),
        "ids": {"a": TASK, "b": OTHER},
        "objects": list(plain),
        "taskset": plain,
        "dataset": Dataset.from_list([{"id": "a", **TASK}, {"id": "b", **OTHER}]),
        "indexed": Indexed(),
        "arrays": arrays,
    }[form]
    tasks = given(result, tmp_path)
    if form in ("indexed", "arrays"):
        assert all(re.fullmatch("task_[0-9a-f]{16}", task_id) for task_id in tasks.ids)
        tasks = TaskSet(
            type(task)(id=name, train=task.train, test=task.test)
            for name, task in zip("ab", tasks, strict=False)
        )
        assert tasks.hash() == plain.select(tasks.ids).hash()
    else:
        assert (tasks.ids, tasks.hash()) == (("a", "b"), plain.hash())
    assert {task.split for task in given(result, tmp_path)} == {"training"}


@pytest.mark.parametrize("wrap", [list, tuple, Dataset.from_list])
@pytest.mark.parametrize(
    "row",
    [
        {"text": "I1\n"},
        {"prompt": "I1\nO", "completion": "1\n"},
        {"messages": [{"role": "user", "content": "I1"}, {"role": "assistant", "content": "O1"}]},
        {
            "prompt": [{"role": "user", "content": "I1"}],
            "completion": [{"role": "assistant", "content": "O1"}],
        },
        {"input_ids": [5, 8, 9], "labels": [-100, 8, 9]},
        {"input_ids": [5, 8, 9], "attention_mask": [1, 1, 0]},
    ],
)
def test_ready_rows_can_be_given_in_many_forms(row: dict[str, Any], wrap: Any, tmp_path: Path) -> None:
    rows = given(wrap([row | {"source": "mine"}]), tmp_path)
    assert [type(item) for item in rows] == [Row]
    assert rows.ids == given([row], tmp_path).ids  # other columns do not count
    assert re.fullmatch("row_[0-9a-f]{16}", rows.ids[0])


def test_padding_of_tokenised_rows_is_left_out(tmp_path: Path) -> None:
    padded = {"input_ids": [5, 8, 0, 0], "labels": [5, 8, -100, -100], "attention_mask": [1, 1, 0, 0]}
    assert given([padded], tmp_path).ids == given([{"input_ids": [5, 8]}], tmp_path).ids


def test_the_function_is_asked_for_both_splits_with_its_settings(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        calls = []

        def rows(dataset_config, processor, split, split_ratio=0.5):
            calls.append((vars(dataset_config), split, split_ratio))
            return [{"text": split}]
        """,
    )
    options = {"train_split": "learn", "validation_split": "test", "options": {"language": "en"}}
    tasks = read(f"{file}:rows", split_ratio=0.9, **options).fixed
    assert [(task.content["text"], task.split) for task in tasks] == [
        ("learn", "training"), ("test", "evaluation")
    ]  # fmt: skip
    [module] = [m for m in sys.modules.values() if getattr(m, "__file__", None) == str(file)]
    settings = {
        "dataset": "custom_dataset", "file": f"{file}:rows", "train_split": "learn", "test_split": "test",
        "language": "en",
    }  # fmt: skip
    assert module.calls == [(settings, "learn", 0.9), (settings, "test", 0.9)]
    read(f"{file}:rows", train_split="a", validation_split=None)
    assert module.calls[2:] == [(module.calls[2][0], "a", 0.5)]  # the file is not run again
    file.write_text(file.read_text().replace("calls = []", "calls = ['new']"))
    read(f"{file}:rows")  # but once it has changed


def test_a_validation_split_of_none_holds_nothing_out(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        def get_custom_dataset(dataset_config, processor, split):
            return [{"text": "1"}, {"text": "2"}] if split == "train" else None
        """,
    )
    assert {task.split for task in read(file).fixed} == {"training"}


def test_what_is_in_the_validation_split_does_not_train(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        def get_custom_dataset(dataset_config, processor, split):
            return [{"text": "1"}, {"text": "2"}, {"text": "2"}] if split == "train" else [{"text": "1"}]
        """,
    )
    bad_tasks = BadTasks()
    tasks = read(file, bad_tasks).fixed
    assert [(task.content["text"], task.split) for task in tasks] == [("2", "training"), ("1", "evaluation")]
    assert [re.search(r"item (\d): row_", message)[1] for message in bad_tasks.skipped] == ["0", "2"]


def test_a_function_that_shuffles_gives_the_same_each_time(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        import random
        import numpy as np

        def get_custom_dataset(dataset_config, processor, split):
            rows = [{"text": str(n)} for n in range(20)]
            random.shuffle(rows)
            held_out = set(np.random.permutation(20)[:5])
            return [row for n, row in enumerate(rows) if (n in held_out) == (split != "train")]
        """,
    )
    random.seed(1)
    first, state = read(file).fixed, random.getstate()
    random.seed(2)
    assert read(file).fixed.ids == first.ids
    assert [task.split for task in first].count("evaluation") == 5  # both calls drew the same
    random.seed(1)
    assert random.getstate() == state


def test_random_numbers_of_the_file_and_of_items_are_the_same_each_time(tmp_path: Path) -> None:
    text = """
        import random

        PREFIX = str(random.random())

        class Rows:
            def __len__(self):
                return 3

            def __getitem__(self, number):
                if number >= 3:
                    raise IndexError
                return {"text": PREFIX + str(random.random())}

        def get_custom_dataset(dataset_config, processor, split):
            return Rows()
        """
    drawn = []
    for seed, name in enumerate(("one.py", "two.py")):  # a module is kept: two files are run twice
        random.seed(seed)
        tasks = read(write(tmp_path, text, name), validation_split=None).fixed
        drawn.append([task.content["text"] for task in tasks])
    assert drawn[0] == drawn[1]


# Mistakes


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"returned None\. Expected a list"),
        (3, r"returned int 3\. Expected a list, a dict \{id: task\} or a Dataset"),
        ("text", r"returned str 'text'\."),
        ((n for n in [TASK]), r"returned generator "),
        ([], r"returned no items, list \[\]"),
        (TASK, r"returned a single item, dict .* not a list"),
        ({"text": "a"}, r"returned a single item, dict"),
        ([1], r"item 0 is int 1\. Expected"),
        ([{"question": "a"}], r"item 0 has no known form: its keys are question\. Expected"),
        ([{"text": "a", **TASK}], r"item 0 mixes an ARC task and text"),
        ([{"text": "a", "messages": []}], r"mixes the forms text and messages"),
        ([{"text": ""}], r"item 0, text is empty"),
        ([{"text": 3}], r"item 0, text is not a text: int 3"),
        ([{"text": "\ud83d"}], r"text contains half a surrogate pair"),
        ([{"prompt": "a", "completion": ["b"]}], r"completion is not a text: list \['b'\]"),
        ([{"prompt": [], "completion": []}], r"prompt is not a list of messages: list \[\]"),
        ([{"messages": [{"role": "user", "content": "a"}]}], r"no message with the role assistant"),
        ([{"messages": [{"role": "assistant", "content": "a"}]}], r"begins with the assistant"),
        ([{"messages": [{"from": "user"}]}], r'message 0 does not have the form \{"role": "user"'),
        ([{"messages": [{"role": "user", "content": [1]}]}], r"message 0, part 0 is neither .*: int 1"),
        ([{"input_ids": "abc"}], r"input_ids is not a list of numbers: str 'abc'"),
        ([{"input_ids": [1, 2], "labels": [1]}], r"have different lengths"),
        ([{"input_ids": [1, 2], "labels": [1, -100]}], r"no label after its first token"),
        ([{"input_ids": [1, 2], "labels": [1, 3]}], r"each label its token's id or -100"),
        ([{"input_ids": []}], r"input_ids is not a list of numbers: list \[\]"),
        ({"a": {"train": [], "test": []}}, r"task a has no train pairs"),
        ([{**TASK, "test": [{"input": [[11]], "output": [[1]]}]}], r"test pair 0, input: it has the cell 11"),
        ([{"id": 5, **TASK}, {"id": 5, **OTHER}], r"item 1: another task has the id 5"),
    ],
)  # fmt: skip
def test_a_wrong_return_value_is_named_with_what_is_expected(
    result: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.file=.*my_dataset\.py: get_custom_dataset for 'train'.*{message}"
    ):
        given(result, tmp_path)


def test_bad_items_can_be_skipped(tmp_path: Path) -> None:
    bad_tasks = BadTasks(skip=True)
    GIVEN["skipped"] = [{"text": "a"}, {"text": ""}, 7]
    file = write(
        tmp_path,
        """
        from test_user_file import GIVEN

        def get_custom_dataset(dataset_config, processor, split):
            return GIVEN["skipped"]
        """,
    )
    assert len(read(file, bad_tasks, validation_split=None).fixed) == 1
    assert ["text is empty" in bad_tasks.skipped[0], "is int 7" in bad_tasks.skipped[1]] == [True, True]
    GIVEN["skipped"] = [{"text": ""}, 7]
    with pytest.raises(ValueError, match=r"none of its items can be read; the first: .*text is empty"):
        read(file, BadTasks(skip=True), validation_split=None)


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("import json\nx = json.loads('{')\n", 2, "JSONDecodeError: Expecting property name"),
        ("def get_custom_dataset(:\n", 1, "SyntaxError"),
        ("def get_custom_dataset(a, b, c):\n    return inner()\n\ndef inner():\n    return {}['x']\n",
         5, "KeyError: 'x'"),
        ("import sys\nsys.exit(2)\n", 2, "SystemExit: 2"),
        (
            "class Lazy:\n    def __len__(self):\n        return 2\n"
            "    def __getitem__(self, n):\n        return 1 / 0\n\n"
            "def get_custom_dataset(a, b, c):\n    return Lazy()\n",
            5,
            "ZeroDivisionError",
        ),
    ],
)  # fmt: skip
def test_an_error_inside_the_file_is_shown_as_the_users(
    text: str, line: int, shown: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"data\.file=.*mine\.py: an error in this file") as raised:
        read(file)
    message = str(raised.value)
    assert f'File "{file}", line {line}' in message
    assert shown in message
    assert "user_code.py" not in message  # ours is not
    assert "user_file.py" not in message


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("dataset_config, split", r"cannot be called as get_custom_dataset\(dataset_config, processor, "),
        ("dataset_config, processor, split, *, folder", r"missing a required argument: 'folder'"),
        ("dataset_config, processor, split, split_ratio", r"needs a split_ratio: data\.source\.split_ratio="),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_called_is_refused(signature: str, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"def get_custom_dataset({signature}):\n    return [{{'text': 'a'}}]\n")
    with pytest.raises(ValueError, match=message):
        read(file)


def test_a_split_ratio_that_the_function_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.source\.split_ratio=0\.8: .* does not accept a split_ratio"):
        read(write(tmp_path, ROWS_FILE), split_ratio=0.8)


def test_a_missing_function_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    file = write(tmp_path, "def get_rows(a, b, c):\n    return []\n")
    with pytest.raises(ValueError, match=r"no function get_custom_dataset\. It has: get_rows; .*:<function>"):
        read(file)


def test_a_function_that_does_not_look_at_the_split_is_told_so(tmp_path: Path) -> None:
    file = write(tmp_path, "def get_custom_dataset(a, b, c):\n    return [{'text': 'a'}]\n")
    with pytest.raises(ValueError, match=r"Make it use `split`, or .*validation_split=null"):
        read(file)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "data.file is needed and has no value: data.file=..."),
        (["data.file=nowhere.py"], "data.file=nowhere.py: there is no file nowhere.py (looked in"),
        (["data.file=nowhere.py:rows"], "there is no file nowhere.py"),
        (["data.file=README.md"], "data.file=README.md is not a Python file"),
        (["data.file={file}", "data.source.split_ratio=2"],
         "data.source: split_ratio=2.0 is not between 0 and 1"),
        (["data.file={file}", "data.source.train_split=validation"],
         "data.source: train_split and validation_split"),
        (["data.file={file}", "+data.source.options.file=x"],
         "data.source: options.file is already set by data.file"),
        (["data.file={file}", "data.path={file}"], "is not read by data=custom"),
        (["data=arc1", "data.file={file}"], "is not read by data=arc1: use data=custom"),
        (
            ["data=mix", "+data@data.sources.mine=custom", "data.sources.mine.file={file}",
             "+data.weights.mine=1",
             "data.sources.mine.partition=none"],
            "data.sources.mine.source.validation_split=null",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_composition_is_answered_at_once(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    file = write(tmp_path, ROWS_FILE)
    with pytest.raises(ConfigError) as raised:
        compose_config(["data=custom", *(text.format(file=file) for text in overrides)])
    assert message in str(raised.value)


# Runs


def custom_run(folder: Path, text: str, *overrides: str) -> Run:
    file = write(folder, text)
    return compose(
        [*SMALL, "data=custom", f"data.file={file}", "data.limit=null", *overrides], folder / "run"
    )


def test_its_tasks_are_split_as_the_function_splits_them_or_as_the_partition_does(tmp_path: Path) -> None:
    run = custom_run(tmp_path, TASKS_FILE)
    assert run.partition.validation == ("swap10", "swap11", "swap12", "swap13")
    assert run.partition.train == tuple(f"swap{n}" for n in range(10))
    options = ["data.source.validation_split=null", "data.partition=seeded", "data.num_validation=0.2"]
    run = compose(
        [*SMALL, "data=custom", f"data.file={tmp_path}/my_dataset.py", "data.limit=null", *options],
        tmp_path / "2",
    )
    assert (len(run.partition.train), len(run.partition.validation)) == (8, 2)
    augmented = {run.stream()[index].augmentation for index in range(8)}
    assert len(augmented) > 4


def test_the_function_is_given_the_models_tokenizer(tmp_path: Path) -> None:
    text = """
    def get_custom_dataset(dataset_config, processor, split):
        first = "I" if split == "train" else "O"
        return [processor(first + "12")]
    """
    run = custom_run(tmp_path, text)
    assert run.prompt.decode(run.stream()[0].encoded.input_ids) == "I12"


def test_rows_are_drawn_by_number_and_pass_by_pass_without_augmentation(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE)
    stream, again = run.stream(), run.stream()
    for index in (5, 0, 30, 11):
        left, right = stream[index], again[index]
        assert left.encoded.equals(right.encoded)
        assert (left.augmentation, left.num_dropped, left.num_redrawn) == ((), 0, 0)
    assert {stream[index].task.id for index in range(12)} == set(run.partition.train)
    assert not {stream[index].task.id for index in range(100)} & set(run.partition.validation)


def test_a_row_that_is_too_long_is_redrawn_and_counted(tmp_path: Path) -> None:
    text = """
    def get_custom_dataset(dataset_config, processor, split):
        lengths = [5, 6, 7, 600] if split == "train" else [9, 700]
        return [{"text": "1" * n} for n in lengths]
    """
    run = custom_run(tmp_path, text)
    samples = [run.stream()[index] for index in range(40)]
    assert max(len(sample.encoded) for sample in samples) == 9  # with begin and end
    assert sum(sample.num_redrawn > 0 for sample in samples) >= 5
    records, too_long = run.validation_records
    assert (len(records), too_long) == (1, 1)


def test_a_tokenizer_that_loses_the_text_is_refused(tmp_path: Path) -> None:
    run = custom_run(tmp_path, "def get_custom_dataset(a, b, c):\n    return [{'text': 'Hello ' + c}]\n")
    with pytest.raises(
        ValueError, match=r"tokenizer \(18 tokens\) cannot write '.*Hello .* choose another model"
    ):
        _ = run.prompt


def test_the_cut_vocabulary_is_refused_with_rows(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE, "model.vocabulary=arc")
    with pytest.raises(ValueError, match=r"has ready rows: model\.vocabulary=full"):
        _ = run.prompt


def test_rows_and_tasks_stand_side_by_side_in_a_mixture_and_in_packed_rows(tmp_path: Path) -> None:
    files = {"numbers": write(tmp_path, ROWS_FILE), "swaps": write(tmp_path, TASKS_FILE, "swaps.py")}
    added = [
        f"{key}={value}"
        for name, file in files.items()
        for key, value in {f"+data@data.sources.{name}": "custom", f"data.sources.{name}.file": file,
                           f"+data.weights.{name}": 0.5}.items()
    ]  # fmt: skip
    only = [f"~data.{group}.{name}" for group in ("sources", "weights") for name in ("arc1", "re_arc")]
    run = compose(
        [*SMALL, "data=mix", *only, *added, "data.limit=null", "optim.pack_length=500"], tmp_path / "run"
    )
    stream = run.stream()
    drawn = [stream[index] for index in range(1000)]
    assert sum(isinstance(sample.task, Row) for sample in drawn) == 500
    assert any(len({type(sample.task) for sample in stream.row(index)}) == 2 for index in range(4))
    assert all(sum(len(sample.encoded) for sample in stream.row(index)) <= 500 for index in range(4))
    loss = run.validation_loss(run.model())
    assert {name: part.num_tasks for name, part in loss.by_source.items()} == {"numbers": 4, "swaps": 4}
    assert [task.id for task in run.predicted_tasks()] == ["swap10", "swap11"]  # inference.limit


def test_two_workers_give_the_rows_that_none_gives_without_calling_the_function(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE)
    stream = run.stream()
    (tmp_path / "my_dataset.py").unlink()
    batches = []
    for workers in (0, 2):
        sent = pickle.loads(pickle.dumps(stream))
        loader = DataLoader(
            as_dataset(sent, 12), batch_size=2, num_workers=workers, collate_fn=Collator(run.prompt.pad_id)
        )
        batches.append([batch["input_ids"].tolist() for batch in loader])
    assert batches[0] == batches[1]


@pytest.mark.slow
def test_a_resumed_training_on_rows_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "halved").mkdir()
    whole = custom_run(tmp_path / "whole", ROWS_FILE)
    model = whole.model()
    counts = trained(whole, model=model).counts
    halved = custom_run(tmp_path / "halved", ROWS_FILE, "optim.stop_after=4")
    trained(halved)
    assert last_complete(halved.folder / "checkpoints").name == "checkpoint-4"
    second = custom_run(tmp_path / "halved", ROWS_FILE)
    resumed = second.model()
    assert trained(second, model=resumed).counts == counts
    assert counts.samples == 8
    assert same(weights(model), weights(resumed))
    assert whole.validation_loss(model) == second.validation_loss(resumed)


def test_a_run_goes_on_only_with_the_rows_that_it_began_with(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"  # that the function reads
    other.write_text("square")
    value = f"n * (n if Path({str(other)!r}).read_text() == 'square' else 2)"
    reading = "from pathlib import Path\n" + textwrap.dedent(ROWS_FILE.replace("n * n", value))
    begin(custom_run(tmp_path, reading))
    begin(custom_run(tmp_path, f"# Another comment changes no data.\n{reading}"))
    other.write_text("double")
    with pytest.raises(ValueError, match=r"began with other tasks: .* have changed.*resume=false"):
        begin(custom_run(tmp_path, reading))
    with pytest.raises(FolderError, match=r"other code of the same name(.|\n)*data\.file: .*my_dataset\.py"):
        custom_run(tmp_path, ROWS_FILE.replace("n * n", "n + n"))


def shown(job: Any, run: Run) -> str:
    console = Console(file=io.StringIO(), width=200)
    job.main(run, console)
    return console.file.getvalue()


@pytest.mark.slow
def test_a_run_on_rows_alone_trains_validates_and_says_that_nothing_is_scored(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE)
    output = shown(finetune, run)
    assert "12 rows train, 4 rows validate" in output
    assert output.count("nothing is answered or scored") == 1
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert "score" not in metrics
    assert metrics["validation"]["loss"]["num_tasks"] == 4
    assert metrics["validation"]["loss"]["token_mean"] < metrics["validation"]["initial_loss"]
    assert "This run is finished" in shown(finetune, load_run(run.folder.path))
    assert report([str(run.folder.path)]) == 0
    again = compose(
        ["job=evaluate", f"from_run={run.folder.path}", "tracking=off", "hardware=cpu"], tmp_path / "again"
    )
    assert "nothing is answered or scored" in shown(evaluate, again)
    loss = json.loads((again.folder / "metrics.json").read_text())["validation"]["loss"]
    assert loss["token_mean"] == pytest.approx(metrics["validation"]["loss"]["token_mean"], abs=1e-6)


def test_the_best_scores_cannot_be_chosen_where_nothing_is_scored(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE, "optim.best_by=pass_at_2")
    with pytest.raises(ValueError, match=r"needs ARC tasks to answer.*optim\.best_by=validation_loss"):
        finetune.main(run, Console(quiet=True))


def test_a_benchmark_of_rows_is_refused(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE, "job=benchmark")
    with pytest.raises(ValueError, match=r"data=custom gives ready rows: choose other data"):
        benchmark.main(run, Console(quiet=True))


def test_rows_have_no_sizes_to_be_stratified_by(tmp_path: Path) -> None:
    run = custom_run(tmp_path, ROWS_FILE, "data.partition=stratified", "data.num_validation=2")
    with pytest.raises(ValueError, match=r"ready rows have none: use seeded"):
        _ = run.partition


def test_rows_are_inspected_with_their_tokens_and_without_pictures(tmp_path: Path) -> None:
    output = shown(inspect, custom_run(tmp_path, ROWS_FILE, "job=inspect", "inspect.num_counted=20"))
    assert "12 rows train, 4 rows validate" in output
    assert "ready row · not augmented" in output
    page = (tmp_path / "run" / "inspect.html").read_text()
    assert "test input" not in page
    counts = json.loads((tmp_path / "run" / "inspect.json").read_text())
    assert (counts["train"]["custom"]["samples"], counts["validation"]["samples"]) == (20, 4)


def test_rows_of_the_iterable_are_those_of_the_indexed_stream(tmp_path: Path) -> None:
    stream = custom_run(tmp_path, ROWS_FILE).stream()
    rows = iter(as_iterable(stream, Turn()))
    for index in range(5):
        assert np.array_equal(next(rows)["input_ids"], stream[index].encoded.input_ids)


def test_the_example_of_the_data_page_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    section = text.partition("## A python file of your own")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    run = compose(
        ["data=custom", f"data.file={write(tmp_path, code)}", "model=custom",
         f"model.path={make_base(tmp_path / 'base')}", "+data.source.options.largest=12"],
        tmp_path / "run",
    )  # fmt: skip
    texts = [run.prompt.decode(run.stream()[index].encoded.input_ids) for index in range(4)]
    assert all(re.fullmatch(r"\d+ \+ \d+ = \d+<\|im_end\|>", text) for text in texts)
    assert len(run.partition.validation) > 0
    tasks = read(f"{tmp_path / 'my_dataset.py'}:mirrors", validation_split=None).fixed
    assert len(tasks) == 50


@pytest.mark.parametrize(("numbers", "leaks"), [("random", 2), ("random.Random(split)", 0)])
def test_a_function_that_draws_the_same_tasks_for_both_splits_is_told_why(
    tmp_path: Path, numbers: str, leaks: int
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import random\n"
        "def get_custom_dataset(dataset_config, processor, split):\n"
        f"    rng = {numbers}\n"
        "    def grid(): return [[rng.randrange(10) for _ in range(5)] for _ in range(5)]\n"
        "    def pair(): return {'input': grid(), 'output': grid()}\n"
        "    number = 4 if split == 'train' else 2\n"
        "    def task(): return {'train': [pair(), pair()], 'test': [pair()]}\n"
        "    return {f'{split}_{n}': task() for n in range(number)}\n"
    )
    run = compose(["data=custom", f"data.file={file}", "tracking=off"], tmp_path / "run")
    found = find_leaks(run, trains=True)
    assert found["training"]["counts"]["whole"] == leaks
    assert ("random.Random(split)" in leaks_text(found)) == bool(leaks)
