"""Grids as text: what is written reads back, and nothing else does."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from toy_grids import grid

from arc_experiments.prompts import GridText, UnreadableGrid
from arc_experiments.tasks.grids import Grid

grids = st.builds(
    lambda height, width, seed: np.random.default_rng(seed).integers(0, 10, (height, width), dtype=np.uint8),
    st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32),
)  # fmt: skip
WORDS = ["black", "blue", "red", "green", "yellow", "grey", "pink", "orange", "cyan", "brown"]
options = st.fixed_dictionaries(
    {
        "opening": st.sampled_from(
            ["", "```\n", "```grid shape: {height}x{width}\n", "<{width}>", "grid (w={width})\n\n"]
        ),
        "row_numbers": st.booleans(),
        "cells": st.sampled_from([[*"0123456789"], [*".abcdefghi"], [*"([{*+?|^$\\"], WORDS]),
        "separator": st.sampled_from(["", " ", ",", ", ", "|"]),
        "frames": st.sampled_from([[], [1], [3], [3, 10], [6, 10, 30]]),
        "fill": st.sampled_from([".", "_", "none"]),
        "closing": st.sampled_from(["", "```", "end\n", "</grid>", "\n"]),
    }
)


def test_a_grid_in_arc24s_form() -> None:
    text = GridText(opening="```grid shape: {height}x{width}\n", row_numbers=True, closing="```")
    assert text.write(grid("10", "02")) == "```grid shape: 2x2\n1 10\n2 02\n```"
    assert GridText().write(grid("10", "02")) == "10\n02\n"


def test_a_frame_fills_smaller_grids_and_leaves_larger_ones() -> None:
    text = GridText(frames=[3])
    assert text.write(grid("10", "02")) == "10.\n02.\n...\n"
    assert text.write(grid("1023")) == "1023\n"
    assert GridText(frames=[2, 4]).write(grid(*"102")) == "1...\n0...\n2...\n....\n"
    assert GridText(frames=[2, 4]).write(grid("1")) == "1.\n..\n"
    numbered = GridText(frames=[3], row_numbers=True, separator="|", fill="none", opening="{height} high\n")
    assert numbered.write(grid("10", "02")) == "2 high\n1 1|0|none\n2 0|2|none\n3 none|none|none\n"


@given(cells=grids, options=options)
def test_what_is_written_reads_back(cells: Grid, options: dict[str, Any]) -> None:
    try:
        text = GridText(**options)
    except ValueError:
        assume(False)
    written = text.write(cells)
    for spaced in (written, written.strip(), f"\n {written} \n"):
        back = text.read(spaced)
        assert back.dtype == np.uint8
        assert np.array_equal(back, cells)


@given(text=st.text("0123456789 x`gridshape:\n", max_size=60), options=options)
def test_what_reads_is_what_would_have_been_written(text: str, options: dict[str, Any]) -> None:
    try:
        form = GridText(**options)
        cells = form.read(text)
    except (ValueError, UnreadableGrid):
        return
    assert form.write(cells).strip() == text.strip()


PLAIN = GridText()
FRAMED = GridText(frames=[3])
FRAMES = GridText(frames=[2, 3])
FENCED = GridText(opening="```grid shape: {height}x{width}\n", row_numbers=True, closing="```")


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        (PLAIN, "", "empty"),
        (PLAIN, " \n ", "empty"),
        (FENCED, "1 10\n2 02\n```", "no_grid"),
        (FENCED, "The answer is:\n```grid shape: 1x1\n1 0\n```", "no_grid"),
        (FENCED, "```grid shape: 2x2\n1 10\n2 02\n", "unclosed"),
        (FENCED, "```grid shape: 1x1\n1 0\n``` and so on", "unclosed"),
        (FENCED, "```grid shape: 2x2\n1 10\n3 02\n```", "bad_row_number"),
        (FENCED, "```grid shape: 2x2\n1 10\n02\n```", "bad_row_number"),
        (PLAIN, "1a\n", "bad_cell"),
        (PLAIN, "1 0\n", "bad_cell"),
        (PLAIN, "10\n\n02", "bad_cell"),
        (GridText(separator=","), "1,\n", "bad_cell"),
        (GridText(cells=[f"<{n}>" for n in range(10)]), "<1><2\n", "bad_cell"),
        (PLAIN, "10\n0\n", "ragged"),
        (PLAIN, "0" * 31, "too_large"),
        (PLAIN, "0\n" * 31, "too_large"),
        (PLAIN, "10.\n02.\n...", "bad_cell"),
        (FRAMED, "10\n02\n", "bad_frame"),
        (FRAMED, "10.\n02.\n", "bad_frame"),
        (FRAMED, "10.\n02.\n.1.\n", "bad_frame"),
        (FRAMED, "10.\n.2.\n...\n", "bad_frame"),
        (FRAMED, "1.0\n0.2\n...\n", "bad_frame"),
        (FRAMED, "10..\n02..\n....\n", "bad_frame"),
        (FRAMED, "1..\n2..\n1..\n...\n", "bad_frame"),
        (FRAMES, "10.\n02.\n...\n", "bad_frame"),
        (FRAMES, "1.\n2.\n1.\n", "bad_frame"),
        (FRAMED, "...\n...\n...\n", "bad_frame"),
        (FRAMED, "10.\n02..\n...\n", "ragged"),
        (GridText(frames=[3], opening="{height} high\n"), "3 high\n10.\n02.\n...\n", "wrong_shape"),
        (FENCED, "```grid shape: 02x02\n1 10\n2 02\n```", "no_grid"),
        (FENCED, "```grid shape: 2x3\n1 10\n2 02\n```", "wrong_shape"),
        (FENCED, "```grid shape: 3x2\n1 10\n2 02\n```", "wrong_shape"),
    ],
)
def test_what_is_no_grid_is_refused_with_the_reason(form: GridText, text: str, reason: str) -> None:
    with pytest.raises(UnreadableGrid) as raised:
        form.read(text)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cells": ["0"] * 10}, "10 different texts"),
        ({"cells": [*"012"]}, "10 different texts"),
        ({"cells": WORDS}, "cells of different lengths"),
        ({"cells": [*"012345678\n"]}, "must not contain a newline"),
        ({"cells": [*"012345678,"], "separator": ","}, "or the separator"),
        ({"frames": [31]}, "must be different sides from 1 to 30 in ascending order"),
        ({"frames": [0]}, "must be different sides"),
        ({"frames": [10, 6]}, "in ascending order"),
        ({"fill": "_"}, "needs frames"),
        ({"frames": [3], "fill": "0"}, "must not be empty or the text of a cell"),
        ({"frames": [3], "fill": ""}, "must not be empty or the text of a cell"),
        ({"frames": [3], "fill": "none"}, "(including fill, with frames) need a separator"),
        ({"frames": [3], "fill": "\n"}, "must not contain a newline"),
        ({"frames": [3], "fill": " "}, "cannot be read back"),
        ({"opening": "{depth}"}, "may contain only {height} and {width}"),
        ({"opening": "{"}, "may contain only {height} and {width}"),
        ({"cells": [*" 123456789"]}, "cannot be read back"),
        ({"opening": "{height}x{width}"}, "cannot be read back"),
        ({"closing": "\n```"}, "cannot be read back"),
        ({"separator": "\n"}, "reads back as another grid"),
    ],
)
def test_a_form_that_could_not_be_read_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"must|need|may|these options") as raised:
        GridText(**wrong)
    assert message in str(raised.value)
