"""Read run folders for a comparison: what was chosen, what was drawn, and the scores.

In: folders, or patterns such as `multirun/*`. Out: a `RunResult` each, with the scores by task of any metric.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.composing.naming import composition, flatten
from arc_experiments.config.paths import PREFIX
from arc_experiments.report.files import read_lines
from arc_experiments.runs.folder import RunFolder, find_runs, read_object
from arc_experiments.scoring.metrics import METRICS_VERSION, in_todays_terms

Tree = dict[str, Any]
FOLD = "data.fold"
WEIGHTS = ("from_run", "model.adapter", "model.path")  # keys that may name the run that trained the weights
TRAINED = ("adapter", "model")  # where a run folder keeps them
MOMENTS = "optim.load_state"  # the run that the optimizer's moments come from
# How often a run looks and saves, which changes no weights unless validations decide which weights are kept.
BOOKKEEPING = ("optim.log_steps", "optim.eval_steps", "optim.save_steps")
# What two runs of the same config and seeds need not have in common.
MEASURED = (
    "seconds.", "cost.", "peak_memory_bytes", "train.samples_per_second", "train.tokens_per_second",
    "train.data_wait_fraction",
)  # fmt: skip
RULES = {
    "score.pass_at_2": "task_fraction",
    **{f"score.by_rule.{name}": name for name in ("test_output", "task_fraction", "task_strict")},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """A run folder.

    Attributes:
        settings: choices by dotted key; those of the run that trained its weights begin with `from_run.`.
        draws: the seeds and the fold, in which runs of the same config differ.
        weights_from: the folder of the run that trained its weights, if it is another one.
    """

    folder: RunFolder
    settings: Tree
    draws: tuple[tuple[str, Any], ...]
    weights_from: str | None
    state: str
    error: str
    metrics: Tree
    leaks: Tree
    commit: str | None

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def metrics_version(self) -> int:
        """What its scores mean, once converted; a run without scores has nothing that could differ."""
        return int(self.numbers.get("score.version", METRICS_VERSION))

    @property
    def partition_draws(self) -> tuple[tuple[str, Any], ...]:
        """The draws that decide which tasks are held out."""
        return tuple(draw for draw in self.draws if draw[0].endswith((FOLD, "seeds.partition")))

    @cached_property
    def log(self) -> list[Tree]:
        return read_lines(self.folder / "train_log.jsonl", json.loads)

    @cached_property
    def repeatable(self) -> Tree:
        """What metrics.json holds by dotted key, without times, speeds and memory."""
        return {key: value for key, value in flatten(self.metrics).items() if not key.startswith(MEASURED)}

    @cached_property
    def partition(self) -> Tree:
        return read_object(self.folder / "partition.json")

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The finite numbers of metrics.json by dotted key."""
        return {
            key: float(value)
            for key, value in flatten(self.metrics).items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }

    def number(self, metric: str) -> float:
        """One of the numbers.

        Raises:
            ValueError: the run does not have it.
        """
        if metric not in self.numbers:
            raise ValueError(f"{metric} is not in {self.folder}/metrics.json: name another metric")
        return self.numbers[metric]

    def by_task(self, metric: str) -> dict[str, float] | None:
        """The shares by task whose mean, weighted by `weights`, is this metric; None for other metrics."""
        if metric in RULES:
            shares: dict[str, float] | None = self.metrics.get("score", {}).get("by_task")
            if shares is not None and metric.endswith("task_strict"):
                return {task: float(share == 1) for task, share in shares.items()}
            return shares
        if metric == "validation.loss.task_mean":
            losses = self.metrics.get("validation", {}).get("loss", {})
            return losses.get("by_task") if isinstance(losses, dict) else None
        return None

    def weights(self, metric: str) -> dict[str, float] | None:
        """How much each task counts in this metric; None if the folder does not say."""
        shares = self.by_task(metric)
        if shares is None:
            return None
        if RULES.get(metric) != "test_output":
            return dict.fromkeys(shares, 1.0)
        score = self.metrics["score"]
        if score.get("num_test_outputs") == len(shares):
            return dict.fromkeys(shares, 1.0)
        return self._outputs_by_task(shares, score)

    def task_ids(self, metric: str) -> tuple[str, ...]:
        """The tasks that the metric is over, as far as the folder says."""
        shares = self.by_task(metric)
        if shares is None and metric.startswith("score."):
            shares = self.metrics.get("score", {}).get("by_task")
        return tuple(self.partition.get("validation", ()) if shares is None else shares)

    def _outputs_by_task(self, shares: dict[str, float], score: Tree) -> dict[str, float] | None:
        """Count test outputs of each task in the predictions; None if they do not reproduce the score."""
        last: Counter[str] = Counter(dict.fromkeys(shares, 1))
        for line in read_lines(self.folder / "predictions.jsonl", json.loads):
            last[line["task"]] = max(last[line["task"]], line["test_index"] + 1)
        right = sum(share * last[task] for task, share in shares.items())
        total = sum(last[task] for task in shares)
        if total != score["num_test_outputs"] or abs(right / total - score["by_rule"]["test_output"]) > 1e-9:
            return None
        return {task: float(last[task]) for task in shares}


def find_folders(patterns: Iterable[str]) -> list[Path]:
    """Find the run folders that patterns name, and those inside folders that they name; each once.

    Raises:
        ValueError: a pattern finds none.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not find_runs([pattern]):
            raise ValueError(
                f"{pattern}: no run folder (one with a run.yaml) there; name run folders, a sweep's folder, "
                "or a pattern such as 'multirun/*'"
            )
    return [run.path for run in find_runs(patterns)]


def read_result(path: Path) -> RunResult:
    """Read a run folder.

    Raises:
        ValueError: a file that cannot be read, or a run.yaml of another kind; the message names it.
    """
    folder = RunFolder(path)
    settings, weights_from = _settings(path)
    is_draw = {key: _is_draw(key) for key in settings}
    state = folder.state
    metrics = in_todays_terms(read_object(path / "metrics.json"))
    return RunResult(
        folder=folder,
        settings={key: value for key, value in settings.items() if not is_draw[key]},
        draws=tuple((key, value) for key, value in settings.items() if is_draw[key]),
        weights_from=weights_from,
        state="without metrics.json" if state.name == "done" and not metrics else state.name,
        error=state.error.partition("\n")[0],
        metrics=metrics,
        leaks=read_object(path / "leaks.json"),
        commit=read_object(path / "environment.json").get("commit"),
    )


def _settings(path: Path) -> tuple[Tree, str | None]:
    """The composition by dotted key, and the folder of the run that trained its weights."""
    try:
        config = OmegaConf.load(path / "run.yaml")
        assert isinstance(config, DictConfig)
        # Where a run stops is not part of its composition, but changes its weights.
        settings = flatten(composition(config) | {"stop_after": OmegaConf.select(config, "optim.stop_after")})
    except (OSError, KeyError, AssertionError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}/run.yaml is not that of a run: {error}") from error
    settings["optim.stop_after"] = settings.pop("stop_after")
    for key in BOOKKEEPING if settings.get("optim.best_by") in (None, "none") else ():
        settings.pop(key, None)
    source = _source(settings)
    if source is None or source.resolve() == path.resolve():  # a relative path, read in another folder
        return settings, None
    # The settings of that run say more than its path, which would make its seeds other configs.
    places = {source, *(source / name for name in TRAINED)}
    for key in WEIGHTS:
        if settings.get(key) and Path(settings[key]).absolute() in places:
            del settings[key]
    if settings.get(MOMENTS) and Path(settings[MOMENTS]).absolute() == source:
        settings[MOMENTS] = "from_run"
    settings |= {f"from_run.{key}": value for key, value in _settings(source)[0].items()}
    return settings, str(source.resolve())


def _source(settings: Tree) -> Path | None:
    """The folder of the run that trained the weights, if it still exists."""
    for key in WEIGHTS:
        named = settings.get(key)
        if not named or named.startswith(PREFIX):
            continue
        path = Path(named)
        for folder in (path, path.parent) if path.name in TRAINED else (path,):
            if (folder / "run.yaml").is_file():
                return folder.absolute()
    return None


def _is_draw(key: str) -> bool:
    plain = key.removeprefix("from_run.")
    return plain == "seed" or plain == FOLD or plain.startswith("seeds.")
