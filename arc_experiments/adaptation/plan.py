"""All that is to be done for one run: answers before adaptation, task by task; then adaptation, unit by unit."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from arc_experiments.adaptation.clock import Clock
from arc_experiments.adaptation.results import Adapted, Before, Outcome, merged
from arc_experiments.adaptation.task_groups import make_groups, make_units
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.adaptation.work_queue import Queue
from arc_experiments.run import Run
from arc_experiments.runs.environment import seconds_since_start
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.selection import Candidate

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
        self._units = make_units(tasks, num_groups)
        groups = make_groups(self._units, run.config.adapt.together)
        self._groups = {f"after-{group.name}": group for group in groups}
        self._before = Queue(self.folder.path, list(self._singles), Before.from_json)
        self._after = Queue(self.folder.path, list(self._groups), _adapted_from_json)
        adapt, attempt = run.config.adapt, run.folder.status.get("attempt", 0)
        hours = adapt.deadline_hours
        seconds = None if hours is None else 3600 * hours - adapt.reserve_seconds
        self._clock = Clock(self.folder, adapt.seconds, attempt)
        self._deadline = Clock(self.folder, seconds, attempt, "deadline.json")
        self._needed = 0.0  # for the answers of the unit that is being adapted to

    @property
    def num_tasks(self) -> int:
        return len(self._singles)

    @property
    def num_units(self) -> int:
        return len(self._units)

    @property
    def num_groups(self) -> int:
        """Units that are trained at once count as one."""
        return len(self._groups)

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
        return Tuner(self._run, self.folder.path, self._is_late, self._note)

    def answer(self, on_progress: Callable[[int], None]) -> None:
        """Have every task answered by the model as it is."""
        self._before.work(self._answer, on_progress, self._is_collected)

    def adapt(self, on_progress: Callable[[int, Adapted | None], None]) -> None:
        """Have every unit adapted to and answered; called with the groups done, and what this process did last."""
        last: Adapted | None = None

        def do(name: str) -> list[dict[str, Any]]:
            nonlocal last
            group = self._groups[name]
            num_tasks = sum(len(unit.tasks) for unit in group.units)
            self._needed = CAUTION * self._seconds_a_task() * num_tasks + TIDYING_SECONDS
            adapted = self.tuner.adapt_group(group)
            last = adapted[-1]
            return [one.to_json() for one in adapted]

        with _quick_garbage_collection():
            self._after.work(do, lambda done: on_progress(done, last), self._is_collected)

    def results(self) -> tuple[list[Candidate], float, list[Adapted]]:
        """The answers before adaptation in the order of the tasks, the seconds they took, and what became of the units.

        All as far as they are finished.
        """
        before = self._read_before()
        candidates = [candidate for one in before for candidate in one.answers.candidates]
        return candidates, sum(one.seconds for one in before), self._read_after()

    def candidates(self) -> list[Candidate]:
        """The answers that there are by now: those after adaptation, else those before."""
        before, _, adapted = self.results()
        return merged(before, adapted)

    def _read_before(self) -> list[Before]:
        return list(self._before.finished.values())

    def _read_after(self) -> list[Adapted]:
        done = {one.task_ids: one for adapted in self._after.finished.values() for one in adapted}
        return [done.get(unit.tasks.ids) or Adapted.cut_off(unit.tasks.ids) for unit in self._units]

    def _answer(self, name: str) -> dict[str, Any]:
        tuner, tasks = self.tuner, self._singles[name]  # loading is no part of the time
        start = time.perf_counter()
        answers = tuner.answer(tasks, name)
        if isinstance(answers, Outcome):
            answers = tuner.no_answers(tasks, answers)
        return Before(answers=answers, seconds=time.perf_counter() - start).to_json()

    def _seconds_a_task(self) -> float:
        """For answers, at the most so far, of all processes and attempts."""
        before = [one.seconds for one in self._read_before()]
        after = [
            one.seconds["inference"] / len(one.task_ids)
            for adapted in self._after.finished.values()
            for one in adapted
        ]
        return max([*before, *after], default=0.0)

    def _is_collected(self) -> bool:
        self._note()  # a process that waits for the others asks twice a second
        return self._is_over()

    def _is_late(self) -> bool:
        self._note()  # a training asks at each step, so that a kill loses no more of the count than a few seconds
        return self._clock.is_over or self._deadline.seconds_left <= self._needed

    def _note(self) -> None:
        if not self._run.folder.read_only:
            self._clock.note()
            self._deadline.note()


def _adapted_from_json(values: list[dict[str, Any]]) -> list[Adapted]:
    return [*map(Adapted.from_json, values)]


@contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """What there is now is not looked at: every training collects garbage, which takes half a second otherwise."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
