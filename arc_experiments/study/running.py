"""Run a study: freeze its runs into one sweep, run what is not finished, and write the page and the JSON.

A stage whose runs start from those of an earlier one is frozen when these are finished. Whatever stops a
study, the same command resumes it.
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from arc_experiments.config.check import ConfigError
from arc_experiments.config.plurals import plural
from arc_experiments.launching.pool import Pool, run_sweep
from arc_experiments.launching.schedulers.known import section_of, submit
from arc_experiments.runs.folder import RunFolder
from arc_experiments.study.freezing import Compositions, check_later, compose_runs, freeze_runs
from arc_experiments.study.plan import PlannedRun, stages
from arc_experiments.study.record import ANSWER, PAGE, SECTION, StudyRecord, begin_or_extend, write_record


def run_study(name: str, asked: StudyRecord, home: Path, console: Console) -> int:
    """Run a study in its folder; returns the exit code: 1 if a run is not finished, 130 if stopped.

    Raises:
        ConfigError: mistakes in its compositions; nothing is written then.
        FolderError: the folder holds another study or another composition.
        ClusterError: the cluster refuses the runs.
    """
    finished = sum(RunFolder(path.parent).is_done for path in home.glob("*/run.yaml"))
    record = begin_or_extend(asked, home, finished)
    first, *later = stages(record.study, record.overrides)
    compositions = compose_runs(first, record.study.metric, home)
    check_later(later)
    if any(config.halving.rungs for _, config in compositions.values()):
        raise ConfigError(["halving.rungs: a study trains all of its runs to the end: halving.rungs=[]"])
    write_record(home, record)
    console.print(f"[bold]{name}[/]", end=": ")
    console.print(record.study.question, markup=False)
    code = _run_stages(compositions, later, record.study.metric, home, console)
    write_answer(name, record, home, console)
    return code


def write_answer(name: str, record: StudyRecord, home: Path, console: Console) -> None:
    """Write page, JSON and section of what is finished, and show the answer."""
    # Here, since pandas takes long to import, and a mistake is to be answered at once.
    from arc_experiments.report.figures import write_charts
    from arc_experiments.report.templates import write_page
    from arc_experiments.study.answer import answer_study
    from arc_experiments.study.page import as_json, render
    from arc_experiments.study.section import FIGURES, charts, section

    found = answer_study(record, home)
    if found is None:
        console.print("No answer yet: too few runs are finished.")
        return
    for sentence in found.sentences:
        console.print(f"- {sentence}", markup=False)
    write_charts(charts(found), home / FIGURES)
    write_page(home / SECTION, section(name, found))
    console.print(f"answer: {write_page(home / ANSWER, as_json(name, found))}", markup=False)
    console.print(f"page: {write_page(home / PAGE, render(name, found))}", markup=False)


def _run_stages(
    compositions: Compositions,
    later: Sequence[Sequence[PlannedRun]],
    metric: str,
    home: Path,
    console: Console,
) -> int:
    """Run the first stage and then the later ones, until one is not finished."""
    folders = freeze_runs(compositions, home)
    while True:
        _, config = list(compositions.values())[-1]
        code = _run(folders, home, config, console)
        if code or not later or not all(folder.is_done for folder in folders):
            break
        compositions, later = compose_runs(later[0], metric, home), later[1:]
        folders += freeze_runs(compositions, home)
    if later:
        left = plural(sum(map(len, later)), "run")
        console.print(f"{left} start from these: the same command composes them when these are finished.")
    return code


def _run(folders: Sequence[RunFolder], home: Path, config: DictConfig, console: Console) -> int:
    if section_of(config.launch) is not None:
        return submit(folders, home, config.launch, console)
    return run_sweep(folders, home, Pool.of(config.launch, console), console)
