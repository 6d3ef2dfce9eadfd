"""Paths as users type them: `package:tiny` is the folder `tiny` in `assets/`, wherever a path is expected."""

from pathlib import Path

PREFIX = "package:"


def path_outside(path: str) -> str:
    """Return the path or hub id by which other programs, started anywhere, find what the user named."""
    local = Path(local_path(path))
    return str(local.resolve()) if local.is_dir() else path


def local_path(path: str) -> str:
    """Resolve `package:<name>` and `~` to a path; return anything else, such as a hub id, as it is."""
    if path.startswith(PREFIX):
        return str(Path(__file__).parents[1] / "assets" / path.removeprefix(PREFIX))
    return str(Path(path).expanduser()) if path.startswith("~") else path
