"""The user's code that a composition names: the files that it is in, their hashes, and errors inside them.

A composition names code by `_target_` (an augmentation, a source), by a function (`optim.schedule`) or by a
file (`data.file`). If the code changes under its name, the run is another, though run.yaml stays the same.
Installed libraries do not count: environment.json records their versions.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from arc_experiments.config.check import open_sets
from arc_experiments.config.user_code.by_path import error_by, is_installed, split_name
from arc_experiments.config.user_code.functions import CALLS, is_own

Files = dict[str, dict[str, Path]]


def code_files(node: DictConfig) -> Files:
    """Find the files of the user's code that a checked composition names, with what these import of it.

    Returns:
        {"augmentation.mine": {"my_augmentations": Path("/home/me/my_augmentations.py")}}: by the key that
        names the code, and the module.
    """
    found: Files = {}
    for key in open_sets(node):
        module = get_class(OmegaConf.select(node, key)["_target_"]).__module__
        if (file := file_of(module)) is not None:
            found[key] = _with_imports(module, file)
    for key in CALLS:
        name = str(OmegaConf.select(node, key))
        module = name.rpartition(".")[0]
        if is_own(name) and (file := file_of(module)) is not None:
            found[key] = _with_imports(module, file)
    data = {"data": node.data, **{f"data.sources.{name}": each for name, each in node.data.sources.items()}}
    named = {f"{place}.file": each.file for place, each in data.items()}
    for key, text in {**named, "programs.barc_library": node.programs.barc_library}.items():
        if text is not None:
            file = split_name(text)[0].resolve()
            found[key] = _with_imports(file.stem, file)
    return found


def code_hashes(files: Files) -> dict[str, dict[str, str]]:
    """Hash each file, but for its comments; {} for a composition that names no code of the user's."""
    return {
        key: {
            name: hashlib.sha256(_without_comments(file.read_bytes())).hexdigest()[:16]
            for name, file in modules.items()
        }
        for key, modules in files.items()
    }


def error_in(files: Files, error: BaseException) -> str | None:
    """Word an error that passed through one of these files (see `error_by`); None for any other."""
    keys = {str(file): key for key, modules in files.items() for file in modules.values()}
    return error_by(keys.get, error)


def _without_comments(source: bytes) -> bytes:
    """The source without comments and lines of nothing else; all of it if it is no Python."""
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    except (SyntaxError, tokenize.TokenError):
        return source
    lines = source.decode(tokens[0].string).split("\n")
    commented = set()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start[0] - 1, token.start[1]
            lines[row] = lines[row][:column].rstrip()
            commented.add(row)
    return "\n".join(line for row, line in enumerate(lines) if line or row not in commented).encode()


def _with_imports(name: str, file: Path) -> dict[str, Path]:
    """A module of the user's with those that it imports, and so on: files by name."""
    found: dict[str, Path] = {}
    to_read = [(name, file)]
    while to_read:
        name, file = to_read.pop()
        if name not in found:
            found[name] = file
            for imported in _imports(name, file):
                parts = imported.split(".")
                modules = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]  # packages run, too
                to_read += [(module, other) for module in modules if (other := file_of(module)) is not None]
    return found


def _imports(name: str, file: Path) -> Iterator[str]:
    """The names in a file's import statements that may be modules; none if it is no Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def file_of(module: str) -> Path | None:
    """The source of a module of the user's, found without importing it; None for any other."""
    top, *parts = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # the module that is run, as in a notebook
        return None
    if spec is None:
        return None
    folders = [Path(folder).joinpath(*parts) for folder in spec.submodule_search_locations or ()]
    places = [place for folder in folders for place in (folder / "__init__.py", folder.with_suffix(".py"))]
    if not parts:
        places = [Path(spec.origin or "")]
    found = [place.resolve() for place in places if place.suffix == ".py" and place.is_file()]
    return next((file for file in found if not is_installed(file)), None)
