"""The user's own folder: option files in its conf/, and Python modules beside that.

    my_folder/conf/model/mine.yaml      model=mine
    my_folder/my_code.py                _target_: my_code.Mine

`--config-dir my_folder/conf` names it on the command line; a frozen run finds it again from any directory.
"""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from arc_experiments.config.schema import conf_dir

_own: list[Path] = []  # named so far in this process


def own_conf() -> list[Path]:
    """The user's folders of option files."""
    return list(_own)


def take_config_dir(arguments: Sequence[str]) -> None:
    """Add the folder that a command line names by Hydra's `--config-dir`, if it does."""
    # argparse would take Hydra's -c, of which we must not know, for an abbreviation of -cd.
    for word, following in pairwise([*arguments, ""]):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            add_conf(Path(value or following))


def add_conf(conf: Path) -> None:
    """Add a folder of option files, and the folder around it to the Python path.

    Raises:
        ValueError: there is no such folder, or a file has the name of one of ours, which would hide it.
    """
    conf = conf.expanduser().resolve()
    if not conf.is_dir():
        raise ValueError(f"--config-dir: there is no folder {conf}")
    hidden = [
        str(file) for file in sorted(conf.rglob("*.yaml")) if (conf_dir() / file.relative_to(conf)).exists()
    ]
    if hidden and conf != conf_dir():
        raise ValueError(
            "--config-dir: an option of this name is in the package, and hides yours: rename "
            + ", ".join(hidden)
        )
    if conf not in _own:
        _own.append(conf)
    add_to_python_path(conf.parent)


def add_to_python_path(folder: Path) -> None:
    """Let this process, and those that it starts, import modules in a folder, after all other folders."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))


def options_of(group: str) -> list[str]:
    """The names of a group's YAML files."""
    return sorted(file.stem for conf in (conf_dir(), *_own) for file in (conf / group).glob("*.yaml"))


def option_file(group: str, option: str) -> Path | None:
    """The YAML file of an option."""
    files = (conf / group / f"{option}.yaml" for conf in (conf_dir(), *_own))
    return next((file for file in files if file.is_file()), None)
