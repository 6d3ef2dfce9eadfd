"""Fine-tune: tasks -> partition -> stream -> model -> trainer -> adapter, then evaluate it."""

import shutil
import time
from dataclasses import asdict
from typing import Any

from rich.console import Console

from arc_experiments.jobs.answering import (
    answered,
    finish,
    is_reported,
    score_in_training,
    validation_metrics,
)
from arc_experiments.jobs.beginning import begin, find_leaks, leak_metrics
from arc_experiments.jobs.resources import check_resources
from arc_experiments.jobs.results import part_asked, show_finished
from arc_experiments.jobs.terminal import ProgressBar, progress, show_leaks, show_plan, show_sample
from arc_experiments.jobs.time_left import AfterFirstSteps, TimeLeft
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.models.adapters import begins_as_base
from arc_experiments.run import PARTIAL_PREDICTIONS, Run
from arc_experiments.runs import pausing
from arc_experiments.runs.pausing import Pause, Paused
from arc_experiments.runs.run_state import duration, time_in
from arc_experiments.scoring.per_output import solved
from arc_experiments.training.checkpoints import last_complete, step_of
from arc_experiments.training.recording import Line, Recorder, cut_log, read_log
from arc_experiments.training.sharding import gather_trained, load_whole
from arc_experiments.training.trainer import StreamTrainer
from arc_experiments.training.validation import ValidationLoss

LOG = "train_log.jsonl"
TRAINED = ".trained.json"  # what the training gave; written after the weights are saved
FINAL_LOSSES = 10  # logged steps, the last ones, that the final loss is the mean of; all if there are fewer
WITH_ADAPTER = 4 / 3  # times the seconds of a validation without: see `untrained_loss`
STARVING = 0.05  # share of the training time spent waiting for data that is worth a warning


def main(run: Run, console: Console) -> None:
    """Train to the end, resuming an earlier attempt; then evaluate."""
    trained = _is_trained(run, TRAINED)
    if trained and is_reported(run) and _is_trained(run, "metrics.json"):
        show_finished(run, console)
        return
    run.corpus.check_trains()
    begin(run)
    _check_best(run)
    tracker = Tracker(run.folder, run.config, console, is_main=run.processes.is_main_process)
    if trained:
        console.print("The training is finished; resuming the evaluation.")
        model = run.trained_model()
    else:
        model = _train(run, tracker, console)
        if run.is_sharded:  # processes answer at their own pace, which takes a whole model in each
            del model
            model = load_whole(run.trained_model, run.folder.path)
    metrics = run.folder.read_json(TRAINED)
    _show_stop(run, metrics, console)
    finish(run, model, metrics, tracker, console)


def _is_trained(run: Run, name: str) -> bool:
    """Whether a metrics file is there and tells of all the training that is asked for."""
    if not (run.folder / name).exists():
        return False
    train = run.folder.read_json(name)["train"]
    return bool(train["steps"] >= _last_step(run) or train.get("stopped_early", False))


def _last_step(run: Run) -> int:
    return run.config.optim.stop_after or run.config.optim.max_steps


def _check_best(run: Run) -> None:
    """Raises ValueError if the held-out tasks cannot decide which weights are best."""
    by = run.config.optim.best_by
    if by == "pass_at_2" and not run.requests:
        raise ValueError(
            "optim.best_by=pass_at_2 needs ARC tasks to answer, and only ready rows are held out: "
            "optim.best_by=validation_loss"
        )
    can_choose = len(solved(run.predicted_tasks())) if by == "pass_at_2" else run.can_validate
    if by != "none" and not can_choose:
        raise ValueError(
            f"optim.best_by={by} needs validation tasks with solutions, and none of these has them: "
            "optim.best_by=none"
        )


def _train(run: Run, tracker: Tracker, console: Console) -> Any:
    """Train, then save the weights and what the training gave; return the trained model."""
    pause = Pause(run.folder.path, run.config.launch.chain)
    leaks = find_leaks(run, trains=True)
    check_resources(run, console)
    model = run.model()
    show_plan(run, model, console)
    show_leaks(leaks, console)
    show_sample(run.stream()[0], run, console)
    resumed_step = _open_log(run)
    if resumed_step is not None:
        console.print(f"Resuming from step {resumed_step}.")
    left = TimeLeft(last_step=_last_step(run), eval_steps=run.config.optim.eval_steps)
    with progress(console, "training", _last_step(run)) as bar:
        trainer = run.trainer(model, is_pause_due=pause.is_due)
        recorder = _recorder(run, trainer, model, bar, tracker, left)
        trainer.add_callback(AfterFirstSteps(run, model, recorder, left, tracker, console))
        if run.config.hardware.num_workers:
            tracker.settle()
        begun = time.perf_counter()
        if resumed_step is None and not (run.is_sharded or _begins_as_base(run)):
            recorder.validate_untrained()
        with pause.listening(resumed_step or 0):
            trainer.resume_or_start()
        _stop_if_asked(run, trainer)
        trained, training, stopped_early = time.perf_counter(), trainer.seconds, trainer.is_given_up
        attempt = trained - begun - recorder.untrained_seconds
        final = recorder.validate(trainer.state.global_step)
        if trainer.best is not None and trainer.best.take_back(trainer):
            final = run.validation_loss(model)
        others_pictures = run.loss_with_others_pictures(model)
        validating = recorder.untrained_seconds + time.perf_counter() - trained
    _show_starvation(trainer.data_wait_seconds / attempt, run, console)
    metrics = {
        **_loss_metrics(run, final, others_pictures),
        "train": {"stopped_early": stopped_early, **_training_metrics(run, trainer, attempt)},
        **leak_metrics(leaks),
        "seconds": {"validation": validating, "training": training},  # the latter of all attempts
        **_best_metrics(trainer),
    }
    _save(run, model, metrics)
    return model


def _open_log(run: Run) -> int | None:
    """Cut the log back to the checkpoint that the training resumes from; return that checkpoint's step."""
    checkpoint = last_complete(run.folder / "checkpoints")
    step = None if checkpoint is None else step_of(checkpoint)
    if run.processes.is_main_process:
        cut_log(run.folder / LOG, -1 if step is None else step)
    run.processes.wait_for_everyone()
    return step


def _recorder(
    run: Run, trainer: StreamTrainer, model: Any, bar: ProgressBar, tracker: Tracker, left: TimeLeft
) -> Recorder:
    """What validates and logs during training; bar, tracker and status get each line that it writes."""

    def evaluate_untrained() -> ValidationLoss | None:
        start = time.perf_counter()
        loss = untrained_loss(run, model)
        left.validation = (time.perf_counter() - start) * (WITH_ADAPTER if _begins_as_base(run) else 1.0)
        return loss

    def show(line: Line) -> None:
        left.correct(step=recorder.step_seconds, validation=recorder.validation_seconds)
        _show_line(line, run, bar, tracker, left.after(int(line["step"])))

    recorder = Recorder(
        trainer,
        run.folder / LOG,
        evaluate=lambda: run.validation_loss(model),
        evaluate_untrained=evaluate_untrained,
        untrained_waits=_begins_as_base(run),
        score=(lambda: score_in_training(run, model)) if run.config.optim.best_by == "pass_at_2" else None,
        eval_steps=run.config.optim.eval_steps,
        on_line=show,
    )
    return recorder


def untrained_loss(run: Run, model: Any) -> ValidationLoss | None:
    """The validation loss before training; a new adapter adds exactly nothing, and is left out.

    So it is a quarter faster, and can be measured later, too.
    """
    if not _begins_as_base(run):
        return run.validation_loss(model)
    with model.disable_adapter():
        return run.validation_loss(model)


def _begins_as_base(run: Run) -> bool:
    """Whether the untrained model is its base, which stays what it is while the adapter is trained."""
    return begins_as_base(run.config.model) and not run.is_sharded


def _show_line(line: Line, run: Run, bar: ProgressBar, tracker: Tracker, left: float | None) -> None:
    """Pass on a line of the log.

    Args:
        left: seconds until the answers are there, too; None if unknown.
    """
    step = int(line["step"])
    tracker.log(step, {name: value for name, value in line.items() if name != "step"})
    loss = {"loss": line["loss"]} if "loss" in line else {}
    expected_end = None if left is None else time_in(left)
    run.folder.update_status(
        step=step, max_steps=run.config.optim.max_steps, expected_end=expected_end, **loss
    )
    if "validation_loss" in line:
        scored = f", pass@2 {line['pass_at_2']:.1%}" if "pass_at_2" in line else ""
        bar.tell("validation", step, f"loss {line['validation_loss']:.4f}{scored}")
    if loss:
        speed = f"{line['samples_per_second']:.1f} samples/s, {line['tokens_per_second']:.0f} tokens/s"
        if line["data_wait_fraction"] > STARVING:
            speed += f", {line['data_wait_fraction']:.0%} waiting for data"
        if left is not None:
            speed += f", {duration(left)} left"
        bar.update(step, f"loss {line['loss']:.4f}, {speed}")


def _stop_if_asked(run: Run, trainer: StreamTrainer) -> None:
    """End the job here if it was asked to pause or stop; its checkpoint is on disk.

    Raises:
        Paused: a later start has the rest of the training to do.
        KeyboardInterrupt: the signal came in the last steps, which the last checkpoint has.
    """
    if trainer.has_paused:
        run.processes.wait_for_everyone()
        if run.processes.is_main_process:
            pausing.forget(run.folder.path)
        step = trainer.state.global_step
        raise Paused(f"Paused at step {step} of {_last_step(run)}. The same command resumes from here")
    if pausing.is_signalled():
        raise KeyboardInterrupt


def _save(run: Run, model: Any, metrics: dict[str, Any]) -> None:
    """Save the weights, then what the training gave; drop what an earlier, shorter training has left."""
    model.eval()
    weights = gather_trained(model) if run.is_sharded else None
    if run.processes.is_main_process:
        shutil.rmtree(run.folder / PARTIAL_PREDICTIONS, ignore_errors=True)
        run.save_weights(model, weights)
    (run.folder / "report.html").unlink(missing_ok=True)
    run.folder.write_json(TRAINED, metrics)
    run.processes.wait_for_everyone()


def _loss_metrics(
    run: Run, final: ValidationLoss | None, others_pictures: ValidationLoss | None
) -> dict[str, Any]:
    """The validation loss before and after the training, and with others' pictures."""
    if final is None:
        return {}
    logged = {line["step"]: line["validation_loss"] for line in _log(run) if "validation_loss" in line}
    return validation_metrics(final, initial_loss=logged.get(0), others_pictures=others_pictures)


def _log(run: Run) -> list[Line]:
    """The lines of the training's log; none of steps that a notebook has trained by hand."""
    return read_log(run.folder / LOG) if (run.folder / LOG).exists() else []


def _training_metrics(run: Run, trainer: StreamTrainer, seconds: float) -> dict[str, Any]:
    """The `train` part of metrics.json; speeds are those of this attempt, which took `seconds`."""
    losses = [line["loss"] for line in _log(run) if "loss" in line][-FINAL_LOSSES:]
    done = trainer.session_counts
    return {
        "steps": trainer.state.global_step,
        **asdict(trainer.counts),
        "final_loss": sum(losses) / len(losses) if losses else None,
        "final_loss_steps": len(losses),  # logged steps that it is the mean of
        "samples_per_second": done.samples / seconds,
        "tokens_per_second": done.tokens / seconds,
        "data_wait_fraction": trainer.data_wait_seconds / seconds,
    }


def _best_metrics(trainer: StreamTrainer) -> dict[str, Any]:
    """The `best` part of metrics.json; empty if the last weights are kept whatever they are worth."""
    best = trainer.best
    if best is None or best.state.step is None:
        return {}
    return {"best": {"by": best.by, "step": best.state.step, "value": best.state.value}}


def _show_starvation(share: float, run: Run, console: Console) -> None:
    """Say so if much of the training time went by waiting for data."""
    if share > STARVING:
        workers = run.config.hardware.num_workers + 2
        console.print(
            f"[yellow]note[/]         {share:.0%} of the training time went by waiting for data: "
            f"hardware.num_workers={workers} prepares samples in {workers} processes beside it"
        )


def _show_stop(run: Run, metrics: dict[str, Any], console: Console) -> None:
    """Say why the training ended before `max_steps`, and which weights are kept."""
    steps, optim = metrics["train"]["steps"], run.config.optim
    if metrics["train"].get("stopped_early", False):
        console.print(
            f"Stopped at step {steps} of {optim.max_steps}: no better validation since "
            f"optim.patience={optim.patience}."
        )
    elif steps < optim.max_steps:
        console.print(f"Stopped at step {steps} of {optim.max_steps}, as asked.")
    if "best" in metrics:
        best = metrics["best"]
        part = part_asked(answered(run, run.predicted_tasks())) if best["by"] == "pass_at_2" else ""
        console.print(
            f"Kept: the weights of step {best['step']}, {best['by']} {best['value']:.4f}{part}. They were "
            "chosen on these validation tasks, so the scores on them are somewhat too good."
        )
