"""Build a verified prompt for one tokenizer from the options of a `prompt` section."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from arc_experiments.config.check import build
from arc_experiments.config.schema import PICTURE_OPTIONS, PromptOptions
from arc_experiments.pictures.drawing import Style
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.pictures.writer import PictureWriter
from arc_experiments.prompts.prompt import Prompt
from arc_experiments.tasks import Row, Task

NUM_VERIFIED = 32  # real tasks and ready rows on which the fast encoding is compared with the tokenizer


def make_prompt(
    own: PromptOptions, tokenizer: Any, language: str | None = None, inputs: PictureInputs | None = None
) -> Prompt:
    """Build the prompt without verifying its token table.

    Args:
        language: of the data's programs, which is asked for if the options name none.
        inputs: what the model is given of pictures; None for a prompt and rows without them.
    """
    options = dataclasses.asdict(own)
    for name in ("name", *PICTURE_OPTIONS):
        del options[name]
    options["images"] = inputs
    if own.shows_pictures:
        assert inputs is not None, "a prompt with pictures needs the model's processor"
        options["pictures"] = PictureWriter(_style(own, inputs), inputs)
    options |= {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}
    options["language"] = own.language or language
    return Prompt(tokenizer=tokenizer, **options)


def verified_prompt(
    own: PromptOptions,
    tokenizer: Any,
    tasks: Sequence[Task],
    rows: Sequence[Row] = (),
    language: str | None = None,
    inputs: PictureInputs | None = None,
) -> Prompt:
    """Build the prompt and compare its fast encoding with the tokenizer's on these tasks and some rows.

    Args:
        language, inputs: see `make_prompt`.
    """
    prompt = make_prompt(own, tokenizer, language, inputs)
    prompt.verify(tasks)
    prompt.check_rows(rows[:: len(rows) // NUM_VERIFIED + 1])
    return prompt


def _style(own: PromptOptions, inputs: PictureInputs) -> Style:
    """Draw as configured, and else so that cells and what one vision token sees coincide."""
    canvas = own.canvas_pixels or inputs.canvas_pixels
    cell = own.cell_pixels or inputs.cell_pixels or canvas
    assert cell is not None, "a model sees pictures of all sizes or of one"
    style = Style(
        cell_pixels=cell,
        line_pixels=own.line_pixels,
        margin_pixels=own.margin_pixels,
        canvas_pixels=canvas,
        unit_pixels=inputs.cell_pixels or 1,
        min_pixels=inputs.min_pixels,
    )
    return style if own.palette is None else dataclasses.replace(style, palette=tuple(own.palette))
