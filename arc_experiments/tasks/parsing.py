"""Task JSON -> Task: the one place where grids from outside are checked.

{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}
"""

from typing import Any

from arc_experiments.grids import Grid, GridError, check_grid
from arc_experiments.tasks.task import Pair, Task


def parse_task(task_id: str, data: Any, *, split: str, where: str) -> Task:
    """Read one task. Test outputs may be missing; demonstrations must be whole.

    Raises:
        ValueError: what is wrong, with `where` (the file), the task, the pair and the reason.
    """
    if not isinstance(data, dict) or not {"train", "test"} <= data.keys():
        raise ValueError(f'{where}: task {task_id} is not of the form {{"train": [...], "test": [...]}}')
    for part in ("train", "test"):
        if not isinstance(data[part], list) or not data[part]:
            raise ValueError(f"{where}: task {task_id} has no {part} pairs")
    return Task(
        id=task_id,
        train=tuple(_parse_pairs(data["train"], f"{where}: task {task_id}, train pair", solved=True)),
        test=tuple(_parse_pairs(data["test"], f"{where}: task {task_id}, test pair", solved=False)),
        split=split,
    )


def _parse_pairs(items: list[Any], where: str, *, solved: bool) -> list[Pair]:
    pairs = []
    for number, item in enumerate(items):
        grids: dict[str, Grid | None] = {}
        for side in ("input", "output"):
            cells = item.get(side) if isinstance(item, dict) else None
            if cells is None and side == "output" and not solved:
                grids[side] = None
                continue
            if cells is None:
                raise ValueError(f"{where} {number} has no {side}")
            try:
                grids[side] = check_grid(cells)
            except GridError as error:
                raise ValueError(f"{where} {number}, {side}: {error}") from error
        assert grids["input"] is not None
        pairs.append(Pair(input=grids["input"], output=grids["output"]))
    return pairs
