"""Answers as pixels: what a test asked, the two attempts and the solution, side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_experiments.scoring.submission import ATTEMPTS, Submission
from arc_experiments.tasks.grids import Grid, to_pixels
from arc_experiments.tasks.task import Task

GAP = 12  # pixels between grids


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Rows of red, green and blue, and the words below them."""

    caption: str
    pixels: NDArray[np.uint8]


def answer_pictures(tasks: Iterable[Task], attempts: Submission) -> list[Picture]:
    """One for each test output, all of one size, on white."""
    rows, captions = [], []
    for task in tasks:
        for number, (pair, entry) in enumerate(zip(task.test, attempts[task.id], strict=True), start=1):
            answers = [np.asarray(entry[name], dtype=np.uint8) for name in ATTEMPTS]
            grids, verdict = [pair.input, *answers], "not judged"
            if pair.output is not None:
                grids.append(pair.output)
                is_right = any(np.array_equal(answer, pair.output) for answer in answers)
                verdict = "right" if is_right else "wrong"
            shown = ", ".join(["input", *ATTEMPTS, "solution"][: len(grids)]).replace("_", " ")
            rows.append(_side_by_side(grids))
            captions.append(f"{task.id}, test {number}, {verdict}: {shown}")
    height = max((row.shape[0] for row in rows), default=0)
    width = max((row.shape[1] for row in rows), default=0)
    return [
        Picture(caption=caption, pixels=_on_white(row, height, width))
        for caption, row in zip(captions, rows, strict=True)
    ]


def _side_by_side(grids: Sequence[Grid]) -> NDArray[np.uint8]:
    pictures = [to_pixels(grid) for grid in grids]
    height = max(picture.shape[0] for picture in pictures)
    return np.hstack([_on_white(picture, height, picture.shape[1] + GAP) for picture in pictures])[:, :-GAP]


def _on_white(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The picture at the top left of a white one."""
    rows, columns, _ = picture.shape
    return np.pad(picture, ((0, height - rows), (0, width - columns), (0, 0)), constant_values=255)
