"""How long a training and the answers after it may take: said after a few steps, corrected by each line.

estimate     training about 1 min 5 s more (4 validations included), then 128 prompts, about 20 s
"""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arc_experiments.jobs.estimate import Seconds, answering_seconds, prompts_text, show_estimate
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.runs.run_state import duration
from arc_experiments.training.recording import Recorder

TIMED_STEPS = 3  # after the first one, which warms up


@dataclass(kw_only=True)
class TimeLeft:
    """How long the rest of a training takes, its validations and the answers after it included.

    Attributes:
        last_step: the step at which training ends.
        eval_steps: optimizer steps between validations; None: only the last one.
        others_pictures: what the loss with the pictures of other tasks takes, once, after the last step, in
            validations.
        step, validation: seconds of an optimizer step and of a validation; None if unknown.
        answering: those of all answers.
    """

    last_step: int
    eval_steps: int | None
    others_pictures: float = 0.0
    step: float | None = None
    validation: float | None = None
    answering: Seconds | None = None

    def num_validations(self, done: int) -> int:
        """Validations after step `done`; the last is that of the last step."""
        if done >= self.last_step:
            return 0
        every = self.eval_steps or self.last_step
        return (self.last_step - 1) // every - done // every + 1

    def training(self, done: int) -> float | None:
        """Seconds of the training after step `done`; None if unknown."""
        if self.step is None:
            return None
        validations = self.num_validations(done) + (self.others_pictures if done < self.last_step else 0.0)
        return self.step * (self.last_step - done) + (self.validation or 0.0) * validations

    def after(self, done: int) -> float | None:
        """Seconds of everything after step `done`; None if unknown."""
        training = self.training(done)
        return None if training is None else training + (self.answering.about if self.answering else 0.0)

    def correct(self, *, step: float | None, validation: float | None) -> None:
        """Take what the training itself has measured; None for what it has not yet."""
        self.step = self.step if step is None else step
        self.validation = self.validation if validation is None else validation


class AfterFirstSteps(TrainerCallback):
    """Begins the tracking after the first step, and a few later says how long the rest may take.

    The first step does not wait for either, and the steps that are timed are the training's own.
    """

    def __init__(
        self, run: Run, model: Any, recorder: Recorder, left: TimeLeft, tracker: Tracker, console: Console
    ) -> None:
        self._run, self._model, self._recorder = run, model, recorder
        self._left, self._tracker, self._console = left, tracker, console
        self._is_shown = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tracker.begin()
        is_over = state.global_step >= self._left.last_step
        if not self._is_shown and (self._recorder.timed_steps >= TIMED_STEPS or is_over):
            self._is_shown = True
            with self._recorder.aside():
                self._show(state.global_step)

    def _show(self, step: int) -> None:
        run, left = self._run, self._left
        if run.requests and not run.is_sharded:  # whose processes would have to answer together
            left.answering = answering_seconds(run, self._model)
        if run.others_pictures_records:
            left.others_pictures = len(run.others_pictures_records) / len(run.validation_records[0])
        if run.config.optim.best_by == "pass_at_2" and left.validation and left.answering:
            left.others_pictures *= left.validation / (left.validation + left.answering.about)
            left.validation += left.answering.about
        left.correct(step=self._recorder.step_seconds, validation=self._recorder.validation_seconds)
        show_estimate(estimate_text(run, left, step), self._console)


def estimate_text(run: Run, left: TimeLeft, done: int) -> str:
    """`training about 1 min 5 s more (2 validations included), then 128 prompts, about 20 s`."""
    parts, training = [], left.training(done)
    if training:
        validations = plural(left.num_validations(done), "validation")
        if left.others_pictures:
            validations += " and one with others' pictures"
        parts.append(f"training about {duration(training)} more ({validations} included)")
    return ", then ".join(filter(None, [*parts, prompts_text(run, left.answering)]))
