"""What a person has called a run, and the plain values of its run.yaml, read fast enough for long lists."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from arc_experiments.runs.folder import FolderError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast where it is there


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The keys `name` and `note` of a run; "" if it has none."""

    name: str = ""
    note: str = ""


def labels_in(values: dict[str, Any]) -> Labels:
    """The labels in the values of a run.yaml."""
    return Labels(name=str(values.get("name") or ""), note=str(values.get("note") or ""))


def read_labels(folder: Path) -> Labels:
    """Read the labels of a run; none if its run.yaml cannot be read."""
    try:
        return labels_in(read_values(folder))
    except (FolderError, OSError):
        return Labels()


def read_values(folder: Path) -> dict[str, Any]:
    """Read run.yaml as it is, without the schema, so that those of other versions are read as well.

    Raises:
        FolderError: it holds no mapping.
    """
    path = folder / "run.yaml"
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise FolderError(f"{path} is not whole YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise FolderError(f"{path} holds no settings: run the command again to have it written")
    return values
