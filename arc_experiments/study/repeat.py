"""Evaluate a finished run again and again: is its score repeatable, and what changes it?

In: a run folder, and changes such as `hardware.threads=1`. Out: a folder with the same evaluation several
times and once with each change alone; what differs from the first, answer by answer, as a table and in
repeat.json. Everything runs here, one after another, so that each evaluation has all cores.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from arc_experiments.composing.compose import compose_config, quoted
from arc_experiments.composing.freezing import freeze
from arc_experiments.composing.mistakes import explain
from arc_experiments.composing.naming import job_name
from arc_experiments.config.check import ConfigError, check
from arc_experiments.config.job_kinds import job_kind
from arc_experiments.launching.pool import Pool, run_sweep
from arc_experiments.launching.tables import plain_table
from arc_experiments.runs.folder import FolderError, RunFolder

RESULT = "repeat.json"
METRIC = "score.pass_at_2"


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """What an evaluation has in common with the first.

    Attributes:
        is_identical: every number but times, and every answer with its log-probability.
        answers: how many there are; `changed` of them have another text.
        attempts: test outputs; `changed_attempts` of them have another pair of attempts.
        log_probability: the largest difference of an answer whose text is the same; None without such.
        gain: in pass@2; None without scores.
    """

    name: str
    is_identical: bool
    answers: int
    changed: int
    attempts: int
    changed_attempts: int
    log_probability: float | None
    score: float | None
    gain: float | None
    won: list[str]
    lost: list[str]


def repeat(source: Path, changes: Sequence[str], times: int, home: Path | None, console: Console) -> int:
    """Evaluate a run `times` times, and once with each change; returns the exit code.

    Args:
        changes: none: `usual_changes`.

    Raises:
        FolderError: no finished run is there, or the folder for the evaluations holds others.
        ConfigError: a change is none of this composition.
        ValueError: `times` is below 2.
    """
    if times < 2:
        raise ValueError(f"--times {times}: at least 2 are needed to say that they are the same")
    folder = RunFolder(source)
    if not folder.is_done:
        folder.read_config()
        raise FolderError(f"{folder} is {folder.state.text}: finish that run first")
    home = home or Path("multirun") / f"repeat-{source.resolve().name}"
    same, command = _evaluation(folder)
    variants: dict[str, tuple[DictConfig, list[str]]] = {
        f"same_{number}": (same, command) for number in range(1, times + 1)
    }
    for change in [[change] for change in changes] or usual_changes(same):
        variants[job_name(change[:1])] = _changed(same, change), [*command, *change]
    folders = [freeze(config, home / name, typed) for name, (config, typed) in variants.items()]
    code = run_sweep(folders, home, Pool(max_parallel=1, console=console), console)
    if not all(each.is_done for each in folders):
        return code
    found = list(_repetitions(folders))
    RunFolder(home).write(
        RESULT, json.dumps({"run": str(folder), "evaluations": list(map(asdict, found))}, indent=2)
    )
    _show(found, console)
    console.print(f"numbers: {RunFolder(home)}/{RESULT}", markup=False)
    return 0


def usual_changes(config: DictConfig) -> list[list[str]]:
    """What may change a score: threads, batch, kernels, dtype; and for comparison, the seed of the views."""
    changes = [
        [f"hardware.threads={2 if config.hardware.threads == 1 else 1}"],
        [f"inference.batch_tokens={max(1, config.inference.batch_tokens // 4)}"],
        [f"model.attention={'sdpa' if config.model.attention == 'eager' else 'eager'}"],
        # The dtype is that of the training otherwise, which a run would insist on.
        [
            f"model.dtype={'float32' if config.model.dtype == 'bfloat16' else 'bfloat16'}",
            "inference.force=true",
        ],
        [f"seeds.inference={config.seeds.inference + 1}"],
    ]
    return changes[:-1] if config.submission is not None else changes


def _evaluation(folder: RunFolder) -> tuple[DictConfig, list[str]]:
    """The evaluation of what a run has trained, or the run if it trained nothing; and how it is typed."""
    config = folder.read_config()
    if not job_kind(config.job.name).trains:
        if config.submission is not None or config.job.name not in ("evaluate", "adapt"):
            raise FolderError(
                f"{folder} has no model that answers: name a run that has trained or evaluated one"
            )
        command = folder.read_json("environment.json")["command"]
        return config, [word for word in command if "=" in word and not word.startswith("-")]
    overrides = ["job=evaluate", f"from_run={quoted(str(folder.path.absolute()))}"]
    evaluation = compose_config(overrides)
    for section in ("hardware", "programs", "tracking"):
        evaluation[section] = config[section]
    return evaluation, overrides


def _changed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    found = copy.deepcopy(config)
    OmegaConf.set_struct(found, True)
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise ConfigError([f"{override}: a change is a key and a value, such as hardware.threads=1"])
        try:
            OmegaConf.update(found, key, OmegaConf.create(f"value: {value}").value, merge=False)
        except OmegaConfBaseException as error:
            raise ConfigError([explain(error)]) from error
    check(found)
    return found


def _repetitions(folders: Sequence[RunFolder]) -> Iterator[Repetition]:
    """Compare each evaluation with the first."""
    from arc_experiments.comparison.runs import read_result  # imports pandas

    results = [read_result(folder.path) for folder in folders]
    answers = [_answers(folder.path) for folder in folders]
    attempts = [folder.read_json("submission.json") for folder in folders]
    first = results[0]
    marks = first.by_task(METRIC) or {}
    for folder, result, said, tried in zip(folders, results, answers, attempts, strict=True):
        both = answers[0].keys() & said.keys()
        changed = [key for key in both if said[key][0] != answers[0][key][0]]
        apart = [abs(said[key][1] - answers[0][key][1]) for key in both if said[key][0] == answers[0][key][0]]
        score, gains = result.numbers.get(METRIC), result.by_task(METRIC) or {}
        yield Repetition(
            name=folder.path.name,
            is_identical=result.repeatable == first.repeatable and said == answers[0],
            answers=len(said),
            changed=len(changed) + len(said.keys() - both),
            attempts=sum(map(len, tried.values())),
            changed_attempts=_apart(attempts[0], tried),
            log_probability=max(apart, default=None),
            score=score,
            gain=None if score is None else score - first.numbers[METRIC],
            won=sorted(task for task, share in gains.items() if share > marks.get(task, share)),
            lost=sorted(task for task, share in gains.items() if share < marks.get(task, share)),
        )


def _answers(folder: Path) -> dict[tuple[Any, ...], tuple[str, float]]:
    """Text and log-probability of each answer by its place."""
    from arc_experiments.report.files import read_run

    return {
        (one.task_id, one.test_index, one.transforms, one.sample): (one.text, one.log_probability)
        for one in read_run(folder).candidates
    }


def _apart(one: Mapping[str, list[Any]], two: Mapping[str, list[Any]]) -> int:
    """How many test outputs have other attempts."""
    return sum(
        before != after
        for task, outputs in two.items()
        for before, after in zip(one.get(task, []), outputs, strict=False)
    )


def _show(found: Sequence[Repetition], console: Console) -> None:
    table = plain_table(
        "evaluation", "", "other answers", "other attempts", "log-probability", "pass@2", "won, lost"
    )
    for each in found:
        table.add_row(
            each.name,
            "identical" if each.is_identical else "differs",
            f"{each.changed} of {each.answers}",
            f"{each.changed_attempts} of {each.attempts}",
            "" if each.log_probability is None else f"{each.log_probability:.2g}",
            "" if each.score is None else f"{100 * each.score:.1f}%",
            f"{len(each.won)}, {len(each.lost)}",
        )
    console.print(table)
