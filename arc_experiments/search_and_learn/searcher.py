"""Rounds of search and learn for a task group: write programs, check them, relabel, train, write again.

    round 1        the model as it is writes programs for every task: the answers before adaptation
    round 2, ...   trained on what the rounds before wrote, relabelled, it writes for the tasks that have no
                   verified program yet

Weights carry over from round to round and are put back between task groups. Every seed is drawn for the
tasks' ids and the round, so what comes of a group depends on the run and the group alone; a killed round
resumes after its last whole batch of programs, or from its training's checkpoint.
"""

import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from accelerate.utils import release_memory

from arc_experiments.adaptation.results import AdaptationCounts, Adapted, Ending, Round, this_worker
from arc_experiments.adaptation.task_groups import Bundle, TaskGroup
from arc_experiments.adaptation.training import ANSWERS, seed_of
from arc_experiments.adaptation.tuner import Candidates, Tuner
from arc_experiments.run import Run
from arc_experiments.runs.environment import peak_memory_bytes
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.search_and_learn import joining
from arc_experiments.search_and_learn.relabelling import Written, best_last, relabel
from arc_experiments.stream.samples import NothingFits
from arc_experiments.tasks import Task, TaskSet

log = logging.getLogger(__name__)


class Searcher:
    """Searches for programs and learns from those that failed.

    Args:
        folder: for programs, weights and checkpoints of unfinished rounds.
        is_over: whether the time for all groups has run out.
        note: called often while programs are written.
        first_round: the programs that the model as it is wrote for a task, by the task's id.
        tell: called with the group's name, the number and what came of each finished round.

    Raises:
        ValueError: programs are to be joined that are in a language whose programs do not join.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        is_over: Callable[[], bool],
        note: Callable[[], None],
        first_round: Callable[[str], Sequence[Candidate]],
        tell: Callable[[str, int, Round], None],
    ) -> None:
        self._run, self._folder, self._is_over, self._first_round = run, folder, is_over, first_round
        self._tell = tell
        joined, name = run.config.adapt.joined, run.prompt.language
        if joined and name != joining.LANGUAGE:
            raise ValueError(f"adapt.joined={joined}: programs in {name} are not joined: set adapt.joined=0")
        self._tuner = Tuner(run, folder, is_over, note)
        self.model = self._tuner.model

    def answer(self, tasks: TaskSet, place: str) -> Candidates | Ending:
        """Write the programs of the first round (see `Tuner.answer`)."""
        return self._tuner.answer(tasks, place)

    def no_answers(self, tasks: TaskSet, reason: str) -> Candidates:
        """Return what takes the place of programs for tasks that the model cannot read."""
        return self._tuner.no_answers(tasks, reason)

    def adapt_bundle(self, bundle: Bundle) -> list[Adapted]:
        """Search and learn for each group of a bundle, one after the other."""
        return [self._search(group) for group in bundle.groups]

    def _search(self, group: TaskGroup) -> Adapted:
        """Do all rounds but the first, and put the weights back."""
        start = self._tuner.begin()
        programs: list[Candidate] = [one for name in group.tasks.ids for one in self._first_round(name)]
        rounds = [Round.of(programs, relabelled=0, training=None)]
        self._tell(group.name, 1, rounds[0])
        outcome, unanswered, trained = Ending.WHOLE, dict[str, Ending](), 0.0
        try:
            for number in range(2, self._run.config.adapt.rounds + 1):
                unsolved = TaskSet(task for task in group.tasks if task.id not in solved_by(programs))
                if not len(unsolved):
                    break
                if self._is_over():
                    outcome = Ending.STOPPED
                    break
                began = time.perf_counter()
                relabelled, outcome, training = self._learn(group, programs, f"{group.name}/round-{number}")
                trained += time.perf_counter() - began
                if outcome is not Ending.WHOLE:
                    break
                found = self._tuner.answer(
                    unsolved,
                    f"{group.name}/round-{number}/{ANSWERS}",
                    first_sample=(number - 1) * self._run.engine.num_samples,
                )
                if isinstance(found, Ending):
                    unanswered = dict.fromkeys(unsolved.ids, found)
                    break
                programs += found
                rounds.append(Round.of(programs, relabelled=relabelled, training=training))
                self._tuner.save(group)  # not after a later training that ends without a round
                self._tell(group.name, number, rounds[-1])
        finally:
            self._tuner.restore()
        if outcome is Ending.STOPPED and len(rounds) == 1:
            outcome = Ending.NOT_BEGUN
        shutil.rmtree(self._folder / group.name, ignore_errors=True)
        return Adapted(
            task_ids=group.tasks.ids,
            outcome=outcome,
            unanswered=unanswered,
            training=AdaptationCounts.total(one.training for one in rounds),
            candidates=tuple(in_order_of(group.tasks, programs)) if len(rounds) > 1 else None,
            seconds={"training": trained, "inference": time.perf_counter() - start - trained},
            peak_memory_bytes=peak_memory_bytes(self._run.device),
            worker=this_worker(),
            rounds=tuple(rounds),
        )

    def _learn(
        self, group: TaskGroup, programs: Iterable[Candidate], place: str
    ) -> tuple[int, Ending, AdaptationCounts | None]:
        """Train on the programs so far; return the number of relabelled tasks, and how the training ended.

        Without counts nothing was trained on.
        """
        tasks = self._relabelled(group.tasks, programs)
        weights = self._folder / f"{place}.safetensors"
        if weights.exists():
            return len(tasks), Ending.WHOLE, self._tuner.take(weights)
        if not tasks:
            log.warning("%s: no program ran on every input, so there is nothing to learn from", place)
            return 0, Ending.WHOLE, None
        seed = seed_of(f"stream {place}", self._run.config.seeds.stream, [group])
        stream = self._run.stream_of(TaskSet(tasks), seed=seed, in_order=True)
        try:
            stream.row(0)
        except NothingFits:
            return len(tasks), Ending.TOO_LONG, None
        outcome, training = self._tuner.train_on(stream, group, place)
        release_memory()  # the trainer is a cycle: its optimizer would still hold memory
        if outcome is Ending.WHOLE and training is not None:
            self._tuner.keep(weights, training)
        return len(tasks), outcome, training

    def _relabelled(self, tasks: TaskSet, programs: Iterable[Candidate]) -> list[Task]:
        """Return the tasks that these programs solve, the best last."""
        written, seen = defaultdict[str, list[Written]](list), defaultdict[str, dict[int, Task]](dict)
        for one in programs:
            answer = one.program
            if answer is not None and answer.is_program and one.test_index == 0:
                written[one.task_id].append(Written(view=one.view, program=answer.program))
        for request in self._run.requests_of(tasks):
            if request.seen is not None:
                seen[request.task_id][request.view.index] = request.seen
        adapt, sandbox = self._run.config.adapt, self._run.sandbox
        return best_last(
            relabel(seen[name], written[name], sandbox, most=adapt.relabelled, joined=adapt.joined)
            for name in tasks.ids
        )


def solved_by(programs: Iterable[Candidate]) -> set[str]:
    """Return the ids of the tasks of which a program solves all demonstrations."""
    return {one.task_id for one in programs if one.program is not None and one.program.verified}


def in_order_of(tasks: TaskSet, programs: Iterable[Candidate]) -> list[Candidate]:
    """Sort the answers of several rounds by task, keeping the order of each task's own."""
    place = {task_id: number for number, task_id in enumerate(tasks.ids)}
    return sorted(programs, key=lambda one: place[one.task_id])
