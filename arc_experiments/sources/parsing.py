"""Parse tasks from JSON: the one place where grids from outside are checked.

A task has one of these forms:
{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}     a task
{"train": [many pairs], "n_train": 3}               a pool; a visit draws three demonstrations and a test pair
[a task, another]                                   variants; a visit draws one

A task or a pool may have "program": "def transform(grid): ...", and "language": "python" (the default).
"""

import difflib
import json
from typing import Any

from arc_experiments.programs.languages import language
from arc_experiments.sources.sampled import PairPool, Variants, without_repetitions
from arc_experiments.tasks.grids import Grid, GridError, check_grid
from arc_experiments.tasks.task import Pair, Program, Task

DEFAULT_LANGUAGE = "python"  # of a program whose language is not named
FORM = '{"train": [...], "test": [...]}'


def load_json(text: bytes, where: str) -> Any:
    """Parse JSON; raise ValueError if it is not JSON in UTF-8 or an object repeats a key."""
    try:
        # utf-8-sig ignores a byte order mark, which some editors write.
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON in UTF-8: {error}") from error


def _no_key_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        keys = [key for key, _ in items]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return found


def parse(task_id: str, data: Any, *, split: str, where: str) -> Task | PairPool | Variants:
    """Parse a task in any of the three forms.

    Raises:
        ValueError: it is invalid; the message has `where` (the file), the task, the pair and the reason.
    """
    _check_id(task_id, where)
    if not isinstance(data, list):
        return _parse_variant(task_id, data, task_id, split=split, where=where, solved=False)
    if not data:
        raise ValueError(f"{where}: task {task_id} is an empty list")
    if _is_pair(data[0]):
        raise ValueError(
            f"{where}: task {task_id} is a list of pairs, as in RE-ARC, which data=re_arc reads, not {FORM}"
        )
    if isinstance(data[0], list):
        raise ValueError(
            f"{where}: task {task_id} is a list of grids, as in Kaggle's files of solutions, not {FORM}"
        )
    if len(data) > 1 and any(isinstance(item, dict) and "program" in item for item in data):
        raise ValueError(f"{where}: task {task_id} has variants with a program: make each a task of its own")
    variants = tuple(
        _parse_variant(task_id, item, f"{task_id}, variant {number}", split=split, where=where, solved=True)
        for number, item in enumerate(data)
    )
    return variants[0] if len(variants) == 1 else Variants(id=task_id, variants=variants)


def parse_task(
    task_id: str, data: Any, *, split: str, where: str, label: str | None = None, solved: bool = False
) -> Task:
    """Parse one task. Only test outputs may be missing, unless it must be `solved`.

    Raises:
        ValueError: it is invalid; the message has `where` (the file), `label`, the pair and the reason.
    """
    place = f"{where}: task {label or task_id}"
    if not isinstance(data, dict):
        raise ValueError(f"{place} does not have the form {FORM}")
    if missing := [name for name in ("train", "test") if name not in data]:
        raise ValueError(f"{place} does not have the form {FORM}: {_what_is_missing(missing, data)}")
    return Task(
        id=task_id,
        train=parse_pairs(data["train"], place, "train", solved=True),
        test=parse_pairs(data["test"], place, "test", solved=solved),
        split=split,
        program=parse_program(data, place),
    )


def parse_program(data: dict[str, Any], place: str) -> Program | None:
    """Parse a task's program, if it has one, into its normal form.

    Raises:
        ValueError: it is no program of its language, or there is no such language.
    """
    text, name = data.get("program"), data.get("language") or DEFAULT_LANGUAGE
    if text is None:
        return None
    if not isinstance(text, str) or not isinstance(name, str):
        raise ValueError(f"{place}: program and language must be texts")
    try:
        return Program(language=name, text=language(name).normalise(text))
    except ValueError as error:
        raise ValueError(f"{place}, program: {error}") from error


def parse_pairs(items: Any, place: str, part: str, *, solved: bool) -> tuple[Pair, ...]:
    """Parse a list of `{"input": grid, "output": grid}`; outputs may be missing or null unless `solved`."""
    if not isinstance(items, list) or not items:
        raise ValueError(f"{place} has no {part} pairs")
    return tuple(
        parse_pair(item, f"{place}, {part} pair {number}", solved=solved) for number, item in enumerate(items)
    )


def with_solutions(challenge: Any, solutions: Any, place: str) -> Any:
    """Add the test outputs to a Kaggle challenge, both as read from JSON."""
    tests = challenge.get("test") if isinstance(challenge, dict) else None
    if not isinstance(tests, list) or not all(map(_is_pair, tests)):
        return challenge  # parsing it reports what is wrong
    if not isinstance(solutions, list) or len(solutions) != len(tests):
        count = len(solutions) if isinstance(solutions, list) else "no"
        raise ValueError(f"{place} has {len(tests)} test inputs and {count} solutions")
    return {**challenge, "test": [{**t, "output": s} for t, s in zip(tests, solutions, strict=True)]}


def with_plain_cells(data: Any) -> Any:
    """Replace "3" in JSON grids by 3 and null by 0, as Mini-ARC's drawing tool writes them."""
    if isinstance(data, dict):
        return {key: with_plain_cells(value) for key, value in data.items()}
    if isinstance(data, list):
        return [0 if item is None else with_plain_cells(item) for item in data]
    return int(data) if isinstance(data, str) and data in set("0123456789") else data


def with_sides(pair: Any) -> Any:
    """Convert a JSON pair [input, output] to {"input": ..., "output": ...}; leave anything else unchanged."""
    return {"input": pair[0], "output": pair[1]} if isinstance(pair, list) and len(pair) == 2 else pair


def _parse_variant(
    task_id: str, data: Any, label: str, *, split: str, where: str, solved: bool
) -> Task | PairPool:
    if not isinstance(data, dict) or "n_train" not in data or "test" in data:
        return parse_task(task_id, data, split=split, where=where, label=label, solved=solved)
    place, count = f"{where}: task {label}", data["n_train"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{place} has n_train={count!r}, which is not a number of demonstrations")
    pairs = without_repetitions(parse_pairs(data.get("train"), place, "train", solved=True))
    try:
        return PairPool(
            id=task_id,
            pairs=pairs,
            num_demonstrations=(count, count),
            split=split,
            program=parse_program(data, place),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def parse_pair(item: Any, place: str, *, solved: bool) -> Pair:
    """Parse `{"input": grid, "output": grid}`; the output may be missing or null unless `solved`."""
    grids: dict[str, Grid | None] = {}
    for side in ("input", "output"):
        cells = item.get(side) if isinstance(item, dict) else None
        if cells is None and side == "output" and not solved:
            grids[side] = None
            continue
        if cells is None:
            raise ValueError(f"{place} has no {side}")
        try:
            grids[side] = check_grid(cells)
        except GridError as error:
            raise ValueError(f"{place}, {side}: {error}") from error
    assert grids["input"] is not None
    return Pair(input=grids["input"], output=grids["output"])


def _what_is_missing(missing: list[str], data: dict[str, Any]) -> str:
    close = {name: difflib.get_close_matches(name, data.keys() - {"train", "test"}, n=1) for name in missing}
    meant = [f'"{found[0]}": did you mean "{name}"?' for name, found in close.items() if found]
    keys = ", ".join(f'"{key}"' for key in list(data)[:5])
    has = f"it has {keys}" if keys else "it is empty"
    text = " and ".join(f'"{name}"' for name in missing)
    return f"{text} {'is' if len(missing) == 1 else 'are'} missing; {'; '.join(meant) or has}"


def _is_pair(item: Any) -> bool:
    return isinstance(item, dict) and "input" in item


def _check_id(task_id: str, where: str) -> None:
    """Refuse an id that cannot be written into JSON or into a list of lines."""
    try:
        task_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: the task's name is not valid UTF-8") from error
    if len(task_id.splitlines()) != 1 or not task_id.strip():
        raise ValueError(f"{where}: the task's name {task_id!r} is not one line of text")
