"""Pictures as a model saw them, pixel by pixel: in `pictures.jsonl` of some answered tasks, and in a page.

{"task": "007bbfb7", "test_index": 0, "view": "identity", "num_tokens": 343,
 "pictures": [{"size": [84, 84], "png": "iVBORw0KGgo..."}, ...]}
"""

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

from numpy.typing import NDArray
from PIL import Image

FILE = "pictures.jsonl"
SIDE = 160  # pixels of a page that a picture's longer side takes at most, or one each of its own


class Drawable(Protocol):
    """What a model was given as a picture."""

    def draw(self) -> NDArray[Any]:
        """Return its pixels: uint8, shape (height, width, 3)."""


@dataclass(frozen=True, kw_only=True)
class SeenPicture:
    """The pixels of a picture.

    Attributes:
        size: height and width in pixels.
        png: of as many pixels, as text.
    """

    size: tuple[int, int]
    png: str

    @classmethod
    def of(cls, picture: Drawable) -> Self:
        """Draw a picture."""
        pixels, file = picture.draw(), io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        return cls(size=pixels.shape[:2], png=base64.b64encode(file.getvalue()).decode())

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width on a page: a whole number of times its own, so that its pixels stay squares."""
        height, width = self.size
        factor = max(1, SIDE // max(self.size))
        return height * factor, width * factor


@dataclass(frozen=True, kw_only=True)
class SeenPrompt:
    """The pictures of one prompt, as a line of `pictures.jsonl` holds them.

    Attributes:
        view: its name.
        num_tokens: of the whole prompt.
    """

    task_id: str
    test_index: int
    view: str
    num_tokens: int
    pictures: tuple[SeenPicture, ...]

    def to_record(self) -> dict[str, Any]:
        record = asdict(self)
        return {"task": record.pop("task_id"), **record}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read a record.

        Raises:
            ValueError: it is not whole.
        """
        try:
            pictures = [SeenPicture(size=tuple(one["size"]), png=one["png"]) for one in record["pictures"]]
            return cls(
                task_id=record["task"],
                test_index=record["test_index"],
                view=record["view"],
                num_tokens=record["num_tokens"],
                pictures=tuple(pictures),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this line holds no whole prompt with pictures ({error})") from error


def by_task(prompts: Iterable[SeenPrompt]) -> dict[str, Sequence[SeenPrompt]]:
    """Group prompts by the tasks that they ask about."""
    found: dict[str, list[SeenPrompt]] = defaultdict(list)
    for prompt in prompts:
        found[prompt.task_id].append(prompt)
    return dict(found)
