"""The folder of a study: its definition as it was when its runs began, and what was added since.

    multirun/study-moments/study.yaml           {study: {...}, overrides: [], added: []}
    multirun/study-moments/fresh-partition_7-seed_1/run.yaml ...
    multirun/study-moments/study.html  study.json  sweep.csv

A study whose question, arms or rule change after its runs began is another study, so that is refused. More
seeds and partitions are welcome: what is finished stays, and the answer says that they came later.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from arc_experiments.composing.naming import NOT_PART_OF_THE_RUN, flatten, key_of
from arc_experiments.config.check import ConfigError
from arc_experiments.runs.folder import FolderError, write_whole
from arc_experiments.study.definition import Study, typed_study

FILE = "study.yaml"
PAGE, ANSWER, SECTION = "study.html", "study.json", "study.md"
PREFIX = "study-"  # of folders in multirun
GROWING = ("seeds", "partitions")  # what may be added to


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Seeds and partitions added when some runs were finished."""

    seeds: tuple[int, ...]
    partitions: tuple[int, ...]
    finished: int


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as its folder has it: with all seeds that it has by now.

    Attributes:
        overrides: typed for all runs.
        added: later additions, in order.
    """

    study: Study
    overrides: tuple[str, ...] = ()
    added: tuple[Addition, ...] = ()

    @property
    def chosen(self) -> list[str]:
        """The overrides that change what is computed, not only where and how."""
        return [override for override in self.overrides if not _is_circumstance(key_of(override))]


def folder_of(name: str, typed: Sequence[str]) -> Path:
    """The folder of a study; overrides that make its runs other runs make it another folder."""
    chosen = sorted(override for override in typed if not _is_circumstance(key_of(override)))
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:8]
    return Path("multirun") / (f"{PREFIX}{name}-{digest}" if chosen else f"{PREFIX}{name}")


def read_record(home: Path) -> StudyRecord | None:
    """Read the study of a folder; None if there is none.

    Raises:
        ConfigError: study.yaml is not that of a study of this version.
    """
    file = home / FILE
    if not file.exists():
        return None
    values: Any = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(values, dict) or not {"study", "overrides", "added"} <= set(values):
        raise ConfigError([f"{file} is not that of a study: name another folder (--folder)"])
    return StudyRecord(
        study=typed_study(values["study"], file),
        overrides=tuple(values["overrides"]),
        added=tuple(
            Addition(
                seeds=tuple(each["seeds"]), partitions=tuple(each["partitions"]), finished=each["finished"]
            )
            for each in values["added"]
        ),
    )


def write_record(home: Path, record: StudyRecord) -> None:
    """Write study.yaml."""
    home.mkdir(parents=True, exist_ok=True)
    values = {
        "study": asdict(record.study),
        "overrides": list(record.overrides),
        "added": [
            {"seeds": list(each.seeds), "partitions": list(each.partitions), "finished": each.finished}
            for each in record.added
        ],
    }
    write_whole(home / FILE, OmegaConf.to_yaml(OmegaConf.create(values)))


def begin_or_extend(asked: StudyRecord, home: Path, num_finished: int) -> StudyRecord:
    """What a folder's study becomes when `asked` is asked of it: itself, with the seeds that are new.

    Args:
        num_finished: runs of the folder that are finished.

    Raises:
        FolderError: the folder holds another study.
    """
    before = read_record(home)
    if before is None or not any(home.glob("*/run.yaml")):  # nothing has begun
        return asked
    changed = _differences(before, asked)
    if changed:
        raise FolderError(
            f"{home} holds the runs of this study as it was before. It differs in:\n  "
            + "\n  ".join(changed)
            + "\nWhat is asked and how it is decided is fixed when the runs begin. Put it back, or make it "
            "another study: copy the file under another name, or name another folder (--folder)"
        )
    study = before.study
    seeds, partitions = _new(study.seeds, asked.study.seeds), _new(study.partitions, asked.study.partitions)
    if not seeds and not partitions:
        return replace(before, overrides=asked.overrides)
    grown = replace(study, seeds=[*study.seeds, *seeds], partitions=[*study.partitions, *partitions])
    addition = Addition(seeds=tuple(seeds), partitions=tuple(partitions), finished=num_finished)
    return StudyRecord(study=grown, overrides=asked.overrides, added=(*before.added, addition))


def _differences(before: StudyRecord, asked: StudyRecord) -> list[str]:
    old, new = (_compared(record) for record in (before, asked))
    return [
        f"{key}: {old.get(key, '(absent)')} -> {new.get(key, '(absent)')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _compared(record: StudyRecord) -> dict[str, Any]:
    values = {key: value for key, value in asdict(record.study).items() if key not in GROWING}
    order = list(record.study.arms)  # which a dict does not compare by
    return flatten({**values, "order of arms": order, "overrides": record.chosen})


def _new(old: Sequence[int], asked: Sequence[int]) -> list[int]:
    return [number for number in asked if number not in old]


def _is_circumstance(key: str) -> bool:
    """Whether a key says where and how runs are computed, not what they are."""
    return any(key == each or key.startswith(f"{each}.") for each in NOT_PART_OF_THE_RUN)
