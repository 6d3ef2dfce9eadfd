"""All that is to be done for one run: answers before adaptation, task by task; then adaptation, unit by unit."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from arc_experiments.adaptation.clock import Clock
from arc_experiments.adaptation.queue import Queue
from arc_experiments.adaptation.results import Adapted
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.adaptation.units import make_units
from arc_experiments.run import Run
from arc_experiments.run_folder import RunFolder
from arc_experiments.selection import Candidate

FOLDER = ".adapt"  # in the run folder, until the report is written


class Work:
    """Shared out among all processes that are at the run; what is done stays done if they are killed.

    Args:
        is_over: says that the results have been collected by the process that holds the run folder.
    """

    def __init__(self, run: Run, is_over: Callable[[], bool]) -> None:
        self._run, self._is_over = run, is_over
        self.folder = RunFolder(run.folder / FOLDER)
        tasks = run.predicted_tasks().without_solutions()
        num_groups = {"per_task": None, "joint": 1, "groups": run.config.adapt.groups}[run.config.adapt.mode]
        self._singles = {f"before-{unit.name}": unit.tasks for unit in make_units(tasks, None)}
        self._units = {f"after-{unit.name}": unit for unit in make_units(tasks, num_groups)}
        self._before = Queue(self.folder.path, list(self._singles))
        self._after = Queue(self.folder.path, list(self._units))
        self.clock = Clock(self.folder, run.config.adapt.seconds, run.folder.status.get("attempt", 0))

    @property
    def num_tasks(self) -> int:
        return len(self._singles)

    @property
    def num_units(self) -> int:
        return len(self._units)

    @property
    def num_waiting(self) -> int:
        """Pieces that are not finished."""
        return len(self._before.waiting) + len(self._after.waiting)

    @cached_property
    def tuner(self) -> Tuner:
        """Loads the model."""
        return Tuner(self._run, self.folder.path, self._is_late)

    def answer(self, on_progress: Callable[[int], None]) -> None:
        """Have every task answered by the model as it is."""
        self._before.work(self._answer, on_progress, self._is_over)

    def adapt(self, on_progress: Callable[[int, Adapted | None], None]) -> None:
        """Have every unit adapted to and answered; called with the number done, and what this process did last."""
        last: Adapted | None = None

        def do(name: str) -> dict[str, Any]:
            nonlocal last
            last = self.tuner.adapt(self._units[name])
            self._note()
            return last.to_json()

        with _quick_garbage_collection():
            self._after.work(do, lambda done: on_progress(done, last), self._is_over)

    def results(self) -> tuple[list[Candidate], float, list[Adapted]]:
        """The answers before adaptation in the order of the tasks, the seconds they took, and what became of the units."""
        before = [self._before.result(name) for name in self._singles]
        candidates = [Candidate.from_json(line) for one in before for line in one["candidates"]]
        adapted = [Adapted.from_json(self._after.result(name)) for name in self._units]
        return candidates, sum(one["seconds"] for one in before), adapted

    def _answer(self, name: str) -> dict[str, Any]:
        start = time.perf_counter()
        candidates = self.tuner.answer(self._singles[name], name)
        self._note()
        return {
            "candidates": [candidate.to_json() for candidate in candidates],
            "seconds": time.perf_counter() - start,
        }

    def _is_late(self) -> bool:
        self._note()  # a training asks at each step, so that a kill loses no more of the count than a few seconds
        return self.clock.is_over

    def _note(self) -> None:
        if not self._run.folder.read_only:
            self.clock.note()


@contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """What there is now is not looked at: every training collects garbage, which takes half a second otherwise."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
