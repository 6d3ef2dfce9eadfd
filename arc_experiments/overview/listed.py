"""Read every run under some folders for a list: what it is called, what was chosen, how it is and went.

In: folders or globs. Out: a `ListedRun` each, the newest first. Nothing in a folder can stop the list: what
cannot be read is left out and said in `problems`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from arc_experiments.composing.naming import flatten
from arc_experiments.launching.tables import number_at
from arc_experiments.report.wording import TOKENS, duration, percent, percent_range
from arc_experiments.runs.folder import FolderError, RunFolder, find_runs, read_object
from arc_experiments.runs.labels import Labels, labels_in, read_values
from arc_experiments.runs.run_state import RunState
from arc_experiments.scoring.metrics import in_todays_terms, tasks_asked

Tree = dict[str, Any]
NOT_CHOICES = ("name", "note", "resume")  # keys that say nothing about the experiment
RESULTS = ("metrics.json", "train_log.jsonl", "report.html")  # files that only a started run has


@dataclass(frozen=True, kw_only=True, eq=False)
class ListedRun:
    """A run folder as a list shows it.

    Attributes:
        date: when it was first started, or composed if it has not been.
        options: what was typed for it: its differences from the defaults.
        settings: every value of run.yaml by dotted key.
        metrics: metrics.json in today's terms; {} as long as there is none.
        problems: what cannot be read, a sentence each.
    """

    folder: RunFolder
    labels: Labels
    date: datetime
    options: tuple[str, ...]
    settings: Tree
    state: RunState
    metrics: Tree
    problems: tuple[str, ...]

    @property
    def title(self) -> str:
        """Its name, or else that of its folder."""
        return self.labels.name or self.folder.path.absolute().name

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The scores and losses that two runs are compared by, as far as they are known."""
        keys = {
            "pass@1": "score.pass_at_1",
            "pass@2": "score.pass_at_2",
            "validation loss": "validation.loss.token_mean",
        }
        found = {name: number_at(self.metrics, key) for name, key in keys.items()}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def loss(self) -> float | None:
        """The validation loss; until it is known, that of the last step logged."""
        return self.numbers.get("validation loss", self.state.loss)

    @property
    def seconds(self) -> float | None:
        return number_at(self.metrics, "seconds.total")

    @property
    def seconds_per_task(self) -> float | None:
        """For which a device was at work on the answers to a task."""
        return number_at(self.metrics, "cost.device_seconds_per_task")

    @property
    def score(self) -> str:
        """pass@2 in words; "" if there is none."""
        return percent(self.numbers["pass@2"]) if "pass@2" in self.numbers else ""

    @property
    def interval(self) -> str:
        """The 95 % interval of pass@2 in words; "" if there is none."""
        bounds = (_at(self.metrics, "score", "interval", "pass_at_2") or ()) if self.score else ()
        is_range = isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds))
        return percent_range(bounds) if is_range else ""

    @property
    def asked(self) -> str:
        """`16 of 100 tasks asked` if not all were; "" otherwise."""
        try:
            return tasks_asked(self.metrics)
        except (AttributeError, TypeError):
            return ""

    @property
    def cost(self) -> dict[str, str]:
        """What it took, in words: the whole time, and what its answers cost."""
        found = {}
        if self.seconds is not None:
            found["time"] = duration(self.seconds)
        if self.seconds_per_task is not None:
            device = _at(self.metrics, "cost", "device")
            found["time at work a task"] = f"{duration(self.seconds_per_task)} on {device}"
        for kind, words in TOKENS.items():
            if count := number_at(self.metrics, f"cost.{kind}_tokens"):
                found[f"tokens {words}"] = f"{count:,}"
        return found

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that its scores are over."""
        by_task = _at(self.metrics, "score", "by_task")
        return tuple(sorted(by_task)) if isinstance(by_task, dict) else ()


def list_runs(patterns: Iterable[str]) -> list[ListedRun]:
    """Read the runs that paths or globs name (runs, sweeps, folders of these), the newest first."""
    return sorted(map(read_listed, find_runs(patterns)), key=lambda run: run.date, reverse=True)


def read_listed(folder: RunFolder) -> ListedRun:
    """Read a run folder, whatever is wrong with it."""
    problems: list[str] = []
    values = _read(lambda: read_values(folder.path), problems)
    metrics = _read(lambda: _metrics(folder), problems)
    environment = _read(lambda: read_object(folder / "environment.json"), problems)
    state = folder.state
    if not (folder / "status.json").exists():
        has = [name for name in RESULTS if (folder / name).exists()]
        if has:
            problems.append(f"{folder}/status.json is missing, though there is {has[0]}")
    return ListedRun(
        folder=folder,
        labels=labels_in(values),
        date=(state.started or _written(folder / "run.yaml")).astimezone(),
        options=_options(environment.get("command")),
        settings={key: value for key, value in flatten(values).items() if key not in NOT_CHOICES},
        state=state,
        metrics=metrics,
        problems=tuple(problems),
    )


def _read(read: Callable[[], Tree], problems: list[str]) -> Tree:
    try:
        return read()
    except (FolderError, OSError) as error:
        problems.append(str(error))
    return {}


def _metrics(folder: RunFolder) -> Tree:
    metrics = read_object(folder / "metrics.json")
    try:
        return in_todays_terms(metrics)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FolderError(
            f"{folder}/metrics.json is not that of a run ({type(error).__name__}: {error}): "
            "run the job again to have it written"
        ) from error


def _options(command: object) -> tuple[str, ...]:
    """The overrides in `["python", "-m", "arc_experiments", "seed=2"]`, without those that choose nothing."""
    words = [word for word in command if isinstance(word, str)] if isinstance(command, list) else []
    pairs = [word for word in words if "=" in word and not word.startswith("-")]
    return tuple(word for word in pairs if word.partition("=")[0] not in NOT_CHOICES and "hydra." not in word)


def _written(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # removed meanwhile
        return datetime.fromtimestamp(0, UTC)


def _at(values: object, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
