"""Where the user's code and option files are: written down when a run is frozen, found again later.

In environment.json:

    {"code": {"optim.schedule": {"my_code": "f3a1..."}}, "code_files": {"my_code": "/home/me/my_code.py"},
     "conf": ["/home/me/conf"]}
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from arc_experiments.config.user_code.files import code_files, code_hashes, file_of
from arc_experiments.config.user_code.folders import add_conf, add_to_python_path, own_conf
from arc_experiments.runs.folder import FolderError, read_object


def recorded_code(config: DictConfig) -> dict[str, Any]:
    """What environment.json keeps of the user's code and folders; {} if there are none."""
    files = code_files(config)
    paths = {name: str(file) for modules in files.values() for name, file in modules.items()}
    found = {"code": code_hashes(files), "code_files": paths, "conf": [str(conf) for conf in own_conf()]}
    return {name: value for name, value in found.items() if value}


def find_code(folder: Path, is_needed: Callable[[str], bool] = lambda key: True) -> None:
    """Let Python find the code that the run in a folder names, where it was when the run was frozen.

    Args:
        is_needed: whether the code that a key names is.

    Raises:
        FolderError: a file is not there; the message names it.
    """
    recorded = read_object(folder / "environment.json")
    for conf in map(Path, recorded.get("conf", ())):
        with contextlib.suppress(ValueError):  # gone, or hidden by a newer package: the run is composed
            add_conf(conf)
    paths = {name: Path(file) for name, file in recorded.get("code_files", {}).items()}
    for name, file in paths.items():
        if file.is_file():
            add_to_python_path(_root(name, file))
    missing = [
        f"{key}: {paths[name]}"
        for key, modules in recorded.get("code", {}).items()
        for name in modules
        if is_needed(key) and name in paths and not paths[name].is_file() and file_of(name) is None
    ]
    if missing:
        raise FolderError(
            f"{folder} needs code of yours that is not there:\n  "
            + "\n  ".join(missing)
            + "\nPut it back, or name the folder that it is in now: PYTHONPATH=<folder>"
        )


def _root(name: str, file: Path) -> Path:
    """The folder on the Python path in which a module is."""
    return file.parents[name.count(".") + (file.stem == "__init__")]
