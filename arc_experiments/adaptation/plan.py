"""All the work of one run: answers before adaptation, task by task; adaptation, bundle by bundle; and, if
asked, a second pass over the least certain.

Before a deadline each training of the first pass has a fair share of the time that is left, so that every
task gets its turn. What trainings leave of their shares goes to the others, and at last to the second pass.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from arc_experiments.adaptation.results import Adapted, Before, Ending, Results
from arc_experiments.adaptation.second_pass import again, least_certain_first
from arc_experiments.adaptation.task_groups import Bundle, make_bundles, make_task_groups
from arc_experiments.adaptation.time_limits import TimeLimit
from arc_experiments.adaptation.tuner import Candidates
from arc_experiments.adaptation.work_queue import WorkQueue
from arc_experiments.run import Run
from arc_experiments.runs.cores_and_gpus import num_sharing
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
        self._after = self._queue(list(self._bundles))
        twice = make_bundles([again(group) for group in self._groups], adapt.together)
        self._again_bundles = {bundle.name: bundle for bundle in twice} if adapt.second_pass else {}
        self._again = self._queue(list(self._again_bundles))
        attempt, hours = run.folder.status.get("attempt", 0), adapt.deadline_hours
        seconds = None if hours is None else 3600 * hours - adapt.reserve_seconds
        self._limit = TimeLimit(self.folder, adapt.seconds, attempt)
        self._deadline = TimeLimit(self.folder, seconds, attempt, "deadline.json", counts_pauses=True)
        self._needed = 0.0  # seconds that must be left when the training of the present bundle ends

    def _queue(self, names: Sequence[str]) -> WorkQueue[list[Adapted]]:
        return WorkQueue(self.folder.path, names, lambda values: [*map(Adapted.from_json, values)])

    @property
    def num_tasks(self) -> int:
        return len(self._singles)

    @property
    def num_task_groups(self) -> int:
        return len(self._groups)

    @property
    def num_bundles(self) -> int:
        """Of both passes; task groups that are trained at once count as one."""
        return len(self._bundles) + len(self._again_bundles)

    @property
    def num_waiting(self) -> int:
        """Pieces of work that are not finished."""
        return sum(len(queue.waiting) for queue in (self._before, self._after, self._again))

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
        """Adapt to every task group and answer it, and then again.

        Args:
            on_progress: called with the number of finished bundles, and what this process did last.
        """
        last: Adapted | None = None

        def first(name: str) -> list[dict[str, Any]]:
            return do(self._bundles[name], share=self._fair_share())

        def second(name: str) -> list[dict[str, Any]]:
            return do(self._again_bundles[name], share=float("inf"))

        def do(bundle: Bundle, *, share: float) -> list[dict[str, Any]]:
            nonlocal last
            num_tasks = sum(len(group.tasks) for group in bundle.groups)
            answers = CAUTION * max(self._answer_seconds(), default=0.0) * num_tasks + TIDYING_SECONDS
            self._needed = max(answers, self.seconds_left - share * num_tasks)
            adapted = self.method.adapt_bundle(bundle)
            last = adapted[-1]
            return [one.to_json() for one in adapted]

        with _quick_garbage_collection():
            self._after.work(first, lambda done: on_progress(done, last), self._is_collected)
            if not self._again_bundles or self._is_collected():
                return
            num_first, candidates = len(self._bundles), self.results().candidates
            ordered = least_certain_first(self._again_bundles.values(), candidates, self._run.rule)
            queue = self._queue([bundle.name for bundle in ordered])
            queue.work(second, lambda done: on_progress(num_first + done, last), self._is_collected)

    def results(self) -> Results:
        """Return what is finished."""
        before = self._before.finished.values()
        return Results(
            before=[candidate for one in before for candidate in one.candidates],
            seconds=sum(one.seconds for one in before),
            adapted=self._read_after(),
            again=[one for adapted in self._again.finished.values() for one in adapted],
        )

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

    def _fair_share(self) -> float:
        """Return the seconds of training for each task of a bundle that is begun now, of the first pass.

        All processes together have the time that is left for all that wait, those under way included. Where
        that is less than answers take twice, a task still gets as long as its answers, and the last ones get
        nothing.
        """
        if self.seconds_left == float("inf"):
            return self.seconds_left
        waiting = sum(
            len(group.tasks) for name in self._after.waiting for group in self._bundles[name].groups
        )
        answering = self._answer_seconds()
        mean = sum(answering) / len(answering) if answering else 0.0
        return max(mean, self.seconds_left * num_sharing() / waiting - mean)

    def _answer_seconds(self) -> list[float]:
        """Return the seconds that the answers to a task took so far, in all processes and attempts."""
        before = [one.seconds for one in self._before.finished.values()]
        after = [
            one.seconds["inference"] / len(one.task_ids)
            for adapted in self._after.finished.values()
            for one in adapted
        ]
        return [*before, *after]

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
