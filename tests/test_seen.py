"""The pictures that a model saw, in a file and on a page."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest

from arc_experiments.pictures import Picture, Style
from arc_experiments.report.pictures_seen import SIDE, SeenPicture, SeenPrompt, by_task

GRID = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)


def seen_picture(cell_pixels: int = 28) -> SeenPicture:
    return SeenPicture.of(Picture.of(GRID, Style(cell_pixels=cell_pixels)))


def prompt(task_id: str = "a", test_index: int = 0) -> SeenPrompt:
    return SeenPrompt(
        task_id=task_id, test_index=test_index, view="identity", num_tokens=9, pictures=(seen_picture(),)
    )


def test_the_png_holds_the_drawn_pixels() -> None:
    pixels = PIL.Image.open(io.BytesIO(base64.b64decode(seen_picture().png)))
    assert np.array_equal(np.asarray(pixels), Picture.of(GRID, Style(cell_pixels=28)).draw())
    assert seen_picture().size == (56, 84)


@pytest.mark.parametrize("cell", [1, 7, 28, 200])
def test_a_page_enlarges_pixels_by_whole_numbers_alone(cell: int) -> None:
    one = seen_picture(cell)
    height, width = one.shown_size
    assert height % one.size[0] == width % one.size[1] == 0
    assert height / one.size[0] == width / one.size[1]
    assert max(height, width) <= max(SIDE, *one.size)


def test_a_line_of_the_file_is_read_as_it_was_written() -> None:
    one = prompt()
    assert SeenPrompt.from_record(json.loads(json.dumps(one.to_record()))) == one


@pytest.mark.parametrize("missing", ["task", "test_index", "view", "num_tokens", "pictures"])
def test_a_line_without_one_of_its_parts_is_refused(missing: str) -> None:
    record = prompt().to_record()
    del record[missing]
    with pytest.raises(ValueError, match="holds no whole prompt with pictures"):
        SeenPrompt.from_record(record)


def test_prompts_are_grouped_by_their_task() -> None:
    prompts = [prompt("a"), prompt("b"), prompt("a", 1)]
    assert by_task(prompts) == {"a": [prompts[0], prompts[2]], "b": [prompts[1]]}


def test_a_page_of_the_largest_task_stays_small() -> None:
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 10, (30, 30), dtype=np.uint8) for _ in range(9)]
    pictures = [SeenPicture.of(Picture.of(grid, Style(cell_pixels=28, line_pixels=1))) for grid in grids]
    assert sum(len(one.png) for one in pictures) < 150_000
