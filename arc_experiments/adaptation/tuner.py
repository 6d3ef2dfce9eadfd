"""One model in memory, adapted to unit after unit: train, answer, put the weights back.

What comes in are tasks without their test outputs. What a unit gives depends on the run and on the unit alone, not on
what came before it nor on who does it: the weights are put back to the last bit, the optimizer is new, and every seed
is drawn for the tasks' ids. Only a time budget makes a difference.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import release_memory
from transformers.trainer_utils import SaveStrategy

from arc_experiments.adaptation.results import Adapted, Answers, Outcome, Training, this_worker
from arc_experiments.adaptation.units import Unit, in_turn
from arc_experiments.config import MAX_SEED
from arc_experiments.environment import peak_memory_bytes
from arc_experiments.generation import NoRoom, unanswered
from arc_experiments.partitions import leave_out
from arc_experiments.rngs import rng_for
from arc_experiments.run import Run
from arc_experiments.selection import NotFinite
from arc_experiments.stream import NothingFits, Part, SampleStream
from arc_experiments.tasks import FixedTasks, TaskSet
from arc_experiments.training.callbacks import StopAtTime
from arc_experiments.training.checkpoints import last_complete, step_of
from arc_experiments.training.guards import TrainingStopped
from arc_experiments.training.trainer import StreamTrainer

log = logging.getLogger(__name__)

AVERAGED_LOSSES = 10  # logged steps, at either end of a training; half of them at most
# What SFTTrainer and accelerate wrap around a model, each trainer its own around that of the one before.
WRAPPED = ("forward", "_original_forward", "_is_accelerate_prepared")


class Tuner:
    """Adapts the run's model.

    Args:
        folder: for what is needed while a unit is worked on.
        is_over: whether the time for all units has run out.
    """

    def __init__(self, run: Run, folder: Path, is_over: Callable[[], bool]) -> None:
        self._run, self._folder, self._is_over = run, folder, is_over
        self.model = run.model()
        self._weights = []
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # as the trainer will have them
                self._weights.append((parameter, parameter.detach().cpu().clone()))

    def answer(self, tasks: TaskSet, name: str) -> Answers:
        """The model's answers as it is; those of a killed attempt are gone on from.

        Args:
            name: of these tasks among others.
        """
        partial = self._folder / name / "answers"
        partial.parent.mkdir(parents=True, exist_ok=True)
        requests, model = self._run.requests_of(tasks), self.model.eval()
        candidates = self._run.ask(model, partial, lambda done, total: None, requests)
        candidates = self._run.with_likelihoods(model, candidates, partial / "likelihoods", tasks=tasks)
        return Answers(candidates=tuple(candidates), unconstrained=self._answer_freely(tasks, partial))

    def _answer_freely(self, tasks: TaskSet, partial: Path) -> dict[str, list[bool]]:
        """Whether each answer without `inference.constrain` is valid: to the run's sample, as far as it is of these tasks."""
        run, valid = self._run, dict[str, list[bool]]()
        requests = [request for request in run.unconstrained_requests if request.task_id in tasks]
        if requests:
            place, engine = partial / "unconstrained", run.unconstrained_engine
            for one in run.ask(self.model, place, lambda done, total: None, requests, engine):
                valid.setdefault(one.task_id, []).append(one.grid is not None)
        return valid

    def no_answers(self, tasks: TaskSet, reason: str) -> Answers:
        """What stands for the answers to tasks that cannot be answered."""
        candidates = tuple(unanswered(request, reason) for request in self._run.requests_of(tasks))
        return Answers(candidates=candidates, unconstrained={})

    def adapt(self, unit: Unit) -> Adapted:
        """Train on the unit's demonstrations, answer its test inputs, and put the weights back."""
        start = time.perf_counter()
        if self._run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            outcome, training = self._train(unit)
            trained = time.perf_counter()
            answers = None
            if training is not None:
                release_memory()  # the trainer is a cycle: its optimizer would lie beside the answers
                outcome, answers = self._answer_adapted(unit, outcome)
        finally:
            self._restore()
        shutil.rmtree(self._folder / unit.name, ignore_errors=True)
        return Adapted(
            task_ids=unit.tasks.ids,
            outcome=outcome,
            training=training,
            answers=answers,
            seconds={"training": trained - start, "inference": time.perf_counter() - trained},
            peak_memory_bytes=peak_memory_bytes(self._run.device),
            worker=this_worker(),
        )

    def _answer_adapted(self, unit: Unit, outcome: Outcome) -> tuple[Outcome, Answers | None]:
        """The answers of the model as it is, and its weights kept; none where it cannot answer."""
        try:
            answers = self.answer(unit.tasks, unit.name)
        except NotFinite as error:
            log.warning("%s: %s", unit.name, error)
            return Outcome.DIVERGED, None
        except NoRoom as error:
            log.warning("%s: %s", unit.name, error)
            return Outcome.OUT_OF_MEMORY, None
        self._save(unit)
        return outcome, answers

    def _train(self, unit: Unit) -> tuple[Outcome, Training | None]:
        """How it ended; without counts the weights are not to be used."""
        if self._is_over():
            return Outcome.NOT_BEGUN, None
        tasks = in_turn(unit.tasks, self._run.config.adapt.leave_out)
        if not len(tasks):
            return Outcome.TOO_FEW, None
        stream = self._run.stream_of(tasks, seed=_seed("stream", self._run.config.seeds.stream, unit))
        try:
            stream.row(0)
            return self._train_on(stream, unit)
        except NothingFits:
            return Outcome.TOO_LONG, None
        except TrainingStopped as error:
            log.warning("%s: %s", unit.name, error)
            return Outcome.DIVERGED, None
        except torch.OutOfMemoryError as error:
            log.warning("%s: %s", unit.name, error)
        release_memory()
        return Outcome.OUT_OF_MEMORY, None

    def _train_on(self, stream: SampleStream, unit: Unit) -> tuple[Outcome, Training]:
        config = self._run.config
        folder = self._folder / unit.name / "checkpoints"
        checkpoint = last_complete(folder)
        if checkpoint is None or step_of(checkpoint) < config.optim.max_steps:
            # Answers of a killed attempt were other weights', if its time ran out.
            stale = self._folder / unit.name
            shutil.rmtree(stale if checkpoint is None else stale / "answers", ignore_errors=True)
        clock = StopAtTime(lambda: self._is_over() or _is_spent(trainer, config.adapt.seconds_per_task, unit))
        with _unwrapped(self.model):
            trainer = self._run.trainer(
                self.model,
                [clock],
                stream=stream,
                folder=folder,
                seed=_seed("train", config.seeds.train, unit),
            )
            if config.optim.save_steps >= config.optim.max_steps:
                trainer.args.save_strategy = SaveStrategy.NO
            trainer.resume_or_start()
        counts = trainer.counts
        training = Training(
            steps=trainer.state.global_step,
            samples=counts.samples,
            tokens=counts.tokens,
            samples_shrunk=counts.samples_shrunk,
            samples_redrawn=counts.samples_redrawn,
            loss=_loss(trainer),
        )
        return Outcome.STOPPED if clock.has_stopped else Outcome.WHOLE, training

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


def _seed(purpose: str, seed: int, unit: Unit) -> int:
    """That of the unit's own stream or dropout."""
    return int(rng_for(f"adapt {purpose}", seed, *unit.tasks.ids).integers(MAX_SEED))


def _is_spent(trainer: StreamTrainer, seconds_per_task: float | None, unit: Unit) -> bool:
    return seconds_per_task is not None and trainer.seconds >= seconds_per_task * len(unit.tasks)


def _loss(trainer: StreamTrainer) -> tuple[float, float] | None:
    """Means over the first and over the last logged steps; None where the time ran out before there was one."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if not losses:
        return None
    count = max(1, min(AVERAGED_LOSSES, len(losses) // 2))
    return sum(losses[:count]) / count, sum(losses[-count:]) / count


@contextmanager
def _unwrapped(model: Any) -> Iterator[None]:
    """Take off afterwards what a trainer has wrapped around the model: a thousand of them would be too deep a call."""
    modules = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    before = [{name: vars(module)[name] for name in WRAPPED if name in vars(module)} for module in modules]
    hooks = model.get_input_embeddings()._forward_hooks  # with gradient checkpointing each trainer adds two
    known = set(hooks)
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            for name in WRAPPED:
                vars(module).pop(name, None)
            vars(module).update(own)
        for key in set(hooks) - known:
            del hooks[key]
