"""All the work of one run: answers before adaptation, task by task; then adaptation, bundle by bundle."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from arc_experiments.adaptation.results import Adapted, Before, Ending, merged
from arc_experiments.adaptation.task_groups import Bundle, make_bundles, make_task_groups
from arc_experiments.adaptation.time_limits import TimeLimit
from arc_experiments.adaptation.tuner import Candidates
from arc_experiments.adaptation.work_queue import WorkQueue
from arc_experiments.run import Run
from arc_experiments.runs.environment import seconds_since_start
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import TaskSet

CAUTION = 2.0  # times the seconds that answers took so far, left for them when a deadline ends a training
TIDYING_SECONDS = 3.0  # between a training and its answers
FOLDER = ".adapt"  # in the run folder, until the report is written


class Method(Protocol):
    """A way to adapt a model that is in memory: `Tuner`, or `Searcher`."""

    @property
    def model(self) -> Any: ...

    def answer(self, tasks: TaskSet, place: str) -> Candidates | Ending:
        """Answer tasks with the model as it is; return why where it cannot."""

    def no_answers(self, tasks: TaskSet, reason: str) -> Candidates:
        """Return what takes the place of answers to tasks that cannot be answered."""

    def adapt_bundle(self, bundle: Bundle) -> list[Adapted]:
        """Adapt to each group of a bundle and answer its tasks; put the weights back."""


MakeMethod = Callable[
    [Run, Path, Callable[[], bool], Callable[[], None], Callable[[str], Sequence[Candidate]]], Method
]
"""Makes a method from: the run, a folder for unfinished work, whether the time has run out, what to call
often, and the answers before adaptation by task id."""


class AdaptationPlan:
    """The work that all processes at the run share; what is done stays done if they are killed.

    Args:
        make_method: of adaptation.
        is_over: whether the process that holds the run folder has collected the results.
    """

    def __init__(self, run: Run, make_method: MakeMethod, is_over: Callable[[], bool]) -> None:
        self._run, self._make_method, self._is_over = run, make_method, is_over
        self.folder = RunFolder(run.folder / FOLDER)
        tasks, adapt = run.predicted_tasks().without_solutions(), run.config.adapt
        num_groups = {"per_task": None, "joint": 1, "groups": adapt.groups}[adapt.mode]
        self._singles = {f"before-{group.name}": group.tasks for group in make_task_groups(tasks, None)}
        self._groups = make_task_groups(tasks, num_groups)
        bundles = make_bundles(self._groups, adapt.together)
        self._bundles = {f"after-{bundle.name}": bundle for bundle in bundles}
        self._before = WorkQueue(self.folder.path, list(self._singles), Before.from_json)
        self._after = WorkQueue(
            self.folder.path, list(self._bundles), lambda values: [*map(Adapted.from_json, values)]
        )
        attempt, hours = run.folder.status.get("attempt", 0), adapt.deadline_hours
        seconds = None if hours is None else 3600 * hours - adapt.reserve_seconds
        self._limit = TimeLimit(self.folder, adapt.seconds, attempt)
        self._deadline = TimeLimit(self.folder, seconds, attempt, "deadline.json")
        self._needed = 0.0  # seconds for the answers of the bundle that is being trained

    @property
    def num_tasks(self) -> int:
        return len(self._singles)

    @property
    def num_task_groups(self) -> int:
        return len(self._groups)

    @property
    def num_bundles(self) -> int:
        """Task groups that are trained at once count as one."""
        return len(self._bundles)

    @property
    def num_waiting(self) -> int:
        """Pieces of work that are not finished."""
        return len(self._before.waiting) + len(self._after.waiting)

    def start(self) -> None:
        """Begin an attempt, as the process that holds the run folder."""
        self._limit.start()
        self._deadline.start(already=seconds_since_start())

    def follow(self, is_over: Callable[[], bool]) -> bool:
        """Wait for the process that holds the run folder to start. False if `is_over` comes first."""
        return self._limit.follow(is_over) and self._deadline.follow(is_over)

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, less what is reserved for writing; infinity without one."""
        return self._deadline.seconds_left

    @cached_property
    def method(self) -> Method:
        """What adapts and answers; the model is loaded at the first use."""
        return self._make_method(self._run, self.folder.path, self._is_late, self._note, self._answers_before)

    def _answers_before(self, task_id: str) -> Sequence[Candidate]:
        """Return a task's answers before adaptation, which every process has waited for."""
        by_task = {one.candidates[0].task_id: one for one in self._before.finished.values() if one.candidates}
        return by_task[task_id].candidates if task_id in by_task else ()

    def answer(self, on_progress: Callable[[int], None]) -> None:
        """Answer every task with the model as it is."""
        self._before.work(self._answer, on_progress, self._is_collected)

    def adapt(self, on_progress: Callable[[int, Adapted | None], None]) -> None:
        """Adapt to every task group and answer it.

        Args:
            on_progress: called with the number of finished bundles, and what this process did last.
        """
        last: Adapted | None = None

        def do(name: str) -> list[dict[str, Any]]:
            nonlocal last
            bundle = self._bundles[name]
            num_tasks = sum(len(group.tasks) for group in bundle.groups)
            self._needed = CAUTION * self._seconds_a_task() * num_tasks + TIDYING_SECONDS
            adapted = self.method.adapt_bundle(bundle)
            last = adapted[-1]
            return [one.to_json() for one in adapted]

        with _quick_garbage_collection():
            self._after.work(do, lambda done: on_progress(done, last), self._is_collected)

    def results(self) -> tuple[list[Candidate], float, list[Adapted]]:
        """Return what is finished.

        Returns:
            The answers before adaptation in the order of the tasks, the seconds they took, and what came of
            each task group.
        """
        before = self._before.finished.values()
        candidates = [candidate for one in before for candidate in one.candidates]
        return candidates, sum(one.seconds for one in before), self._read_after()

    def candidates(self) -> list[Candidate]:
        """Return the answers so far: those after adaptation, else those before."""
        before, _, adapted = self.results()
        return merged(before, adapted)

    def _read_after(self) -> list[Adapted]:
        done = {one.task_ids: one for adapted in self._after.finished.values() for one in adapted}
        return [done.get(group.tasks.ids) or Adapted.cut_off(group.tasks.ids) for group in self._groups]

    def _answer(self, name: str) -> dict[str, Any]:
        method, tasks = self.method, self._singles[name]  # loading the model does not count
        start = time.perf_counter()
        answers = method.answer(tasks, name)
        if isinstance(answers, Ending):
            answers = method.no_answers(tasks, answers)
        return Before(candidates=answers, seconds=time.perf_counter() - start).to_json()

    def _seconds_a_task(self) -> float:
        """Return the most seconds that the answers to a task took so far, in all processes and attempts."""
        before = [one.seconds for one in self._before.finished.values()]
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
        self._note()  # a training asks at each step, so a kill loses only a few seconds of the count
        return self._limit.is_over or self._deadline.seconds_left <= self._needed

    def _note(self) -> None:
        if not self._run.folder.read_only:
            self._limit.note()
            self._deadline.note()


@contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """Exempt what exists now: every training collects garbage, which otherwise takes half a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
