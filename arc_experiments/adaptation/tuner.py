"""One model in memory, adapted to task group after task group: train, answer, put the weights back.

Tasks come in without their test outputs. What comes of a group depends on the run and the group alone, not on
what came before or on who does it: the weights are restored bit for bit, the optimizer is new, and every seed
is drawn for the tasks' ids. Only a time budget makes a difference.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate.utils import release_memory
from safetensors import safe_open
from safetensors.torch import save_file

from arc_experiments.adaptation.results import AdaptationCounts, Adapted, Ending, this_worker
from arc_experiments.adaptation.second_pass import FIRST_SAMPLE
from arc_experiments.adaptation.task_groups import Bundle, TaskGroup, in_turn, make_task_groups
from arc_experiments.adaptation.training import ANSWERS, CHECKPOINTS, seed_of, train
from arc_experiments.adapters_at_once.stacked import Stack, check_stackable
from arc_experiments.corpus.partitions import leave_out
from arc_experiments.generation.batching import OutOfMemory
from arc_experiments.generation.reading import unanswered
from arc_experiments.run import Run
from arc_experiments.runs.environment import peak_memory_bytes
from arc_experiments.scoring.candidates import Candidate, NotFinite
from arc_experiments.stream.samples import NothingFits, SampleStream, StreamPart
from arc_experiments.tasks import FixedTasks, TaskSet
from arc_experiments.training.checkpoints import last_complete
from arc_experiments.training.divergence import TrainingStopped

log = logging.getLogger(__name__)

FAILURES = {OutOfMemory: Ending.OUT_OF_MEMORY, NotFinite: Ending.DIVERGED}  # of answers

Candidates = tuple[Candidate, ...]


class Tuner:
    """Adapts the run's model.

    Args:
        folder: for checkpoints and partial answers.
        is_over: whether the time for all groups has run out.
        note: called often while answers are made.

    Raises:
        ValueError: `adapt.together` does not work with this model.
    """

    def __init__(
        self, run: Run, folder: Path, is_over: Callable[[], bool], note: Callable[[], None] = lambda: None
    ) -> None:
        self._run, self._folder, self._is_over, self._note = run, folder, is_over, note
        self.model = run.model()
        self._weights = []
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # as the trainer converts them
                self._weights.append((parameter, parameter.detach().cpu().clone()))
        if run.config.adapt.together > 1:
            check_stackable(self.model, run.config.adapt.together)

    def answer(self, tasks: TaskSet, place: str, *, first_sample: int = 0) -> Candidates | Ending:
        """Answer tasks with the model as it is; return why where it cannot. Resumes a killed attempt's
        answers.

        Args:
            place: where partial answers are kept, in the folder.
            first_sample: the number of each view's first answer: other numbers are drawn differently.
        """
        partial = self._folder / place
        requests, model = self._run.requests_of(tasks), self.model.eval()
        try:
            candidates = self._run.predictor.predict(
                model, requests, partial, self._progressed, first_sample=first_sample
            )
            candidates = self._run.predictor.with_likelihoods(
                model, tasks, candidates, partial / "likelihoods", self._progressed
            )
        except tuple(FAILURES) as error:
            log.warning("%s: %s", place, error)
            return FAILURES[type(error)]
        return tuple(candidates)

    def _progressed(self, done: int, total: int) -> None:
        self._note()

    def no_answers(self, tasks: TaskSet, reason: str) -> Candidates:
        """Return what takes the place of answers to tasks that cannot be answered."""
        requests = self._run.requests_of(tasks)
        return tuple(one for request in requests for one in unanswered(request, reason))

    def adapt(self, group: TaskGroup, lost: float = 0.0) -> Adapted:
        """Train on the group's demonstrations, answer its test inputs, and put the weights back.

        Args:
            lost: its share of the seconds of a training at once that failed.
        """
        start = self.begin()
        found: list[Candidates | Ending] = []
        try:
            outcome, training = self._train(group)
            trained = time.perf_counter()
            if training is not None:
                release_memory()  # the trainer is a cycle: its optimizer would still hold memory
                found = self._answer_adapted(group)
        finally:
            self.restore()
        shutil.rmtree(self._folder / group.name, ignore_errors=True)
        seconds = lost + trained - start, time.perf_counter() - trained
        return self._adapted(group, outcome, training, found, *seconds)

    def adapt_bundle(self, bundle: Bundle) -> list[Adapted]:
        """Adapt to each group of a bundle, at once if possible: the results are the same to rounding."""
        is_late = self._is_late(bundle.name)  # once: who is trained at once must not depend on the clock
        streams = {group: self._stream(group, is_late) for group in bundle.groups}
        ready = {group: stream for group, stream in streams.items() if isinstance(stream, SampleStream)}
        done, lost = dict[TaskGroup, Adapted](), 0.0
        if len(ready) > 1:
            start = time.perf_counter()
            try:
                done = self._adapt_at_once(bundle, ready)
            except (NothingFits, TrainingStopped, torch.OutOfMemoryError) as error:
                log.warning("%s: %s; one by one instead", bundle.name, error)
                lost = (time.perf_counter() - start) / len(ready)
            if lost:
                release_memory()
            for name in (bundle.name, *(group.name for group in done)):
                shutil.rmtree(self._folder / name, ignore_errors=True)
        return [
            done.get(group) or self.adapt(group, lost if group in ready else 0.0) for group in bundle.groups
        ]

    def _adapt_at_once(
        self, bundle: Bundle, streams: dict[TaskGroup, SampleStream]
    ) -> dict[TaskGroup, Adapted]:
        start, done = self.begin(), {}
        stack = Stack(self.model, len(streams))
        with stack.in_place():
            outcome, trainings = train(
                self._run, self.model, streams, self._folder, bundle.name, self._is_over
            )
        release_memory()
        seconds = (time.perf_counter() - start) / len(streams)
        try:
            for number, (group, training) in enumerate(zip(streams, trainings, strict=True)):
                began = time.perf_counter()
                stack.take(number)
                found = self._answer_adapted(group)
                answering = time.perf_counter() - began
                done[group] = self._adapted(group, outcome, training, found, seconds, answering)
        finally:
            self.restore()
        return done

    def begin(self) -> float:
        """Measure from here on: time (returned, in seconds of `perf_counter`) and peak memory."""
        if self._run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return time.perf_counter()

    def _adapted(
        self,
        group: TaskGroup,
        outcome: Ending,
        training: AdaptationCounts | None,
        found: Sequence[Candidates | Ending],
        trained: float,
        answered: float,
    ) -> Adapted:
        """Sum up a group; `found` holds what came of each task's answers, if the training gave weights."""
        pairs = zip(group.tasks.ids, found, strict=False)
        answers = [one for one in found if not isinstance(one, Ending)]
        return Adapted(
            task_ids=group.tasks.ids,
            outcome=outcome,
            unanswered={task_id: one for task_id, one in pairs if isinstance(one, Ending)},
            training=training,
            candidates=tuple(candidate for one in answers for candidate in one) if answers else None,
            seconds={"training": trained, "inference": answered},
            peak_memory_bytes=peak_memory_bytes(self._run.device),
            worker=this_worker(),
        )

    def _answer_adapted(self, group: TaskGroup) -> list[Candidates | Ending]:
        """Save the weights if asked, then answer task by task: one that fails costs no other."""
        self.save(group)
        first = FIRST_SAMPLE if group.is_again else 0
        return [
            self.answer(single.tasks, f"{group.name}/{ANSWERS}/{single.name}", first_sample=first)
            for single in make_task_groups(group.tasks, None)
        ]

    def _is_late(self, name: str) -> bool:
        """Whether the time is over for a training that has not begun; one with a checkpoint is resumed."""
        return self._is_over() and last_complete(self._folder / name / CHECKPOINTS) is None

    def _stream(self, group: TaskGroup, is_late: bool) -> SampleStream | Ending:
        """Return what the group is trained on, or why it cannot be."""
        if is_late:
            return Ending.NOT_BEGUN
        tasks = in_turn(group.tasks, self._run.config.adapt.leave_out)
        if not len(tasks):
            return Ending.TOO_FEW
        seed = seed_of("stream", self._run.config.seeds.stream, [group])
        stream = self._run.stream_of(tasks, seed=seed)
        try:
            stream.row(0)
        except NothingFits:
            return Ending.TOO_LONG
        return stream

    def _train(self, group: TaskGroup) -> tuple[Ending, AdaptationCounts | None]:
        """Train alone; without counts the weights must not be used."""
        stream = self._stream(group, self._is_late(group.name))
        return (stream, None) if isinstance(stream, Ending) else self.train_on(stream, group, group.name)

    def train_on(
        self, stream: SampleStream, group: TaskGroup, place: str
    ) -> tuple[Ending, AdaptationCounts | None]:
        """Train on a stream for a group; without counts the weights must not be used.

        Args:
            place: where checkpoints are kept, in the folder.
        """
        try:
            outcome, [training] = train(
                self._run, self.model, {group: stream}, self._folder, place, self._is_over
            )
            return outcome, training
        except NothingFits:
            return Ending.TOO_LONG, None
        except TrainingStopped as error:
            log.warning("%s: %s", group.name, error)
            return Ending.DIVERGED, None
        except torch.OutOfMemoryError as error:
            log.warning("%s: %s", group.name, error)
        release_memory()
        return Ending.OUT_OF_MEMORY, None

    def save(self, group: TaskGroup) -> None:
        """Save the adapted weights with their ancestry, if asked; of mode=joint always."""
        adapt, weights = self._run.config.adapt, self._run.weights
        if not adapt.save and adapt.mode != "joint":
            return
        shares = [
            StreamPart(name="demonstrations", source=FixedTasks(tasks), task_ids=tasks.ids, transforms=())
            for tasks in (leave_out(group.tasks, count) for count in adapt.leave_out)
        ]
        folder = weights.folder
        if adapt.mode != "joint":
            folder = folder.with_name(f"{folder.name}s") / group.name
            folder.parent.mkdir(exist_ok=True)
        ancestry = weights.ancestry(dtype=self._run.dtype, shares=shares)
        weights.save(self.model, self._run.tokenizer, ancestry, folder=folder)

    def keep(self, file: Path, training: AdaptationCounts) -> None:
        """Write the trained weights and what their training was to a file, whole or not at all."""
        values = {str(number): value.detach().cpu() for number, (value, _) in enumerate(self._weights)}
        partial = file.with_suffix(".partial")
        save_file(values, partial, metadata={"training": json.dumps(asdict(training))})
        partial.rename(file)

    def take(self, file: Path) -> AdaptationCounts | None:
        """Take the weights that `keep` wrote; return what their training was."""
        with safe_open(file, "pt") as kept, torch.no_grad():
            for number, (parameter, _) in enumerate(self._weights):
                parameter.copy_(kept.get_tensor(str(number)))
            return AdaptationCounts.from_json(json.loads(kept.metadata()["training"]))

    def restore(self) -> None:
        """Put the weights back as they were before the first adaptation."""
        with torch.no_grad():
            for parameter, value in self._weights:
                parameter.copy_(value)
                parameter.grad = None
