"""Grids as pictures: where each cell lies, in which colour, and what a model is given of it."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from toy_vision import vision_model

from arc_experiments.config.schema import Model
from arc_experiments.models.processor import load_processor
from arc_experiments.pictures import Picture, Style
from arc_experiments.pictures.cell_table import CellTable
from arc_experiments.pictures.drawing import LINE
from arc_experiments.pictures.inputs import PictureInputs, UnknownInputs, folded
from arc_experiments.tasks.grids import PALETTE

GRID = np.arange(10, dtype=np.uint8).reshape(2, 5)
WHITE = (255, 255, 255)


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def at(pixels: np.ndarray, row: int, column: int) -> tuple[int, ...]:
    return tuple(pixels[row, column].tolist())


def one_coloured(height: int, width: int, colour: int) -> np.ndarray:
    return np.full((height, width), colour, np.uint8)


@pytest.mark.parametrize("cell", [1, 8, 28])
@pytest.mark.parametrize("margin", [0, 3])
def test_every_pixel_of_a_cell_has_its_colour_and_cells_begin_at_multiples(cell: int, margin: int) -> None:
    pixels = Picture.of(GRID, Style(cell_pixels=cell, margin_pixels=margin)).draw()
    assert pixels.shape == (2 * cell + 2 * margin, 5 * cell + 2 * margin, 3)
    assert pixels.dtype == np.uint8
    inner = pixels[margin : margin + 2 * cell, margin : margin + 5 * cell]
    for row in range(2 * cell):
        for column in range(5 * cell):
            assert at(inner, row, column) == rgb(PALETTE[GRID[row // cell, column // cell]])
    inner[:] = 255
    assert (pixels == 255).all(), "the margin is white"


def test_grid_lines_lie_inside_the_cells_at_their_top_and_left() -> None:
    lined = Picture.of(GRID, Style(cell_pixels=8, line_pixels=2)).draw()
    plain = Picture.of(GRID, Style(cell_pixels=8)).draw()
    assert lined.shape == plain.shape
    rows, columns = (np.arange(side) % 8 < 2 for side in lined.shape[:2])
    is_line = rows[:, None] | columns[None]
    assert (lined[is_line] == LINE).all()
    assert np.array_equal(lined[~is_line], plain[~is_line])


def test_a_canvas_has_one_size_and_cells_as_large_as_fit() -> None:
    style = Style(cell_pixels=20, canvas_pixels=56)
    small, large = Picture.of(one_coloured(1, 2, 1), style), Picture.of(one_coloured(3, 7, 2), style)
    assert small.size == large.size == small.draw().shape[:2] == (56, 56)
    assert (small.cell_pixels, large.cell_pixels) == (20, 8)
    assert at(large.draw(), 23, 55) == rgb(PALETTE[2])
    assert at(large.draw(), 24, 0) == WHITE


@pytest.mark.parametrize(("canvas", "line", "margin"), [(29, 0, 0), (60, 2, 0), (30, 0, 1)])
def test_a_canvas_with_too_little_room_for_a_grid_is_refused(canvas: int, line: int, margin: int) -> None:
    style = Style(cell_pixels=99, line_pixels=line, margin_pixels=margin, canvas_pixels=canvas)
    message = rf"prompt.canvas_pixels={canvas} is too small for a picture of 30 x 30 cells"
    with pytest.raises(ValueError, match=message):
        Picture.of(one_coloured(30, 30, 1), style).draw()


def test_a_sheet_has_rows_of_grids_a_cell_apart() -> None:
    rows = ((one_coloured(2, 3, 1), one_coloured(1, 1, 2)), (one_coloured(1, 6, 3),))
    pixels = Picture(rows, Style(cell_pixels=4)).draw()
    expected = [
        [1, 1, 1, -1, 2, -1],
        [1, 1, 1, -1, -1, -1],
        [-1] * 6,
        [3] * 6,
    ]
    assert pixels.shape == (16, 24, 3)
    for row in range(16):
        for column in range(24):
            colour = expected[row // 4][column // 4]
            assert at(pixels, row, column) == (WHITE if colour < 0 else rgb(PALETTE[colour]))


def test_the_palette_names_the_colours() -> None:
    palette = tuple(f"#{number:02x}{255 - number:02x}07" for number in range(10))
    pixels = Picture.of(GRID, Style(cell_pixels=1, palette=palette)).draw()
    assert [at(pixels, *divmod(colour, 5)) for colour in range(10)] == [(n, 255 - n, 7) for n in range(10)]


@pytest.mark.parametrize(
    ("style", "digest"),
    [
        (Style(cell_pixels=28), "33b935ede00d040a"),
        (Style(cell_pixels=9, line_pixels=1, margin_pixels=3), "bf512c2d14089c05"),
        (Style(cell_pixels=28, canvas_pixels=64), "ee5f6d73183363ca"),
    ],
)
def test_the_bytes_are_the_same_everywhere(style: Style, digest: str) -> None:
    picture = Picture(((GRID, GRID.T.copy()), (GRID,)), style)
    assert hashlib.sha256(picture.draw().tobytes()).hexdigest()[:16] == digest


def test_a_picture_is_pickled_as_its_integers_drawn_or_not() -> None:
    picture = Picture.of(one_coloured(30, 30, 7), Style(cell_pixels=28))
    fresh = len(pickle.dumps(picture))
    pixels = picture.draw()
    stored = pickle.dumps(picture)
    assert len(stored) == fresh < 2000 < pixels.nbytes / 1000
    assert np.array_equal(pickle.loads(stored).draw(), pixels)


# What a model is given


@pytest.fixture(scope="module")
def inputs(see_start: Path) -> PictureInputs:
    return PictureInputs(load_processor(Model(name="m", path=str(see_start))))


CANVAS = Style(cell_pixels=8, canvas_pixels=56)
TOKENS = "<fake_token_around_image><global-img>" + "<image>" * 49 + "<fake_token_around_image>"


def written(inputs: PictureInputs, *pictures: Picture) -> tuple[str, np.ndarray]:
    """The text with a placeholder for each picture, and the tokens with the pictures'."""
    text = "".join(f"I{inputs.text(picture)}" for picture in pictures) + "O"
    ids = inputs.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return f"I{inputs.placeholder}" * len(pictures) + "O", np.array(ids, np.int64)


def test_a_model_that_resizes_pictures_says_to_which_square(inputs: PictureInputs) -> None:
    assert (inputs.cell_pixels, inputs.canvas_pixels) == (None, 56)
    assert (inputs.placeholder, inputs.token) == ("<image>", "<image>")


def test_a_picture_takes_the_tokens_that_the_processor_writes(inputs: PictureInputs) -> None:
    picture = Picture.of(GRID, CANVAS)
    assert inputs.text(picture) == TOKENS
    text, ids = written(inputs, picture, picture)
    inputs.verify([text], [[picture, picture]], [ids])


def test_tokens_that_the_processor_would_not_write_are_refused(inputs: PictureInputs) -> None:
    picture = Picture.of(GRID, CANVAS)
    text, ids = written(inputs, picture)
    with pytest.raises(UnknownInputs, match="makes input_ids of pictures in another way"):
        inputs.verify([text], [[picture]], [ids[1:]])


def test_the_arrays_hold_the_pixels_in_the_order_of_rows_and_tokens(inputs: PictureInputs) -> None:
    pictures = [Picture.of(one_coloured(2, 2, colour), CANVAS) for colour in range(3)]
    ids = np.zeros((2, 4), np.int64)
    made = inputs.arrays([pictures[:2], pictures[2:]], ids)
    alone = [inputs.arrays([[picture]], ids[:1])["pixel_values"][0, 0] for picture in pictures]
    shown = made["pixel_values"]
    assert np.array_equal(shown[0, 0], alone[0])
    assert np.array_equal(shown[0, 1], alone[1])
    assert np.array_equal(shown[1, 0], alone[2])
    assert not np.array_equal(alone[0], alone[1])


def test_rows_without_pictures_give_no_arrays(inputs: PictureInputs) -> None:
    assert inputs.arrays([[], []], np.zeros((2, 4), np.int64)) == {}


# What a processor makes of a cell


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def qwen(request: pytest.FixtureRequest) -> PictureInputs:
    return PictureInputs(load_processor(Model(name="m", path=str(vision_model(request.param)))))


def some_pictures(style: Style) -> list[Picture]:
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 10, shape, dtype=np.uint8) for shape in ((1, 1), (3, 5), (12, 2), (4, 4))]
    return [*(Picture.of(grid, style) for grid in grids), Picture(((grids[1], grids[0]), (grids[3],)), style)]


@pytest.mark.parametrize(
    "options",
    [{}, {"line_pixels": 1}, {"margin_pixels": 224}, {"palette": tuple(reversed(PALETTE))}],
    ids=str,
)
def test_cells_are_looked_up_where_a_token_sees_one_with_the_processors_result(
    qwen: PictureInputs, options: dict
) -> None:
    unit = qwen.cell_pixels
    sides = {"cell_pixels": unit, "unit_pixels": unit, "min_pixels": qwen.min_pixels}
    style = Style(**sides | options)
    assert qwen._table(style) is not None
    pictures = some_pictures(style)
    made, truth = qwen._processed([pictures[:2], pictures[2:]]), qwen._by_processor([pictures])
    assert made.keys() == truth.keys()
    for name, values in made.items():
        assert np.array_equal(values, truth[name])
        assert values.dtype == np.asarray(truth[name]).dtype


@pytest.mark.parametrize("change", [{"cell_pixels": 1}, {"margin_pixels": 5}, {"canvas_pixels": 2}], ids=str)
def test_cells_that_no_token_sees_alone_are_not_looked_up(qwen: PictureInputs, change: dict) -> None:
    unit = qwen.cell_pixels
    sides = {name: value * (1 if name == "margin_pixels" else 8 * unit) for name, value in change.items()}
    style = Style(**{"cell_pixels": unit, "unit_pixels": unit, "min_pixels": qwen.min_pixels, **sides})
    assert qwen._table(style) is None
    pictures = some_pictures(style)[1:2]
    assert np.array_equal(
        qwen._processed([pictures])["pixel_values"], qwen._by_processor([pictures])["pixel_values"]
    )


def test_a_processor_that_sees_more_than_a_cell_at_once_is_asked_itself() -> None:
    def blurred(pictures: list[Picture]) -> dict[str, np.ndarray]:
        cells = [picture.cells.astype(np.float32) for picture in pictures]
        values = [(each + each.mean()).reshape(-1, 1) for each in cells]
        return {
            "pixel_values": np.concatenate(values),
            "image_grid_thw": np.array([(1, *each.shape) for each in cells]),
        }

    assert CellTable.of(blurred, Style(cell_pixels=4), 4) is None


def test_a_token_that_follows_itself_is_folded_and_others_are_not() -> None:
    assert folded("a<image><image><image>b<image>00", "<image>") == "a<image> x 3b<image>00"
    assert folded("I**O*", "*") == "I* x 2O*"
