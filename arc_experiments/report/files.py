"""What a run folder holds, read for the page. All but run.yaml may be missing in a run that is under way.

In: the folder. Out: a `RunFiles`, with empty values for files that are not there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from arc_experiments.composing.recorded_code import find_code
from arc_experiments.config.schema import SELECTIONS
from arc_experiments.config.user_code.functions import is_own
from arc_experiments.report.pictures_seen import FILE as PICTURES
from arc_experiments.report.pictures_seen import SeenPrompt
from arc_experiments.report.programs import FILE, ShownProgram
from arc_experiments.runs.folder import read_object
from arc_experiments.runs.labels import Labels, labels_in
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import in_todays_terms
from arc_experiments.scoring.selection import Rule, rule_named, votes_then_log_probability


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFiles:
    """The contents of a run folder.

    Attributes:
        settings: `run.yaml` as nested dictionaries; `settings_text` is the file itself.
        validation_ids: every validation task in order, also those that were not predicted.
        log: one record per logged step, either of training or of validation.
        programs: those behind attempts.
        pictures: those of some prompts.
    """

    name: str
    settings: dict[str, Any]
    settings_text: str
    environment: dict[str, Any]
    metrics: dict[str, Any]
    leaks: dict[str, Any]
    validation_ids: tuple[str, ...]
    log: tuple[dict[str, Any], ...]
    candidates: tuple[Candidate, ...]
    programs: tuple[ShownProgram, ...] = ()
    pictures: tuple[SeenPrompt, ...] = ()

    @property
    def labels(self) -> Labels:
        """What a person has called it."""
        return labels_in(self.settings)

    @property
    def rule(self) -> Rule:
        """The rule that orders the candidates (`inference.selection`)."""
        named = str((self.settings.get("inference") or {}).get("selection"))
        return rule_named(named) if is_own(named) or named in SELECTIONS else votes_then_log_probability


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        ValueError: not a run folder, or a file that cannot be read; the message names it.
    """
    if not (folder / "run.yaml").is_file():
        raise ValueError(f"{folder} is not a run folder: it has no run.yaml; name a folder that a run wrote")
    text = (folder / "run.yaml").read_text(encoding="utf-8")
    settings = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(settings, dict)
    find_code(folder, lambda key: key == "inference.selection")
    return RunFiles(
        name=folder.resolve().name,
        settings={str(key): value for key, value in settings.items()},
        settings_text=text,
        environment=read_object(folder / "environment.json"),
        metrics=in_todays_terms(read_object(folder / "metrics.json")),
        leaks=read_object(folder / "leaks.json"),
        validation_ids=tuple(read_object(folder / "partition.json").get("validation", ())),
        log=tuple(read_lines(folder / "train_log.jsonl", json.loads)),
        candidates=tuple(read_lines(folder / "predictions.jsonl", Candidate.from_json)),
        programs=tuple(read_lines(folder / FILE, lambda line: ShownProgram.from_record(json.loads(line)))),
        pictures=tuple(read_lines(folder / PICTURES, lambda line: SeenPrompt.from_record(json.loads(line)))),
    )


def read_lines(path: Path, parse: Callable[[str], Any]) -> list[Any]:
    """Read the records of a file of lines, without a last one that is still being written."""
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return records
