"""Paths as they are typed: `package:tiny` is the folder `tiny` in `assets/`, wherever a path is asked for."""

from pathlib import Path

PREFIX = "package:"


def local_path(path: str) -> str:
    """The file or folder behind `package:<name>` or `~`; anything else, such as a hub id, stays as it is."""
    if path.startswith(PREFIX):
        return str(Path(__file__).parents[1] / "assets" / path.removeprefix(PREFIX))
    return str(Path(path).expanduser()) if path.startswith("~") else path
