"""All that is to be done for one run: answers before adaptation, task by task; then adaptation, unit by unit."""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from arc_experiments.adaptation.clock import Clock
from arc_experiments.adaptation.queue import Queue
from arc_experiments.adaptation.results import Adapted, Outcome, merged
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.adaptation.units import make_units
from arc_experiments.environment import seconds_since_start
from arc_experiments.generation import NoRoom
from arc_experiments.run import Run
from arc_experiments.run_folder import RunFolder
from arc_experiments.selection import Candidate

log = logging.getLogger(__name__)

CAUTION = 2.0  # times what answers took so far, left for them when a deadline ends a training
TIDYING_SECONDS = 3.0  # between a training and its answers
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
        adapt, attempt = run.config.adapt, run.folder.status.get("attempt", 0)
        hours = adapt.deadline_hours
        seconds = None if hours is None else 3600 * hours - adapt.reserve_seconds
        self._clock = Clock(self.folder, adapt.seconds, attempt)
        self._deadline = Clock(self.folder, seconds, attempt, "deadline.json")
        self._results: dict[str, Any] = {}
        self._seconds_a_task = 0.0  # for answers, at the most so far
        self._needed = 0.0  # for the answers of the unit that is being adapted to

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

    def start(self) -> None:
        """Begin an attempt, as the process that holds the run folder."""
        self._clock.start()
        self._deadline.start(already=seconds_since_start())

    def follow(self, is_over: Callable[[], bool]) -> bool:
        """Wait for the process that holds the run folder to start. False if `is_over` before."""
        return self._clock.follow(is_over) and self._deadline.follow(is_over)

    @property
    def seconds_left(self) -> float:
        """Until the deadline, less what is kept for writing; infinity without one."""
        return self._deadline.seconds_left

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
            tasks = self._units[name].tasks
            self._needed = CAUTION * self._seconds_a_task * len(tasks) + TIDYING_SECONDS
            last = self.tuner.adapt(self._units[name])
            self._see(last.seconds["inference"] / len(tasks))
            self._note()
            return last.to_json()

        with _quick_garbage_collection():
            self._after.work(do, lambda done: on_progress(done, last), self._is_over)

    def results(self) -> tuple[list[Candidate], float, list[Adapted]]:
        """The answers before adaptation in the order of the tasks, the seconds they took, and what became of the units.

        All as far as they are finished.
        """
        before, after = self._read(self._before), self._read(self._after)
        candidates = [candidate for one in before.values() for candidate in one["candidates"]]
        adapted = [after.get(name, Adapted.cut_off(unit.tasks.ids)) for name, unit in self._units.items()]
        return candidates, sum(one["seconds"] for one in before.values()), adapted

    def candidates(self) -> list[Candidate]:
        """The answers that there are by now: those after adaptation, else those before."""
        before, _, adapted = self.results()
        return merged(before, adapted)

    def _read(self, queue: Queue) -> dict[str, Any]:
        """What is finished, by name, each read once."""
        waiting = set(queue.waiting)
        for name in queue.names:
            if name not in waiting and name not in self._results:
                found = queue.result(name)
                self._results[name] = (
                    Adapted.from_json(found)
                    if name in self._units
                    else {**found, "candidates": [*map(Candidate.from_json, found["candidates"])]}
                )
        return {name: self._results[name] for name in queue.names if name in self._results}

    def _answer(self, name: str) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            candidates = self.tuner.answer(self._singles[name], name)
        except NoRoom as error:
            log.warning("%s", error)
            candidates = self.tuner.no_answers(self._singles[name], Outcome.OUT_OF_MEMORY)
        self._note()
        seconds = time.perf_counter() - start
        self._see(seconds)
        return {"candidates": [candidate.to_json() for candidate in candidates], "seconds": seconds}

    def _see(self, seconds_a_task: float) -> None:
        self._seconds_a_task = max(self._seconds_a_task, seconds_a_task)

    def _is_late(self) -> bool:
        self._note()  # a training asks at each step, so that a kill loses no more of the count than a few seconds
        return self._clock.is_over or self._deadline.seconds_left <= self._needed

    def _note(self) -> None:
        if not self._run.folder.read_only:
            self._clock.note()
            self._deadline.note()


@contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """What there is now is not looked at: every training collects garbage, which takes half a second otherwise."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
