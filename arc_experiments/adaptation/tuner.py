"""One model in memory, adapted to unit after unit: train, answer, put the weights back.

What comes in are tasks without their test outputs. What a unit gives depends on the run and on the unit alone, not on
what came before it nor on who does it: the weights are put back to the last bit, the optimizer is new, and every seed
is drawn for the tasks' ids. Only a time budget makes a difference.
"""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import release_memory

from arc_experiments.adaptation.results import Adapted, Answers, Outcome, Training, this_worker
from arc_experiments.adaptation.task_groups import Group, Unit, in_turn, make_units
from arc_experiments.adaptation.training import ANSWERS, CHECKPOINTS, seed_of, train
from arc_experiments.adapters_at_once.stacked import Stack, check_stackable
from arc_experiments.corpus.partitions import leave_out
from arc_experiments.generation.batching import NoRoom
from arc_experiments.generation.predict import unanswered
from arc_experiments.run import Run
from arc_experiments.runs.environment import peak_memory_bytes
from arc_experiments.scoring.selection import NotFinite
from arc_experiments.stream.samples import NothingFits, Part, SampleStream
from arc_experiments.tasks import FixedTasks, TaskSet
from arc_experiments.training.checkpoints import last_complete
from arc_experiments.training.guards import TrainingStopped

log = logging.getLogger(__name__)

FAILURES = {NoRoom: Outcome.OUT_OF_MEMORY, NotFinite: Outcome.DIVERGED}  # of answers


class Tuner:
    """Adapts the run's model.

    Args:
        folder: for what is needed while a unit is worked on.
        is_over: whether the time for all units has run out.
        note: called often where work takes long.

    Raises:
        ValueError: `adapt.together` does not go with this model.
    """

    def __init__(
        self, run: Run, folder: Path, is_over: Callable[[], bool], note: Callable[[], None] = lambda: None
    ) -> None:
        self._run, self._folder, self._is_over, self._note = run, folder, is_over, note
        self.model = run.model()
        self._weights = []
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # as the trainer will have them
                self._weights.append((parameter, parameter.detach().cpu().clone()))
        if run.config.adapt.together > 1:
            check_stackable(self.model, run.config.adapt.together)

    def answer(self, tasks: TaskSet, place: str) -> Answers | Outcome:
        """The answers of the model as it is, or why it cannot answer; those of a killed attempt are gone on from.

        Args:
            place: where they are kept, in the folder.
        """
        partial = self._folder / place
        requests, model = self._run.requests_of(tasks), self.model.eval()
        try:
            candidates = self._run.ask(model, partial, self._progressed, requests)
            candidates = self._run.with_likelihoods(
                model, candidates, partial / "likelihoods", self._progressed, tasks=tasks
            )
        except tuple(FAILURES) as error:
            log.warning("%s: %s", place, error)
            return FAILURES[type(error)]
        return Answers(candidates=tuple(candidates))

    def _progressed(self, done: int, total: int) -> None:
        self._note()

    def no_answers(self, tasks: TaskSet, reason: str) -> Answers:
        """What stands for the answers to tasks that cannot be answered."""
        requests = self._run.requests_of(tasks)
        return Answers(candidates=tuple(unanswered(request, reason) for request in requests))

    def adapt(self, unit: Unit, lost: float = 0.0) -> Adapted:
        """Train on the unit's demonstrations, answer its test inputs, and put the weights back.

        Args:
            lost: its share of the seconds of a training at once that failed.
        """
        start = self._begin()
        try:
            outcome, training = self._train(unit)
            trained = time.perf_counter()
            found: list[Answers | Outcome] = []
            if training is not None:
                release_memory()  # the trainer is a cycle: its optimizer would lie beside the answers
                found = self._answer_adapted(unit)
        finally:
            self._restore()
        shutil.rmtree(self._folder / unit.name, ignore_errors=True)
        seconds = lost + trained - start, time.perf_counter() - trained
        return self._adapted(unit, outcome, training, found, *seconds)

    def adapt_group(self, group: Group) -> list[Adapted]:
        """The same of each unit of a group, trained at once where that can be: what they give is the same to rounding."""
        is_late = self._is_late(group.name)  # once: who is in a group must not hang on the clock
        streams = {unit: self._stream(unit, is_late) for unit in group.units}
        ready = {unit: stream for unit, stream in streams.items() if isinstance(stream, SampleStream)}
        done, lost = dict[Unit, Adapted](), 0.0
        if len(ready) > 1:
            start = time.perf_counter()
            try:
                done = self._adapt_at_once(group, ready)
            except (NothingFits, TrainingStopped, torch.OutOfMemoryError) as error:
                log.warning("%s: %s; one by one instead", group.name, error)
                lost = (time.perf_counter() - start) / len(ready)
            if lost:
                release_memory()
            for name in (group.name, *(unit.name for unit in done)):
                shutil.rmtree(self._folder / name, ignore_errors=True)
        return [done.get(unit) or self.adapt(unit, lost if unit in ready else 0.0) for unit in group.units]

    def _adapt_at_once(self, group: Group, streams: dict[Unit, SampleStream]) -> dict[Unit, Adapted]:
        start, done = self._begin(), {}
        stack = Stack(self.model, len(streams))
        with stack.in_place():
            outcome, trainings = train(
                self._run, self.model, streams, self._folder, group.name, self._is_over
            )
        release_memory()
        seconds = (time.perf_counter() - start) / len(streams)
        try:
            for number, (unit, training) in enumerate(zip(streams, trainings, strict=True)):
                began = time.perf_counter()
                stack.take(number)
                found = self._answer_adapted(unit)
                answering = time.perf_counter() - began
                done[unit] = self._adapted(unit, outcome, training, found, seconds, answering)
        finally:
            self._restore()
        return done

    def _begin(self) -> float:
        if self._run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return time.perf_counter()

    def _adapted(
        self,
        unit: Unit,
        outcome: Outcome,
        training: Training | None,
        found: Sequence[Answers | Outcome],
        trained: float,
        answered: float,
    ) -> Adapted:
        """What became of the unit; of one whose training gave weights `found` holds what each task's answers came to."""
        pairs = zip(unit.tasks.ids, found, strict=False)
        return Adapted(
            task_ids=unit.tasks.ids,
            outcome=outcome,
            unanswered={task_id: one for task_id, one in pairs if isinstance(one, Outcome)},
            training=training,
            answers=Answers.joined([one for one in found if isinstance(one, Answers)]),
            seconds={"training": trained, "inference": answered},
            peak_memory_bytes=peak_memory_bytes(self._run.device),
            worker=this_worker(),
        )

    def _answer_adapted(self, unit: Unit) -> list[Answers | Outcome]:
        """The answers of the model as it is, by task: one that it cannot answer costs no other. Its weights are kept."""
        self._save(unit)
        return [
            self.answer(single.tasks, f"{unit.name}/{ANSWERS}/{single.name}")
            for single in make_units(unit.tasks, None)
        ]

    def _is_late(self, name: str) -> bool:
        """Whether the time is over for a training that has not been begun: one with a checkpoint goes on from there."""
        return self._is_over() and last_complete(self._folder / name / CHECKPOINTS) is None

    def _stream(self, unit: Unit, is_late: bool) -> SampleStream | Outcome:
        """What the unit is trained on, or why it is not to be."""
        if is_late:
            return Outcome.NOT_BEGUN
        tasks = in_turn(unit.tasks, self._run.config.adapt.leave_out)
        if not len(tasks):
            return Outcome.TOO_FEW
        seed = seed_of("stream", self._run.config.seeds.stream, [unit])
        stream = self._run.stream_of(tasks, seed=seed)
        try:
            stream.row(0)
        except NothingFits:
            return Outcome.TOO_LONG
        return stream

    def _train(self, unit: Unit) -> tuple[Outcome, Training | None]:
        """How it ended; without counts the weights are not to be used."""
        stream = self._stream(unit, self._is_late(unit.name))
        if isinstance(stream, Outcome):
            return stream, None
        try:
            outcome, [training] = train(
                self._run, self.model, {unit: stream}, self._folder, unit.name, self._is_over
            )
            return outcome, training
        except NothingFits:
            return Outcome.TOO_LONG, None
        except TrainingStopped as error:
            log.warning("%s: %s", unit.name, error)
            return Outcome.DIVERGED, None
        except torch.OutOfMemoryError as error:
            log.warning("%s: %s", unit.name, error)
        release_memory()
        return Outcome.OUT_OF_MEMORY, None

    def _save(self, unit: Unit) -> None:
        """Keep the weights with their ancestry, if that is asked for."""
        adapt, weights = self._run.config.adapt, self._run.weights
        if not adapt.save and adapt.mode != "joint":
            return
        shares = [
            Part(name="demonstrations", source=FixedTasks(tasks), task_ids=tasks.ids, transforms=())
            for tasks in (leave_out(unit.tasks, count) for count in adapt.leave_out)
        ]
        folder = weights.folder
        if adapt.mode != "joint":
            folder = folder.with_name(f"{folder.name}s") / unit.name
            folder.parent.mkdir(exist_ok=True)
        ancestry = weights.ancestry(dtype=self._run.dtype, shares=shares)
        weights.save(self.model, self._run.tokenizer, ancestry, folder=folder)

    def _restore(self) -> None:
        with torch.no_grad():
            for parameter, value in self._weights:
                parameter.copy_(value)
                parameter.grad = None
