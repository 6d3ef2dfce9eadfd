"""Images of ready rows: pictures of any kind, kept as files in memory and decoded when they are needed."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

FORMS = 'an image of Pillow, a path, bytes of a file, {"bytes": ..., "path": ...} or a uint8 array'
UNREADABLE = (OSError, ValueError, TypeError, PIL.Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """An RGB image.

    Attributes:
        file: the bytes of an image file.
        size: height and width in pixels.
        digest: of size and pixels, 16 hex digits; the same for all files that show the same.
    """

    file: bytes = field(repr=False)
    size: tuple[int, int]
    digest: str

    @classmethod
    def of(cls, value: Any, where: str) -> "Image":
        """Take an image in one of the forms in which data sets hold it, turned upright.

        Raises:
            ValueError: it has none of these forms, or cannot be read; the message begins with `where`.
        """
        if isinstance(value, Image):
            return value
        if isinstance(value, Mapping):  # datasets' own, if it is not decoded
            value = value.get("bytes") or value.get("path")
        try:
            if isinstance(value, str | Path):
                value = Path(value).expanduser().read_bytes()
            if isinstance(value, np.ndarray):
                value = PIL.Image.fromarray(value)
            if isinstance(value, PIL.Image.Image):
                value = _written(_upright(value))
            if not isinstance(value, bytes):
                raise ValueError(f"{type(value).__name__} is not {FORMS}")
            pixels = _pixels(value)
        except UNREADABLE as error:
            raise ValueError(f"{where} is no readable image: {error}") from error
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
        return cls(file=value, size=(pixels.shape[0], pixels.shape[1]), digest=digest)

    def draw(self) -> NDArray[np.uint8]:
        """Decode it: uint8, shape (height, width, 3)."""
        return _pixels(self.file)


class RowImages:
    """The images of a ready row, each taken by the part of a message that shows it."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        given = data.get("images") if data.get("images") is not None else data.get("image")
        given = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        self._given = [Image.of(value, f"{where}, image {number}") for number, value in enumerate(given)]
        self._where, self._num_taken = where, 0
        self._shown: list[Image] = []

    def take(self, part: Mapping[str, Any], where: str) -> None:
        """Take the image that a part shows: its own, or the next of the row."""
        if part.get("image") is not None:
            self._shown.append(Image.of(part["image"], f"{where}, image"))
            return
        if self._num_taken < len(self._given):
            self._shown.append(self._given[self._num_taken])
        self._num_taken += 1

    def in_order(self, content: dict[str, Any]) -> tuple[Image, ...]:
        """Return them in order. Those that no part mentions begin the user's first message.

        Raises:
            ValueError: the row has more or fewer than its messages show, or is of a form without images.
        """
        if self._given and not self._shown and not self._num_taken:
            if "input_ids" not in content:
                self._begin(content)
            return tuple(self._given)
        if self._num_taken != len(self._given):
            raise ValueError(
                f'{self._where}: its messages show {self._num_taken} images ({{"type": "image"}}), and '
                f"`images` has {len(self._given)}"
            )
        return tuple(self._shown)

    def _begin(self, content: dict[str, Any]) -> None:
        first = next((each for each in content.get("messages", ()) if each["role"] == "user"), None)
        if first is None:
            raise ValueError(
                f"{self._where} has images, which only messages of the user show: write "
                '{"messages": [...], "images": [...]}, or input_ids with the tokens of the images'
            )
        said = first["content"]
        said = [{"type": "text", "text": said}] if isinstance(said, str) else said
        first["content"] = [{"type": "image"}] * len(self._given) + said


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.ImageOps.exif_transpose(image).convert("RGB")


def _written(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _pixels(file: bytes) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(file)) as image:
        return np.asarray(_upright(image))
