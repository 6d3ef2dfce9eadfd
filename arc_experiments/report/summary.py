"""What was run and what came of it, in words: the rows and tiles that the page shows above the tasks.

In: the run's files. Out: tuples of text; whatever the run has not written yet is left out.
"""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arc_experiments.config.paths import absolute_path
from arc_experiments.report.files import RunFiles
from arc_experiments.report.wording import (
    RIGHT,
    TOKENS,
    duration,
    memory,
    number,
    percent,
    percent_range,
    pictures_sentence,
    plural,
    points,
    points_range,
)
from arc_experiments.scoring.metrics import tasks_asked

SETTINGS = (
    "job.name", "data.name", "data.path", "data.partition", "data.fold", "data.fraction", "data.limit",
    "augmentation", "model.name", "model.path", "model.adapter", "model.dtype", "model.lora.rank",
    "model.lora.alpha", "prompt.name", "prompt.max_length", "optim.epochs", "optim.max_steps",
    "optim.batch_size", "optim.learning_rate", "optim.schedule", "optim.pack_length", "adapt.method",
    "adapt.mode", "adapt.groups", "adapt.leave_out", "adapt.together", "adapt.seconds_per_task",
    "adapt.seconds", "adapt.deadline_hours", "adapt.rounds", "adapt.programs", "adapt.relabelled",
    "adapt.joined", "inference.num_views", "inference.num_samples", "inference.temperature",
    "inference.engine", "inference.constrain", "inference.scoring_views", "inference.limit",
    "inference.max_new_tokens", "inference.selection", "from_run", "submission", "seed",
)  # fmt: skip
OF_ANSWERING = ("model.", "prompt.", "inference.", "seed")  # not of a file of answers
OF_TRAINING = ("optim.", "augmentation")  # not of a run that did not train
OF_TUNING = ("adapt.leave_out", "adapt.together")  # not of search and learn
OF_SEARCH = ("adapt.rounds", "adapt.programs", "adapt.relabelled", "adapt.joined")  # only of search and learn


def settings(run: RunFiles) -> dict[str, str]:
    """The choices that say most about a run, by dotted key."""
    has_trained = bool(run.metrics.get("train") or run.log)
    left_out = without_use(lambda key: look_up(run.settings, key), has_trained=has_trained)
    values = {key: look_up(run.settings, key) for key in SETTINGS if not key.startswith(left_out)}
    return {
        key: (", ".join(map(str, value)) or "none") if isinstance(value, dict | list) else str(value)
        for key, value in values.items()
        if value is not None
    }


def without_use(setting: Callable[[str], Any], *, has_trained: bool) -> tuple[str, ...]:
    """How the dotted keys begin that a run does not read.

    Args:
        setting: the run's value of a key.
        has_trained: whether its files tell of a training; its job may say so, too.
    """
    job = setting("job.name")
    left_out = () if has_trained or job in ("finetune", "adapt") else OF_TRAINING
    if job != "adapt":
        left_out = (*left_out, "adapt.")
    else:
        is_search = setting("adapt.method") == "search_and_learn"
        left_out = (*left_out, *(OF_TUNING if is_search else OF_SEARCH))
    if setting("submission") is not None:
        left_out = (*left_out, *OF_ANSWERING)
    if setting("optim.epochs") is not None:  # which replaced the steps
        left_out = (*left_out, "optim.max_steps")
    return left_out


def subtitle(settings: dict[str, str]) -> str:
    """Such as "finetune · arc1 · tiny · 60 steps · seed 1"."""
    parts = [settings.get(key) for key in ("job.name", "data.name", "model.name")]
    for key, noun in (("optim.epochs", "epoch"), ("optim.max_steps", "step")):
        if key in settings:
            parts.append(f"{settings[key]} {noun}{'' if settings[key] == '1' else 's'}")
    parts.append(f"seed {settings['seed']}" if "seed" in settings else None)
    return " · ".join(part for part in parts if part)


def tiles(metrics: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """The headline numbers: name, value, and notes below it."""
    score, train, asked = metrics.get("score", {}), metrics.get("train", {}), tasks_asked(metrics)
    before, gains = metrics.get("before", {}).get("score", {}), metrics.get("difference", {})
    for name, title in RIGHT.items():
        if name in score:
            bounds = score.get("interval", {}).get(name)
            notes = [f"Kaggle's and ARC Prize's rule, mean over {plural(score['num_tasks'], 'task')}"]
            notes += [asked] if asked else []
            value = percent(score[name])
            if name in before and name in gains:
                value = f"{percent(before[name])} → {value}"
                notes.insert(0, f"before → after adaptation: {points(gains[name]['difference'])} points")
                bounds = gains[name]["interval"]
                notes += [f"95% interval of the difference {points_range(bounds)}"] if bounds else []
            else:
                notes += [f"95% interval {percent_range(bounds)}"] if bounds else []
            yield f"{title.capitalize()} ({name})", value, notes
    yield from _validation_tile(metrics.get("validation", {}))
    if train.get("final_loss") is not None:
        yield "Training loss at the end", number(train["final_loss"], 3), _final_loss_notes(train)
    longest = sorted(phases(metrics), key=lambda phase: -phase[1])[:2]
    notes = [f"{name.replace('_', ' ')} {duration(seconds)}" for name, seconds in longest]
    if metrics.get("peak_memory_bytes"):
        notes.append(f"memory at its peak {memory(metrics['peak_memory_bytes'])}")
    if notes:
        total = metrics.get("seconds", {}).get("total", sum(seconds for _, seconds in phases(metrics)))
        yield "Time and memory", duration(total), notes


def _final_loss_notes(train: dict[str, Any]) -> list[str]:
    """Such as "mean of the last 10 logged steps, of 60"; older metrics do not say of how many."""
    averaged, steps = train.get("final_loss_steps", 1), train.get("steps")
    if averaged > 1:
        return [f"mean of the last {averaged} logged steps" + (f", of {steps}" if steps else "")]
    return [f"after {plural(steps, 'step')}"] if steps else []


def _validation_tile(validation: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    losses = {
        "before": token_mean(validation.get("initial_loss")),
        "after": token_mean(validation.get("loss")),
    }
    known = [name for name, value in losses.items() if value is not None]
    if not known:
        return
    notes = [] if known == ["after"] else [f"{' → '.join(known)} training"]
    loss = validation.get("loss")
    if isinstance(loss, dict) and {"num_tokens", "num_tasks"} <= loss.keys():
        notes.append(f"{plural(loss['num_tokens'], 'token')} of {plural(loss['num_tasks'], 'task')}")
    if others := validation.get("loss_with_others_pictures"):
        notes.append(pictures_sentence(others))
    yield (
        "Validation loss per token",
        " → ".join(number(v, 3) for v in losses.values() if v is not None),
        notes,
    )


def training_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Counts and speed of the training, losses by task."""
    for key, value in metrics.get("train", {}).items():
        if isinstance(value, int | float):
            share = key.endswith("_fraction")
            text = percent(value) if share else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
            yield key.replace("_", " "), text
    for title, key in (("before", "initial_loss"), ("after", "loss")):
        loss = metrics.get("validation", {}).get(key)
        if isinstance(loss, dict) and "task_mean" in loss:
            yield f"validation loss per task, {title} training", number(loss["task_mean"], 4)


def cost_rows(cost: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Seconds, tokens and memory behind the scores."""
    if not cost:
        return
    processes = "" if cost["num_processes"] < 2 else f", {cost['num_processes']} processes"
    yield "device", f"{cost['device']}{processes}"
    yield "time at work a task", duration(cost["device_seconds_per_task"])
    yield "in all (every attempt and process)", duration(cost["device_seconds"])
    for kind, words in TOKENS.items():
        if cost.get(f"{kind}_tokens"):
            yield f"tokens {words}", f"{cost[f'{kind}_tokens']:,}"
    yield "memory at its peak", memory(cost["peak_memory_bytes"])


def phases(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    """Name and seconds of each phase."""
    return [(name, value) for name, value in metrics.get("seconds", {}).items() if name != "total"]


def token_mean(loss: Any) -> float | None:
    """The mean over tokens of a loss that was written as a number or as its parts."""
    value = loss.get("token_mean") if isinstance(loss, dict) else loss
    return None if value is None else float(value)


def command(environment: dict[str, Any]) -> str | None:
    """The command line that started the run, to be typed again; it names `from_run` by its absolute path."""
    words, directory = environment.get("command"), environment.get("directory")
    if not isinstance(words, list):
        return words
    if directory is not None:
        words = [_with_absolute_run(word, Path(directory)) for word in words]
    return shlex.join(words)


def _with_absolute_run(word: str, directory: Path) -> str:
    key, sign, run = word.partition("=")
    return f"{key}={absolute_path(run, directory)}" if sign and key.lstrip("+") == "from_run" else word


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values of nested dictionaries."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def look_up(tree: Any, dotted: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
