"""List and read the files below a path: a folder, a zip or a single file.

A zip is read in place without extracting anything; one with members that point outside of it is refused.
Hidden files are skipped, and so are the files that macOS adds to its zips.
"""

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import IO

from arc_experiments.config.paths import local_path

MAX_BYTES = 512 * 2**20
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file in a folder or a zip, which may be unreadable.

    Attributes:
        name: its path below the folder or the zip.
        shown: its name in messages.
        size: returns the number of bytes; raises OSError.
        open: opens it for reading; raises one of `UNREADABLE`.
    """

    name: PurePosixPath
    shown: str
    size: Callable[[], int]
    open: Callable[[], IO[bytes]]

    def read(self, num_bytes: int = -1) -> bytes:
        """Read all of it, or its first bytes.

        Raises:
            ValueError: it is too large or unreadable.
        """
        try:
            if num_bytes < 0 and self.size() > MAX_BYTES:
                raise ValueError(
                    f"{self.shown}: {self.size() / 2**20:.0f} MiB is too large for one file of tasks (at "
                    f"most {MAX_BYTES // 2**20}): split it into several"
                )
            with self.open() as file:
                return file.read(num_bytes)
        except UNREADABLE as error:
            raise ValueError(f"{self.shown}: cannot be read: {_reason(error)}") from error


@contextmanager
def opened(path: str) -> Iterator[list[File]]:
    """Yield the files below a folder or in a zip by name, or a single file with its Kaggle solutions, if any.

    Raises:
        ValueError: the path does not exist, the folder cannot be listed, or the zip is broken or unsafe.
    """
    root = Path(local_path(path))
    if not root.exists():
        raise ValueError(f"data.path={path} does not exist (looked in {Path.cwd()})")
    if root.is_dir():
        yield sorted(_in_folder(root), key=lambda file: str(file.name))
        return
    if not _is_zip(root):
        files = dict.fromkeys([root, root.with_name(solutions_name(root.name))])
        yield [_on_disk(file, root.parent) for file in files if file == root or file.exists()]
        return
    try:
        archive = zipfile.ZipFile(root)
    except UNREADABLE as error:
        raise ValueError(f"data.path={_shown(root)}: not a whole zip archive: {_reason(error)}") from error
    with archive:
        yield sorted(_in_zip(archive, root), key=lambda file: str(file.name))


def solutions_name(name: str) -> str:
    """Return the name of Kaggle's file of solutions from that of its challenges."""
    return name.replace("challenges", "solutions")


def _is_zip(path: Path) -> bool:
    if path.suffix.lower() == ".zip":
        return True
    try:
        return _on_disk(path, path.parent).read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except ValueError:  # reported when it is read
        return False


def _in_folder(root: Path) -> Iterator[File]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"data.path={_shown(root)}: cannot be listed: {_reason(error)}") from error

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(folder))
        # A link may lead back to one of its parents.
        folders[:] = [
            name
            for name in folders
            if not _is_hidden(name) and os.path.realpath(os.path.join(folder, name)) not in seen
        ]
        yield from (_on_disk(Path(folder, name), root) for name in names if not _is_hidden(name))


def _in_zip(archive: zipfile.ZipFile, root: Path) -> Iterator[File]:
    for member in archive.infolist():
        name = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if is_link or name.is_absolute() or ".." in name.parts:
            what = "a link" if is_link else "a path outside the archive"
            raise ValueError(f"data.path={_shown(root)}: refused, as its member {member.filename} is {what}")
        if not member.is_dir() and not any(map(_is_hidden, name.parts)):
            yield File(
                name=name,
                shown=f"{_shown(root)}/{name}",
                size=partial(attrgetter("file_size"), member),
                open=partial(archive.open, member),
            )


def _on_disk(path: Path, root: Path) -> File:
    def size() -> int:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a plain file")
        return status.st_size

    def open_plain() -> IO[bytes]:
        size()  # opening a pipe would wait for its writer
        return path.open("rb")

    return File(
        name=PurePosixPath(path.relative_to(root).as_posix()), shown=_shown(path), size=size, open=open_plain
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _shown(path: Path) -> str:
    """Return a printable name, whatever the path's bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
