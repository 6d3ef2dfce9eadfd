"""Adapt: each validation task's demonstrations -> an adapted model -> answers, scored beside those before.

Any number of processes share the tasks: `hardware.num_processes`, and the same command started again while it
runs, here or on another machine that sees the folder. The one that holds the folder reports.
"""

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from arc_experiments.adaptation.plan import FOLDER, AdaptationPlan, Method
from arc_experiments.adaptation.results import Adapted, Results, Round, totals
from arc_experiments.adaptation.second_pass import FIRST_SAMPLE
from arc_experiments.adaptation.stages import stages
from arc_experiments.adaptation.time_limits import done_within
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.config.schema import Hardware
from arc_experiments.generation.resuming import Spent
from arc_experiments.jobs.adapt_plan import show_adaptation
from arc_experiments.jobs.answering import cost, is_reported, report, write_candidates
from arc_experiments.jobs.beginning import begin, check_weights, find_leaks, leak_metrics
from arc_experiments.jobs.resources import check_resources
from arc_experiments.jobs.results import show_finished
from arc_experiments.jobs.terminal import progress, show_leaks, show_plan, show_shrunk
from arc_experiments.jobs.tracking import Tracker
from arc_experiments.launching.commands import helper_environments
from arc_experiments.launching.helpers import Helpers
from arc_experiments.launching.tables import show_line
from arc_experiments.report.wording import round_sentence
from arc_experiments.run import Run
from arc_experiments.runs import cores_and_gpus
from arc_experiments.runs.run_state import duration
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.paired_difference import difference
from arc_experiments.scoring.per_output import solved
from arc_experiments.scoring.submission import FILE, GrowingSubmission
from arc_experiments.search_and_learn.searcher import Searcher

BEFORE, UNITS, AGAIN = "predictions_before.jsonl", "adaptation.jsonl", "second_pass.jsonl"
MOST_TOLD = 16  # tasks, each by itself, whose rounds are shown; of more, run.log has them

log = logging.getLogger(__name__)


def main(run: Run, console: Console) -> None:
    """Adapt, answer and compare; or, if another process holds the folder, help it.

    Raises:
        ValueError: started by torchrun or accelerate, or there is nothing to adapt to.
    """
    if "RANK" in os.environ:
        raise ValueError("job=adapt starts its processes itself: start it by the plain command")
    if not len(run.predicted_tasks()):
        raise ValueError("job=adapt: this data has no validation task with demonstrations to adapt to")
    check_weights(run)
    if is_reported(run):
        if not run.folder.read_only:
            shutil.rmtree(run.folder / FOLDER, ignore_errors=True)  # a kill may have come after the page
            show_finished(run, console)
        return
    environments = _take_share(run.config.hardware)
    if not (run.folder.read_only or (run.folder / FILE).exists()):  # `begin` may have to load the model
        GrowingSubmission(run.folder, run.predicted_tasks(), run.rule, lambda: ()).write()
    # What hardware.per_device_batch_size=auto needs is not shared with helpers yet, who take its result.
    begin(run)
    if not run.folder.read_only:
        check_resources(run, console)
    helpers = Helpers(run.folder, environments)
    try:
        if run.folder.read_only:
            _help(run, console)
        else:
            _lead(run, console, helpers.stop)
    finally:
        helpers.stop()


def make_method(
    run: Run,
    folder: Path,
    is_over: Callable[[], bool],
    note: Callable[[], None],
    answers_before: Callable[[str], Sequence[Candidate]],
    *,
    console: Console,
) -> Method:
    """Make what `adapt.method` names (see `MakeMethod`); each round of a search is told."""

    def tell(name: str, number: int, found: Round) -> None:
        sentence = f"{name}, {round_sentence(number, found.counts())}"
        log.info(sentence)
        if run.config.adapt.mode != "per_task" or len(run.predicted_tasks()) <= MOST_TOLD:
            show_line(console, "search", sentence)

    if run.config.adapt.method == "search_and_learn":
        return Searcher(run, folder, is_over, note, answers_before, tell)
    return Tuner(run, folder, is_over, note)


def _take_share(hardware: Hardware) -> list[dict[str, str]]:
    """Keep this process's share of cores and GPUs; return the environments of helpers for the others."""
    is_helper = cores_and_gpus.HELPS in os.environ
    count = 1 if is_helper else cores_and_gpus.count_processes(hardware)
    if hardware.per_device_batch_size == "auto":
        _check_own_gpu(hardware, count)
    environments = helper_environments(count)
    if count > 1:
        os.environ.update(cores_and_gpus.part(0, count))
    if count > 1 or is_helper:
        os.environ["CUDA_VISIBLE_DEVICES"] = cores_and_gpus.own_gpus()
    return environments


def _check_own_gpu(hardware: Hardware, count: int) -> None:
    """Raises ValueError if processes would share a GPU of which each takes as much as it can."""
    num_gpus = 0 if hardware.device == "cpu" else len(hardware.gpu_ids or ()) or torch.cuda.device_count()
    if 0 < num_gpus < count:
        raise ValueError(
            f"hardware.per_device_batch_size=auto fills a GPU, and hardware.num_processes={count} share "
            f"{num_gpus}: name a number, or take one process per GPU (hardware.num_processes=null)"
        )


def _help(run: Run, console: Console) -> None:
    """Adapt to what is left; the process that holds the folder does the rest."""
    work = AdaptationPlan(run, partial(make_method, console=console), lambda: is_reported(run))

    def is_left() -> bool:
        with run.folder.locked() as is_free:
            return is_free or is_reported(run)

    if work.follow(is_left):
        _do(work, run, console)


def _lead(run: Run, console: Console, stop_helpers: Callable[[], None]) -> None:
    """Adapt to what is left, with helpers or alone; then score, report and tidy up."""
    leaks = find_leaks(run, trains=False)
    tracker = Tracker(run.folder, run.config, console)
    work = AdaptationPlan(run, partial(make_method, console=console), lambda: False)
    growing = GrowingSubmission(
        run.folder,
        run.predicted_tasks(),
        run.rule,
        lambda: [*work.results().candidates, *run.fallback],
    )
    growing.write()
    work.start()

    def do() -> None:
        if work.num_waiting:
            show_plan(run, work.method.model, console)
            show_adaptation(work, run, console)
            show_leaks(leaks, console)
            show_shrunk(run, console)
        _do(work, run, console, growing.write)

    if not done_within(work.seconds_left, do):
        console.print("[yellow]note[/]         the deadline has come: what is finished counts")
        stop_helpers()  # which would write what is now being read and removed
    results = work.results()
    metrics = {**leak_metrics(leaks), **_metrics(run, results)}
    write_candidates(run, BEFORE, results.before)
    for name, units in ((UNITS, results.adapted), (AGAIN, results.again)):
        if units:
            run.folder.write(name, "".join(f"{unit.summary()}\n" for unit in units))
    report(run, results.candidates, metrics, tracker, console)
    shutil.rmtree(work.folder.path, ignore_errors=True)  # a helper may still be writing its last piece


def _do(work: AdaptationPlan, run: Run, console: Console, note: Callable[[], None] = lambda: None) -> None:
    """Answer and adapt until nothing is left.

    Args:
        note: called whenever more may be finished.
    """
    with progress(console, "answering", work.num_tasks) as bar:

        def answered(done: int) -> None:
            bar.update(done)
            note()

        work.answer(answered)
    start, earlier = time.perf_counter(), None
    with progress(console, "adapting", work.num_bundles) as bar:

        def show(done: int, last: Adapted | None) -> None:
            nonlocal earlier
            if earlier is None:  # by an attempt that was killed, or by others
                earlier = done
            note()
            run.folder.update_status(step=done, max_steps=work.num_bundles)
            seconds = time.perf_counter() - start
            bar.update(done, _how_far(done, done - earlier, work.num_bundles, seconds, last))

        work.adapt(show)


def _how_far(done: int, fresh: int, total: int, seconds: float, last: Adapted | None) -> str:
    """The losses of the last training, and how long the rest may take."""
    words = []
    if last is not None and last.training is not None and last.training.loss is not None:
        words.append("loss {:.3f} -> {:.3f}".format(*last.training.loss))
    if fresh and done < total:
        words.append(f"{duration((total - done) * seconds / fresh)} left")
    return ", ".join(words)


def _metrics(run: Run, results: Results) -> dict[str, Any]:
    """What job=adapt adds to metrics.json."""
    tasks, rule, units = run.predicted_tasks(), run.rule, [*results.adapted, *results.again]
    first, last = ([*answers, *run.fallback] for answers in (results.before, results.candidates))
    phases = {name: sum(unit.seconds[name] for unit in units) for name in ("training", "inference")}
    peak = max(unit.peak_memory_bytes for unit in units)
    compared: dict[str, Any] = {}
    if len(solved(tasks)):
        compared["before"] = {"score": score(tasks, first, rule, run.corpus.source_of)}
        compared["difference"] = difference(tasks, first, last, rule)
    spent = Spent(seconds=results.seconds + sum(phases.values()), peak_memory_bytes=peak)
    return {
        **compared,
        "adaptation": totals(results.adapted),
        **({"second_pass": totals(results.again)} if results.again else {}),
        "stages": list(stages(tasks, results, run.fallback, rule)),
        "seconds": {"before": results.seconds, **phases},  # of all processes together
        "cost": _cost(run, results.before, units, spent),
        "peak_memory_bytes": peak,
    }


def _cost(run: Run, before: list[Candidate], units: Sequence[Adapted], spent: Spent) -> dict[str, Any]:
    """What was asked before and after adaptation, and what was trained on.

    The first round of a search is what was answered before; each later one asks once more.
    """

    def round_of(candidate: Candidate) -> int:
        if run.config.adapt.method == "search_and_learn":
            return candidate.sample // run.engine.num_samples
        return 2 if candidate.sample >= FIRST_SAMPLE else 1

    answers = (candidate for unit in units for candidate in unit.candidates or ())
    after = [candidate for candidate in answers if round_of(candidate) > 0]
    asked = Counter(task_id for task_id, _ in {(one.task_id, round_of(one)) for one in after})
    again = [request for request in run.requests for _ in range(asked[request.task_id])]
    return cost(
        run,
        spent,
        [*run.requests, *again],
        before,
        after,
        num_processes=len({unit.worker for unit in units}),
        training_tokens=sum(unit.training.tokens for unit in units if unit.training is not None),
    )
