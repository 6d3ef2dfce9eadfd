"""Adapt: each validation task's demonstrations -> an adapted model -> its answers; scored beside those before.

Any number of processes share out the tasks: those that `hardware.num_processes` asks for, and the same command started
again while it runs, here or on another machine that sees the folder. The one that holds the run folder collects.
"""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console

from arc_experiments.adaptation.deadline import done_within
from arc_experiments.adaptation.plan import FOLDER, Work
from arc_experiments.adaptation.results import Adapted, merged, totals
from arc_experiments.adaptation.standing import FILE, Standing
from arc_experiments.config.schema import Hardware
from arc_experiments.generation.resuming import Spent
from arc_experiments.jobs.answering import cost, is_reported, report, selection_rule, write_candidates
from arc_experiments.jobs.beginning import begin, check_weights, find_leaks, leak_metrics
from arc_experiments.jobs.results import show_finished
from arc_experiments.jobs.terminal import progress, show_leaks, show_plan, show_shrunk
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.launching.commands import helper_environments, start_helpers
from arc_experiments.run import Run
from arc_experiments.runs import machine as places
from arc_experiments.runs.run_state import duration
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.paired_difference import difference
from arc_experiments.scoring.per_output import solved
from arc_experiments.scoring.selection import Candidate

BEFORE, UNITS = "predictions_before.jsonl", "adaptation.jsonl"

log = logging.getLogger(__name__)


def main(run: Run, console: Console) -> None:
    """Adapt, answer and compare; or, where another process holds the folder, help it.

    Raises:
        ValueError: started by torchrun or accelerate, or there is nothing to adapt to.
    """
    if "RANK" in os.environ:
        raise ValueError("job=adapt starts its processes itself: start it by the plain command")
    folder = run.folder
    if not len(run.predicted_tasks()):
        raise ValueError("job=adapt: this data has no validation task with demonstrations to adapt to")
    check_weights(run)
    if is_reported(run):
        if not folder.read_only:
            shutil.rmtree(folder / FOLDER, ignore_errors=True)  # where a kill came between the page and this
            show_finished(run, console)
        return
    is_helper = places.HELPS in os.environ
    count = 1 if is_helper else places.count_processes(run.config.hardware)
    if run.config.hardware.per_device_batch_size == "auto":
        _check_own_gpu(run.config.hardware, count)
    environments = helper_environments(count)
    if count > 1:
        os.environ.update(places.part(0, count))
    if count > 1 or is_helper:
        os.environ["CUDA_VISIBLE_DEVICES"] = places.own_gpus()
    if not (folder.read_only or (folder / FILE).exists()):  # `begin` may have to load the model
        Standing(folder, run.predicted_tasks(), selection_rule(run), lambda: ()).write()
    # What hardware.per_device_batch_size=auto finds is found before helpers share the memory, and is theirs, too.
    begin(run)
    helpers = start_helpers(folder, environments)
    try:
        if folder.read_only:
            _help(run, console)
        else:
            _lead(run, console, lambda: _end(helpers))
    finally:
        _end(helpers)


def _check_own_gpu(hardware: Hardware, count: int) -> None:
    """Raises ValueError where processes would share a GPU of which each takes as much as it can."""
    num_gpus = 0 if hardware.device == "cpu" else len(hardware.gpu_ids or ()) or torch.cuda.device_count()
    if 0 < num_gpus < count:
        raise ValueError(
            f"hardware.per_device_batch_size=auto takes all of a GPU, and hardware.num_processes={count} share "
            f"{num_gpus}: name a number of rows, or take one process for each GPU (hardware.num_processes=null)"
        )


def _help(run: Run, console: Console) -> None:
    """Do what is left to do, and leave the rest to the process that holds the folder."""
    work = Work(run, lambda: is_reported(run))

    def is_left() -> bool:
        with run.folder.locked() as is_free:
            return is_free or is_reported(run)

    if work.follow(is_left):
        _do(work, run, console)


def _lead(run: Run, console: Console, stop_helpers: Callable[[], None]) -> None:
    leaks = find_leaks(run, trains=False)
    tracker = Tracker(run.folder, run.config, console)
    work = Work(run, lambda: False)
    standing = Standing(run.folder, run.predicted_tasks(), selection_rule(run), work.candidates)
    standing.write()
    work.start()

    def do() -> None:
        if work.num_waiting:
            show_plan(run, work.tuner.model, console)
            _show_plan(work, run, console)
            show_leaks(leaks, console)
            show_shrunk(run, console)
        _do(work, run, console, standing.write)

    if not done_within(work.seconds_left, do):
        console.print("[yellow]note[/]         the deadline has come: what is finished counts")
        stop_helpers()  # else they would write beside what is now read and tidied up
    before, seconds, units = work.results()
    metrics = {**leak_metrics(leaks), **_metrics(run, before, seconds, units)}
    write_candidates(run, BEFORE, before)
    run.folder.write(UNITS, "".join(f"{unit.summary()}\n" for unit in units))
    report(run, merged(before, units), metrics, tracker, console)
    shutil.rmtree(work.folder.path, ignore_errors=True)  # a helper may still be writing its last piece


def _do(work: Work, run: Run, console: Console, note: Callable[[], None] = lambda: None) -> None:
    """Do all that is left.

    Args:
        note: called whenever more may be finished.
    """
    with progress(console, "answering", work.num_tasks) as bar:

        def answered(done: int) -> None:
            bar.update(done)
            note()

        work.answer(answered)
    start, earlier = time.perf_counter(), None
    with progress(console, "adapting", work.num_groups) as bar:

        def show(done: int, last: Adapted | None) -> None:
            nonlocal earlier
            if earlier is None:  # by an attempt that was killed, or by others
                earlier = done
            note()
            run.folder.update_status(step=done, max_steps=work.num_groups)
            seconds = time.perf_counter() - start
            bar.update(done, _how_far(done, done - earlier, work.num_groups, seconds, last))

        work.adapt(show)


def _how_far(done: int, fresh: int, total: int, seconds: float, last: Adapted | None) -> str:
    """The losses of what was adapted last, and how long the rest may take."""
    words = []
    if last is not None and last.training is not None and last.training.loss is not None:
        words.append("loss {:.3f} -> {:.3f}".format(*last.training.loss))
    if fresh:
        words.append(f"{duration((total - done) * seconds / fresh)} left")
    return ", ".join(words)


def _metrics(run: Run, before: list[Candidate], seconds: float, units: Sequence[Adapted]) -> dict[str, Any]:
    """What job=adapt has beside the score."""
    tasks, rule = run.predicted_tasks(), selection_rule(run)
    after = merged(before, units)
    phases = {name: sum(unit.seconds[name] for unit in units) for name in ("training", "inference")}
    peak = max(unit.peak_memory_bytes for unit in units)
    compared: dict[str, Any] = {}
    if len(solved(tasks)):
        compared["before"] = {"score": score(tasks, before, rule, run.corpus.source_of)}
        compared["difference"] = difference(tasks, before, after, rule)
    return {
        **compared,
        "adaptation": totals(units),
        "seconds": {"before": seconds, **phases},  # of all processes together
        "cost": _cost(
            run, before, units, Spent(seconds=seconds + sum(phases.values()), peak_memory_bytes=peak)
        ),
        "peak_memory_bytes": peak,
    }


def _cost(run: Run, before: list[Candidate], units: Sequence[Adapted], spent: Spent) -> dict[str, Any]:
    """What was asked before and after adaptation, and what was trained on."""
    after = [candidate for unit in units for candidate in unit.candidates or ()]
    adapted_to = {candidate.task_id for candidate in after}
    return cost(
        run,
        spent,
        [*run.requests, *(request for request in run.requests if request.task_id in adapted_to)],
        before,
        after,
        num_processes=len({unit.worker for unit in units}),
        training_tokens=sum(unit.training.tokens for unit in units if unit.training is not None),
    )


def _show_plan(work: Work, run: Run, console: Console) -> None:
    adapt, optim = run.config.adapt, run.config.optim
    at_once = "" if adapt.together == 1 else f", {adapt.together} at once"
    who = {"per_task": f"each task by itself{at_once}", "joint": "all tasks together"}
    left_out = " and ".join(map(str, adapt.leave_out))
    limits = [f"at most {optim.max_steps} steps" if adapt.seconds_per_task else f"{optim.max_steps} steps"]
    if adapt.seconds_per_task:
        limits.append(f"{adapt.seconds_per_task:g} s a task")
    if adapt.seconds:
        limits.append(f"{adapt.seconds:g} s in all")
    if adapt.deadline_hours:
        limits.append(f"{work.seconds_left / 3600:.2g} hours left of {adapt.deadline_hours:g}")
    console.print(
        f"[bold]adaptation[/]   {who.get(adapt.mode, f'{work.num_units} groups of tasks')}, demonstrations "
        f"left out in turn: {left_out}; {', '.join(limits)}"
    )


HELPER_SECONDS = 60  # that a helper told to stop has


def _end(helpers: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Stop the helpers, which have nothing left to do."""
    died = [helper.pid for helper in helpers if helper.poll() not in (None, 0)]
    if died:
        log.warning("helpers ended before the work was done: processes %s", died)
    for helper in helpers:
        helper.terminate()
    for helper in helpers:
        try:
            helper.wait(HELPER_SECONDS)
        except subprocess.TimeoutExpired:
            helper.kill()
