"""Read ARC tasks, ready rows, or both from a user's Python file.

def get_custom_dataset(dataset_config, processor, split):
    return [{"prompt": "2 + 2 = ", "completion": "4"}]

The signature is that of llama-cookbook's custom datasets, and so is that of the file's `get_data_collator`,
if it has one. The function is called once for the training split and once for the validation split; only what
it returns is kept.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from arc_experiments.config.user_code.by_path import UserCodeError, UserFunction, as_theirs, same_random
from arc_experiments.sources.parsing import parse_task
from arc_experiments.sources.user_collator import NAME as COLLATOR
from arc_experiments.sources.user_collator import UserCollator
from arc_experiments.tasks.ready_rows import parse_row, row_forms, shown
from arc_experiments.tasks.source import BadTasks, FixedTasks
from arc_experiments.tasks.task import Task, TaskSet

EXPECTED = """Expected a list, a dict {id: task} or a Dataset of ARC tasks
  {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}
or of ready rows, each of one of these forms
  {"text": "..."}
  {"prompt": "...", "completion": "..."}
  {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
  {"messages": [...], "images": [...]}
  {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}"""


@dataclass(frozen=True, kw_only=True)
class UserFile:
    """Reads what a function in a Python file returns.

    Attributes:
        file: its path, with `:name` appended if the function is not named `get_custom_dataset`.
        train_split, validation_split: passed to the function as `split`; without the second it is called
            once.
        split_ratio: passed to the function as `split_ratio`, if set.
        collator: make ready rows of the items with the file's `get_data_collator`, if it has one.
        options: further attributes of `dataset_config`.
    """

    file: str
    train_split: str = "train"
    validation_split: str | None = "validation"
    split_ratio: float | None = None
    collator: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.train_split == self.validation_split:
            raise ValueError(
                f"train_split and validation_split are both {self.train_split}: nothing would be held out"
            )
        if self.split_ratio is not None and not 0 < self.split_ratio < 1:
            raise ValueError(f"split_ratio={self.split_ratio} is not between 0 and 1")
        taken = self.options.keys() & self._own_settings().keys()
        if taken:
            raise ValueError(
                f"options.{min(taken)} is already set by data.file, train_split and validation_split"
            )

    def read(self, bad_tasks: BadTasks) -> FixedTasks:
        """Read as `read_with`, without a processor for the function."""
        return self.read_with(lambda: None, bad_tasks)

    def read_with(self, processor: Callable[[], Any], bad_tasks: BadTasks) -> FixedTasks:
        """Read the training tasks, then those for validation (split "evaluation"), which do not train.

        A repeated task or row is kept once, and recorded among the skipped ones.

        Args:
            processor: loads the model's processor or tokenizer, which the function receives.

        Raises:
            ValueError: the file or its function fails, or returns something other than tasks or rows.
        """
        function, given = UserFunction(self.file), processor()
        train = self._items(function, given, self.train_split)
        if train is None:
            raise UserCodeError(f"{_where(function, self.train_split)} returned None. {EXPECTED}")
        has_collator = self.collator and COLLATOR in function.module_values
        collator = UserCollator(function, processor) if has_collator else None
        kept: dict[str, Task] = {}
        if self.validation_split is not None:
            held_out = self._items(function, given, self.validation_split)
            where = _where(function, self.validation_split)
            _keep(held_out.pairs if held_out else (), collator, "evaluation", where, kept, bad_tasks)
        validation = list(kept)
        where = _where(function, self.train_split)
        num_read = _keep(train.pairs, collator, "training", where, kept, bad_tasks)
        if not num_read:
            raise UserCodeError(
                f"{where}: none of its items can be read; the first: {bad_tasks.skipped[-train.number]}"
            )
        if len(kept) == len(validation):
            raise UserCodeError(
                f"data.file={self.file}: everything that {function.name} returns for {self.train_split!r} it "
                f"also returns for {self.validation_split!r}. Make it use `split`, or hold some out with "
                "data.source.validation_split=null data.partition=seeded data.num_validation=0.1"
            )
        order = [*list(kept)[len(validation) :], *validation]
        return FixedTasks(TaskSet(kept[task_id] for task_id in order))

    def _own_settings(self) -> dict[str, Any]:
        """Return what llama-cookbook's functions expect in their dataset_config."""
        return {
            "dataset": "custom_dataset",
            "file": self.file,
            "train_split": self.train_split,
            "test_split": self.validation_split,
        }

    def _items(self, function: UserFunction, processor: Any, split: str) -> "_Items | None":
        """Return the function's items for a split; None if it returns None."""
        settings, where = SimpleNamespace(**self._own_settings(), **self.options), _where(function, split)
        result = function(settings, processor, split, **self._ratio(function))
        if result is None:
            return None
        if isinstance(result, str | bytes) or not hasattr(result, "__len__"):
            raise UserCodeError(f"{where} returned {shown(result)}. {EXPECTED}")
        if isinstance(result, Mapping):
            if _is_one(result):
                raise UserCodeError(
                    f"{where} returned a single item, {shown(result)}, not a list. {EXPECTED}"
                )
            pairs: Iterable[tuple[Any, Any]] = result.items()
        else:
            pairs = _numbered(result, self.file, f"the items of what {function.name} returned for {split!r}")
        if not len(result):
            raise UserCodeError(
                f"{where} returned no items, {shown(result)}. For validation it may return None"
            )
        return _Items(number=len(result), pairs=pairs)

    def _ratio(self, function: UserFunction) -> dict[str, float]:
        parameter = function.parameters.get("split_ratio")
        if self.split_ratio is None:
            if parameter is not None and parameter.default is inspect.Parameter.empty:
                raise UserCodeError(
                    f"data.file={self.file}: {function.name} needs a split_ratio: data.source.split_ratio=0.9"
                )
            return {}
        if parameter is None:
            raise UserCodeError(
                f"data.source.split_ratio={self.split_ratio}: {function.name} of data.file={self.file} does "
                "not accept a split_ratio"
            )
        return {"split_ratio": self.split_ratio}


@dataclass(frozen=True, kw_only=True)
class _Items:
    """How many items a function returned, and these, by ids or numbers; they can be read once."""

    number: int
    pairs: Iterable[tuple[Any, Any]]


def _where(function: UserFunction, split: str) -> str:
    return f"data.file={function.file}: {function.name} for {split!r}"


def _keep(
    items: Iterable[tuple[Any, Any]],
    collator: UserCollator | None,
    split: str,
    where: str,
    kept: dict[str, Task],
    bad_tasks: BadTasks,
) -> int:
    """Add the tasks and rows to `kept` by their ids; return how many can be read."""
    num_read = 0
    for key, item in items:
        place = f"{where}, item {key!r}"
        with bad_tasks.caught():
            if collator is not None and not (isinstance(item, Task) or _is_task(item)):
                item = collator.row(item, place)
            task = _parse(item, key, split, place)
            num_read += 1
            if task.id not in kept:
                kept[task.id] = task
            elif _digest(task) != _digest(kept[task.id]):
                raise ValueError(f"{place}: another task has the id {task.id}")
            else:
                bad_tasks.skipped.append(f"{place}: {task.id} is a repetition, which is kept once")
    return num_read


def _numbered(result: Any, file: str, what: str) -> Iterator[tuple[int, Any]]:
    """Yield items with their numbers, one after another: a data set may read large images only now."""
    with as_theirs(file, what), same_random():
        has_order = hasattr(result, "__iter__")
        yield from enumerate(result if has_order else (result[number] for number in range(len(result))))


def _is_task(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("train") is not None and item.get("test") is not None


def _is_one(result: Mapping[Any, Any]) -> bool:
    """Return whether this is a single task or row rather than a dict of several."""
    is_whole = not any(isinstance(value, Mapping) for value in result.values())
    return is_whole and ({"train", "test"} <= result.keys() or bool(row_forms(result)))


def _parse(item: Any, key: Any, split: str, where: str) -> Task:
    if isinstance(item, Task):  # made by the user's code, so its grids are unchecked
        parts = {
            part: [
                {side: getattr(pair, side, None) for side in ("input", "output")}
                for pair in getattr(item, part)
            ]
            for part in ("train", "test")
        }
        return parse_task(item.id, parts, split=split, where=where)
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} is {shown(item)}. {EXPECTED}")
    is_task, forms = _is_task(item), row_forms(item)
    if is_task and not forms:
        return _parse_task(item, key, split, where)
    if is_task or not forms:
        what = f"mixes an ARC task and {forms[0]}" if forms else "has no known form"
        raise ValueError(f"{where} {what}: its keys are {', '.join(map(str, item))}. {EXPECTED}")
    return parse_row(item, split=split, where=where)


def _parse_task(item: Mapping[str, Any], key: Any, split: str, where: str) -> Task:
    """Parse a task; its id is its own, its key in a dict, or a digest of its grids."""
    own = next((item[name] for name in ("id", "task_id") if item.get(name) is not None), None)
    if own is None and isinstance(key, str):
        own = key
    task = parse_task("" if own is None else str(own), dict(item), split=split, where=where)
    return task if own is not None else dataclasses.replace(task, id=f"task_{_digest(task)}")


def _digest(task: Task) -> str:
    return TaskSet([task]).hash()
