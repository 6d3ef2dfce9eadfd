"""What programs in Python find without an import, and in `common`, the library of BARC's programs."""

from typing import ClassVar

import numpy as np  # noqa: F401


class Color:
    """BARC's names of the colours."""

    BLACK = BACKGROUND = TRANSPARENT = 0
    BLUE = 1
    RED = 2
    GREEN = 3
    YELLOW = 4
    GREY = GRAY = 5
    PINK = 6
    ORANGE = 7
    TEAL = 8
    MAROON = 9
    ALL_COLORS: ClassVar = [BLACK, BLUE, RED, GREEN, YELLOW, GREY, PINK, ORANGE, TEAL, MAROON]
    NOT_BLACK: ClassVar = [BLUE, RED, GREEN, YELLOW, GREY, PINK, ORANGE, TEAL, MAROON]
