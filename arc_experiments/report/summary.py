"""The summary: what was run and what came of it, in tiles and short tables.

In: a `RunFiles`. Out: a `Summary`; whatever the run has not written yet is left out.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arc_experiments.report.breakdown import cost_rows
from arc_experiments.report.files import RunFiles
from arc_experiments.report.format import (
    BY_KAGGLE,
    BY_OUTPUT,
    BY_RULE,
    NO_VALUE,
    duration,
    memory,
    number,
    percent,
    percent_range,
    plural,
)

Row = tuple[str, str]

SETTINGS = (
    "job.name", "data.name", "data.path", "data.partition", "data.fold", "data.fraction", "data.limit", "augmentation", "model.name",
    "model.path", "model.adapter", "model.dtype", "model.lora.rank", "model.lora.alpha", "prompt.name",
    "prompt.max_length", "optim.epochs", "optim.max_steps", "optim.batch_size", "optim.learning_rate", "optim.schedule",
    "inference.num_views", "inference.engine", "inference.constrain", "inference.scoring_views", "inference.limit", "inference.max_new_tokens", "inference.selection", "from_run", "submission",
    "seed",
)  # fmt: skip
OF_ANSWERING = ("model.", "prompt.", "inference.", "seed")  # nor about a file of answers
OF_TRAINING = ("optim.", "augmentation")  # say nothing about a run that did not train


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One number of the headline, with its name above and what it stands on below."""

    name: str
    value: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One metric: name, meaning, value, 95% interval (or a dash), and the count behind it."""

    name: str
    meaning: str
    value: str
    interval: str
    count: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that stands above the curves."""

    subtitle: str
    tiles: tuple[Tile, ...]
    settings: tuple[Row, ...]
    scores: tuple[ScoreRow, ...]
    by_selection: tuple[tuple[str, str, str, str], ...]
    invalid: tuple[tuple[str, int], ...]
    training: tuple[Row, ...]
    seconds: tuple[Row, ...]
    cost: tuple[Row, ...]
    command: str | None
    environment: tuple[Row, ...]


def summarise(run: RunFiles) -> Summary:
    """The summary of a run folder."""
    score = run.metrics.get("score", {})
    settings = _settings(run)
    return Summary(
        subtitle=_subtitle(dict(settings)),
        tiles=tuple(_tiles(run.metrics)),
        settings=settings,
        scores=tuple(_score_rows(score)) if score else (),
        by_selection=tuple(_selection_rows(score, dict(settings).get("inference.selection"))),
        invalid=tuple(score.get("invalid", {}).items()),
        training=tuple(_training_rows(run.metrics)),
        seconds=tuple((name, duration(value)) for name, value in _phases(run.metrics)),
        cost=tuple(cost_rows(run.metrics.get("cost", {}))),
        command=_command(run.environment),
        environment=tuple(_flat({k: v for k, v in run.environment.items() if k != "command"})),
    )


def initial_loss(metrics: dict[str, Any]) -> float | None:
    """The validation loss (token mean) before training."""
    return _token_mean(metrics.get("validation", {}).get("initial_loss"))


def _settings(run: RunFiles) -> tuple[Row, ...]:
    trained = bool(run.metrics.get("train") or run.log or _look_up(run.settings, "job.name") == "finetune")
    rows = []
    scores_file = run.settings.get("submission") is not None
    for key in SETTINGS:
        if scores_file and key.startswith(OF_ANSWERING):
            continue
        value = _look_up(run.settings, key)
        if key == "optim.max_steps" and _look_up(run.settings, "optim.epochs") is not None:
            continue  # they have taken its place
        if isinstance(value, dict):
            value = ", ".join(value) or "none"
        if value is not None and (trained or not key.startswith(OF_TRAINING)):
            rows.append((key, str(value)))
    return tuple(rows)


def _subtitle(settings: dict[str, str]) -> str:
    parts = [settings.get(key) for key in ("job.name", "data.name", "model.name")]
    for key, unit in (("optim.epochs", "epochs"), ("optim.max_steps", "steps")):
        parts += [f"{settings[key]} {unit}" if key in settings else None]
    parts += [f"seed {settings['seed']}" if "seed" in settings else None]
    return " · ".join(part for part in parts if part)


def _tiles(metrics: dict[str, Any]) -> Iterator[Tile]:
    score, train = metrics.get("score", {}), metrics.get("train", {})
    notes: tuple[str, ...]
    for name, title in (("pass_at_2", "Right in two attempts"), ("pass_at_1", "Right in one attempt")):
        if name in score:
            row = _headline_row(score, name)
            notes = (f"Kaggle's and ARC Prize's rule, {row.count}",)
            if row.interval != NO_VALUE:
                notes = (*notes, f"95% interval {row.interval}")
            yield Tile(name=f"{title} ({name})", value=row.value, notes=notes)
    yield from _validation_tile(metrics.get("validation", {}))
    if train.get("final_loss") is not None:
        notes = (f"after {plural(train['steps'], 'step')}",) if "steps" in train else ()
        yield Tile(name="Last training loss", value=number(train["final_loss"], 3), notes=notes)
    phases = sorted(_phases(metrics), key=lambda phase: -phase[1])[:2]
    notes = tuple(f"{name.replace('_', ' ')} {duration(value)}" for name, value in phases)
    if metrics.get("peak_memory_bytes"):
        notes = (*notes, f"memory at its peak {memory(metrics['peak_memory_bytes'])}")
    if notes:
        yield Tile(name="Time and memory", value=duration(_total_seconds(metrics)), notes=notes)


def _validation_tile(validation: dict[str, Any]) -> Iterator[Tile]:
    loss = validation.get("loss")
    before, after = _token_mean(validation.get("initial_loss")), _token_mean(loss)
    when = {
        (True, True): "before → after training",
        (True, False): "before training",
        (False, True): "mean over tokens",
    }.get((before is not None, after is not None))
    if when is None:
        return
    notes: tuple[str, ...] = (when,)
    if isinstance(loss, dict) and {"num_tokens", "num_tasks"} <= loss.keys():
        notes = (when, f"{plural(loss['num_tokens'], 'token')} of {plural(loss['num_tasks'], 'task')}")
    values = " → ".join(number(value, 3) for value in (before, after) if value is not None)
    yield Tile(name="Validation loss", value=values, notes=notes)


def _score_rows(score: dict[str, Any]) -> Iterator[ScoreRow]:
    tasks, outputs = plural(score["num_tasks"], "task"), plural(score["num_test_outputs"], "test output")
    yield from (_headline_row(score, name) for name in BY_KAGGLE if name in score)
    rule = score.get("by_rule", {})
    counts = {
        "task_fraction": f"mean over {tasks}",
        "test_output": f"{round(rule.get('test_output', 0) * score['num_test_outputs']):,} of {outputs}",
        "task_strict": f"{round(rule.get('task_strict', 0) * score['num_tasks']):,} of {tasks}",
    }
    for names, values, count in ((BY_RULE, rule, counts), (BY_OUTPUT, score, {})):
        for name, meaning in names.items():
            if values.get(name) is not None:
                yield ScoreRow(
                    name=name,
                    meaning=meaning,
                    value=percent(values[name]),
                    interval=NO_VALUE,
                    count=count.get(name, f"mean over {outputs}"),
                )


def _selection_rows(score: dict[str, Any], named: str | None) -> Iterator[tuple[str, str, str, str]]:
    """Rule, a word on the one that gave the attempts, and its pass@1 and pass@2."""
    for name, values in score.get("by_selection", {}).items():
        note = "gave the attempts" if name == named else ""
        yield name, note, percent(values["pass_at_1"]), percent(values["pass_at_2"])


def _headline_row(score: dict[str, Any], name: str) -> ScoreRow:
    low_high = score.get("interval", {}).get(name)
    return ScoreRow(
        name=name,
        meaning=BY_KAGGLE[name],
        value=percent(score[name]),
        interval=NO_VALUE if low_high is None else percent_range(*low_high),
        count=f"mean over {plural(score['num_tasks'], 'task')}",
    )


def _training_rows(metrics: dict[str, Any]) -> Iterator[Row]:
    train, validation = metrics.get("train", {}), metrics.get("validation", {})
    for key, value in train.items():
        if isinstance(value, int | float):
            share = key.endswith("_fraction")
            text = percent(value) if share else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
            yield key.replace("_", " "), text
    for title, key in (("before", "initial_loss"), ("after", "loss")):
        loss = validation.get(key)
        if isinstance(loss, dict) and "task_mean" in loss:
            yield f"validation loss {title}, task mean", number(loss["task_mean"], 4)


def _phases(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in metrics.get("seconds", {}).items() if name != "total"]


def _total_seconds(metrics: dict[str, Any]) -> float:
    total = metrics.get("seconds", {}).get("total")
    return float(total) if total is not None else sum(value for _, value in _phases(metrics))


def _token_mean(loss: Any) -> float | None:
    """Of a loss written as a number or as its parts."""
    value = loss.get("token_mean") if isinstance(loss, dict) else loss
    return None if value is None else float(value)


def _command(environment: dict[str, Any]) -> str | None:
    command = environment.get("command")
    return shlex.join(command) if isinstance(command, list) else command


def _look_up(tree: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _flat(tree: Any, prefix: str = "") -> Iterator[Row]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
