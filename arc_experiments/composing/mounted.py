"""What a Kaggle notebook has mounted: `from_run=mounted` and `data.path=mounted` find it by what it is.

Kaggle mounts competitions, data sets and models below /kaggle/input, at `<slug>`, at `competitions/<slug>` or
deeper, so folders are sought by their content in the whole tree.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from omegaconf import DictConfig

from arc_experiments.config.check import ConfigError

MOUNTED = "mounted"
ROOT = "KAGGLE_INPUT"  # the environment variable that names another folder than this:
INPUT = Path("/kaggle/input")
DEEPEST = 7  # models/<owner>/<name>/<framework>/<variation>/<version>/<folder>


def find_mounted(config: DictConfig) -> bool:
    """Put the paths of what is mounted into a composition that asks for it, in place; return whether it does.

    Raises:
        ConfigError: there is none, or several.
    """
    asked = {"from_run": config.from_run == MOUNTED, "data.path": config.data.path == MOUNTED}
    if asked["from_run"]:
        config.from_run = str(_only("from_run", "trained run (run.yaml beside adapter/ or model/)", _is_run))
    if asked["data.path"]:
        config.data.path = str(_only("data.path", "competition's data (*_test_challenges.json)", _is_data))
    return bool(asked["from_run"])


def find_base(config: DictConfig) -> None:
    """Take the mounted copy of the model that an adapter was trained on, if there is one of its name."""
    name = str(config.model.path).rpartition("/")[2]
    found = [
        folder for folder in _folders(_root()) if folder.name == name and (folder / "config.json").exists()
    ]
    if found and not Path(str(config.model.path)).exists():
        config.model.path = str(found[0])


def _only(key: str, what: str, is_it: Callable[[Path], bool]) -> Path:
    """Return the folder that is what is sought; what is mounted in both places counts once."""
    found = {_mount(folder): folder for folder in reversed(_folders(_root())) if is_it(folder)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        choices = " or ".join(sorted(f"{key}={folder}" for folder in found.values()))
        raise ConfigError([f"{key}: several folders below {_root()} hold a {what}: name one, {choices}"])
    where = f"{key}={MOUNTED}: no folder below {_root()}"
    raise ConfigError([f"{where} holds a {what}: add it to the inputs, or name yours: {key}=<folder>"])


def _mount(folder: Path) -> tuple[str, ...]:
    """`competitions/<slug>/a` and `<slug>/a` -> (<slug>, a): the same, mounted in two places."""
    parts = folder.relative_to(_root()).parts
    return parts[parts[:1] == ("competitions",) :]


def _root() -> Path:
    return Path(os.environ.get(ROOT, INPUT))


@cache
def _folders(root: Path) -> list[Path]:
    """All folders below, those nearest to the root first."""
    return sorted(_below(root, DEEPEST), key=lambda folder: (len(folder.parts), folder))


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if depth and folder.is_dir():
        for entry in os.scandir(folder):
            if entry.is_dir():
                yield Path(entry.path)
                yield from _below(Path(entry.path), depth - 1)


def _is_run(folder: Path) -> bool:
    return (folder / "run.yaml").exists() and any((folder / name).is_dir() for name in ("adapter", "model"))


def _is_data(folder: Path) -> bool:
    return any(folder.glob("*test_challenges.json"))
