"""Fine-tune: tasks -> partition -> stream -> model -> trainer -> adapter, then evaluate it."""

import logging
import shutil
import time
from dataclasses import asdict
from typing import Any, NoReturn

import torch
from rich.console import Console

from arc_experiments.generation.engine import plan_batches
from arc_experiments.jobs.display import (
    Bar,
    duration,
    progress,
    show_plan,
    show_sample,
)
from arc_experiments.jobs.evaluate import begin, finish, is_reported, score_in_training, validation_metrics
from arc_experiments.jobs.leak_check import leak_metrics, look_for_leaks, show_leaks
from arc_experiments.jobs.results import show_finished
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.run import PARTIAL_PREDICTIONS, Run
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.pausing import Pause, Paused
from arc_experiments.runs.run_state import Pace
from arc_experiments.scoring.per_output import solved
from arc_experiments.training.checkpoints import last_complete, step_of
from arc_experiments.training.recording import Line, Recorder, cut_log, read_log
from arc_experiments.training.sharding import gather_trained, load_whole
from arc_experiments.training.trainer import StreamTrainer

TRAINED = ".trained.json"  # what the training gave; written when the weights are saved
FINAL_LOSSES = 10  # logged steps that the final loss is the mean of
STARVING = 0.05  # share of the training time spent waiting for data that is worth a warning

log = logging.getLogger(__name__)  # its lines say when what was done; job=benchmark reads them


def main(folder: RunFolder, console: Console) -> None:
    """Train to the end, or go on from where an earlier attempt stopped; then evaluate."""
    run = Run(folder)
    run.corpus.check_trains()
    trained = _is_trained(run, TRAINED)
    if trained and is_reported(run) and _is_trained(run, "metrics.json"):
        show_finished(run, console)
        return
    begin(run)
    if run.config.optim.best_by == "pass_at_2" and not run.requests:
        raise ValueError(
            "optim.best_by=pass_at_2 needs ARC tasks to answer, and only ready rows are held out: "
            "optim.best_by=validation_loss"
        )
    by_score = run.config.optim.best_by == "pass_at_2"
    can_choose = len(solved(run.predicted_tasks())) if by_score else run.can_validate
    if run.config.optim.best_by != "none" and not can_choose:
        raise ValueError(
            f"optim.best_by={run.config.optim.best_by} needs validation tasks with solutions, and none of these has them: "
            "optim.best_by=none"
        )
    log.info("the data is there")
    tracker = Tracker(run.folder, console, is_main=run.processes.is_main_process)
    if trained:
        console.print("The training is finished; going on with the evaluation.")
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


def _show_stop(run: Run, metrics: dict[str, Any], console: Console) -> None:
    """Why the training ended before `max_steps`, and which weights are kept."""
    steps, optim = metrics["train"]["steps"], run.config.optim
    if metrics["train"].get("stopped_early", False):
        console.print(
            f"Stopped at step {steps} of {optim.max_steps}: no better validation since optim.patience={optim.patience}."
        )
    elif steps < optim.max_steps:
        console.print(f"Stopped at step {steps} of {optim.max_steps}, as asked.")
    if "best" in metrics:
        best = metrics["best"]
        console.print(
            f"Kept: the weights of step {best['step']}, {best['by']} {best['value']:.4f}. They were chosen on these "
            "validation tasks, so the scores on them are somewhat too good."
        )


def _train(run: Run, tracker: Tracker, console: Console) -> Any:
    """The trained model; its weights, log and counts are on disk when this returns."""
    pause = Pause(run.folder.path, run.config.launch.chain)
    leaks = look_for_leaks(run, trains=True)
    model, optim = run.model(), run.config.optim
    log.info("the model is there")
    show_plan(run, model, console)
    show_leaks(leaks, console)
    show_sample(run.stream()[0], run, console)
    pace = Pace(_last_step(run))
    train_log, resumed_step = _open_log(run)
    with progress(console, "training", _last_step(run)) as bar:
        trainer = run.trainer(model, is_pause_due=pause.is_due)
        recorder = Recorder(
            trainer,
            train_log,
            evaluate=lambda: run.validation_loss(model),
            evaluate_untrained=lambda: run.untrained_validation_loss(model),
            score=(lambda: score_in_training(run, model)) if optim.best_by == "pass_at_2" else None,
            eval_steps=optim.eval_steps,
            on_line=lambda line: _on_line(line, run, bar, tracker, pace),
        )
        log.info("the trainer is there")
        start = time.perf_counter()
        if resumed_step is None and not run.is_sharded:  # else when the training begins: it shards the model
            recorder.validate(0)
            log.info("the first validation is done")
        elif resumed_step is not None:
            console.print(f"Going on from step {resumed_step}.")
        validated = time.perf_counter()
        if not run.is_sharded:
            measured = validated - start if resumed_step is None else None
            _show_estimate(run, model, _last_step(run) - (resumed_step or 0), measured, console)
        with pause.listening(resumed_step or 0):
            trainer.resume_or_start()
        if trainer.has_paused:
            _leave(run, trainer.state.global_step)
        if pausing.is_signalled():  # in the last steps, which are in the last checkpoint
            raise KeyboardInterrupt
        trained, stopped_early, training_seconds = time.perf_counter(), trainer.is_given_up, trainer.seconds
        _warn_of_starvation(trainer.data_wait_seconds / (trained - validated), run, console)
        final = recorder.validate(trainer.state.global_step)
        if trainer.best is not None and trainer.best.take_back(trainer):
            final = run.validation_loss(model)
    seconds = {
        "validation": validated - start + time.perf_counter() - trained,
        "training": training_seconds,  # of all attempts
    }
    model.eval()
    weights = gather_trained(model) if run.is_sharded else None
    if run.processes.is_main_process:
        shutil.rmtree(run.folder / PARTIAL_PREDICTIONS, ignore_errors=True)  # those of an earlier stop
        run.save_weights(model, weights)
    metrics = {
        **validation_metrics(final, initial_loss=None if final is None else _initial_loss(run)),
        "train": {"stopped_early": stopped_early, **_training_metrics(run, trainer, trained - validated)},
        **leak_metrics(leaks),
        "seconds": seconds,
    }
    if trainer.best is not None and trainer.best.state.step is not None:
        metrics["best"] = {
            "by": optim.best_by, "step": trainer.best.state.step, "value": trainer.best.state.value
        }  # fmt: skip
    (run.folder / "report.html").unlink(missing_ok=True)  # that of an earlier stop
    run.folder.write_json(TRAINED, metrics)
    run.processes.wait_for_everyone()
    return model


def _leave(run: Run, step: int) -> NoReturn:
    """Stop here: the checkpoint is on disk, the rest is a later start's."""
    run.processes.wait_for_everyone()
    if run.processes.is_main_process:
        pausing.forget(run.folder.path)
    raise Paused(f"Paused at step {step} of {_last_step(run)}. The same command goes on from here")


def _last_step(run: Run) -> int:
    return run.config.optim.stop_after or run.config.optim.max_steps


def _open_log(run: Run) -> tuple[Any, int | None]:
    """The log, cut back to the checkpoint that the training goes on from, and that checkpoint's step."""
    checkpoint = last_complete(run.folder / "checkpoints")
    step = None if checkpoint is None else step_of(checkpoint)
    train_log = run.folder / "train_log.jsonl"
    if run.processes.is_main_process:
        cut_log(train_log, -1 if step is None else step)
    run.processes.wait_for_everyone()
    return train_log, step


def _on_line(line: Line, run: Run, bar: Bar, tracker: Tracker, pace: Pace) -> None:
    step = int(line["step"])
    tracker.log(step, {name: value for name, value in line.items() if name != "step"})
    told = {"loss": line["loss"]} if "loss" in line else {}
    run.folder.update_status(
        step=step, max_steps=run.config.optim.max_steps, expected_end=pace.expected_end(step), **told
    )
    if "loss" in line:
        log.info("step %d is done", step)
        speed = f"{line['samples_per_second']:.1f} samples/s, {line['tokens_per_second']:.0f} tokens/s"
        if line["data_wait_fraction"] > STARVING:
            speed += f", {line['data_wait_fraction']:.0%} waiting for data"
        bar.update(step, f"loss {line['loss']:.4f}, {speed}")


def _warn_of_starvation(share: float, run: Run, console: Console) -> None:
    if share > STARVING:
        workers = run.config.hardware.num_workers
        console.print(
            f"[yellow]note[/]         {share:.0%} of the training time went by waiting for data: "
            f"hardware.num_workers={workers + 2} prepares samples in {workers + 2} processes beside it"
        )


def _show_estimate(
    run: Run, model: Any, num_steps: int, validation_seconds: float | None, console: Console
) -> None:
    """How long it will take: a training token costs three forward ones, an answer may never end."""
    records, _ = run.validation_records
    tokens = sum(len(record.input_ids) for record in records)
    # The validation is the better measure, where it has just been run.
    read = (
        validation_seconds / tokens
        if validation_seconds is not None and tokens
        else _forward_seconds(model, 1, 512) / 512
    )
    mean_length = tokens / len(records) if records else len(run.stream()[0].encoded)
    row = run.config.optim.pack_length or mean_length  # tokens
    trained = max(0, num_steps) * run.config.optim.batch_size * row
    asked = [len(request.ids) for request in run.requests if request.ids is not None]
    batches = plan_batches(
        asked,
        extra=run.max_new_tokens,
        batch_tokens=run.config.inference.batch_tokens,
        rows_per_prompt=run.engine.rows_per_prompt,
    )
    rows = run.engine.rows_per_prompt * max(map(len, batches), default=1)
    writing = len(batches) * run.max_new_tokens * _forward_seconds(model, rows, 1)
    answering = ""
    if asked:
        answering = f", then {len(asked)} prompts, about {duration(read * sum(asked) + writing)} if no answer ends early"
    console.print(f"[bold]estimate[/]     training about {duration(3 * read * trained)}{answering}")


def _forward_seconds(model: Any, rows: int, length: int) -> float:
    """Seconds of one forward pass, the better of two."""
    ids = torch.ones((rows, length), dtype=torch.int64, device=model.device)
    times = []
    # The training's dropout must not depend on how much will be answered.
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.inference_mode():
        for _ in range(2):
            start = time.perf_counter()
            float(model(input_ids=ids, use_cache=False).logits[0, 0, 0])
            times.append(time.perf_counter() - start)
    return min(times)


def _initial_loss(run: Run) -> float:
    return read_log(run.folder / "train_log.jsonl")[0]["validation_loss"]


def _training_metrics(run: Run, trainer: StreamTrainer, seconds: float) -> dict[str, float]:
    lines = [line for line in read_log(run.folder / "train_log.jsonl") if "loss" in line]
    final = [line["loss"] for line in lines[-FINAL_LOSSES:]]
    counts = asdict(trainer.counts)
    done = trainer.session_counts
    return {
        "steps": trainer.state.global_step,
        **counts,
        "final_loss": sum(final) / len(final),
        "samples_per_second": done.samples / seconds,
        "tokens_per_second": done.tokens / seconds,
        "data_wait_fraction": trainer.data_wait_seconds / seconds,
    }
