"""Paths as users type them: `package:tiny` is the folder `tiny` in `assets/`, wherever a path is expected."""

from pathlib import Path
from typing import Any

PREFIX = "package:"
# The keys, in whatever section, whose value is the path of a file or folder, if there is one of that name.
KEYS = (
    "path", "file", "partition_file", "adapter", "load_state", "fallback_run", "barc_library", "cache_dir",
    "from_run", "submission",
)  # fmt: skip


def path_outside(path: str) -> str:
    """Return the path or hub id by which other programs, started anywhere, find what the user named."""
    local = Path(local_path(path))
    return str(local.resolve()) if local.is_dir() else path


def local_path(path: str) -> str:
    """Resolve `package:<name>` and `~` to a path; return anything else, such as a hub id, as it is."""
    if path.startswith(PREFIX):
        return str(Path(__file__).parents[1] / "assets" / path.removeprefix(PREFIX))
    return str(Path(path).expanduser()) if path.startswith("~") else path


def absolute_path(path: str, directory: Path) -> str:
    """Return the absolute path of what was typed in a directory; as it is if nothing of that name is there.

    A function after a colon, as in `my_dataset.py:puzzles`, stays.
    """
    if not path or path.startswith(PREFIX) or Path(path).is_absolute():
        return path
    file, colon, function = path.rpartition(":")
    for name, rest in ((path, ""), (file, colon + function)):
        if name and (directory / name).exists():
            return f"{directory / name}{rest}"
    return path


def with_absolute_paths(values: dict[Any, Any], directory: Path) -> dict[Any, Any]:
    """Return a composition, as nested dicts, with the `absolute_path` of every value that is one (`KEYS`)."""
    found: dict[Any, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found[key] = with_absolute_paths(value, directory)
        else:
            found[key] = absolute_path(value, directory) if key in KEYS and isinstance(value, str) else value
    return found
