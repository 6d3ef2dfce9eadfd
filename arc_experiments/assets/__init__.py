"""What travels inside the package: the base model, and the tasks that it is judged by.

`package:tiny` is the folder `assets/tiny`, wherever a path is asked for.
"""

from pathlib import Path

PREFIX = "package:"


def local_path(path: str) -> str:
    """The file or folder behind `package:<name>` or `~`; anything else, such as a hub id, stays as it is."""
    if path.startswith(PREFIX):
        return str(Path(__file__).parent / path.removeprefix(PREFIX))
    return str(Path(path).expanduser()) if path.startswith("~") else path
