"""What can be wrong with a prompt that shows pictures is said before anything is loaded."""

import re

import pytest

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError, check

PICTURES = ["data=see", "prompt=picture_compact", "model.name=m"]


def mistakes(*overrides: str) -> list[str]:
    try:
        check(compose_config(list(overrides)))
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_a_prompt_with_pictures_and_one_of_text_pass() -> None:
    assert mistakes(*PICTURES) == []
    assert mistakes("prompt=compact") == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prompt.palette=['#000000']", 'is not ten colours of the form "#0074D9"'),
        (f"prompt.palette={['black'] * 10}", "is not ten colours"),
        (f"prompt.palette={['#00000g'] * 10}", "is not ten colours"),
        ("prompt.line_pixels=8", "prompt.line_pixels=8 leaves nothing of cell_pixels=8"),
        ("inference.engine=vllm", "inference.engine=vllm does not go with the pictures of prompt"),
        ("inference.engine=threshold", "inference.engine=threshold does not go with the pictures"),
        ("optim.pack_length=512", "optim.pack_length=512 does not go with the pictures"),
        ("model.vocabulary=arc", "model.vocabulary=arc does not go with the pictures"),
        ("hardware.per_device_batch_size=auto", "hardware.per_device_batch_size=auto does not go with"),
        ("hardware.parallelism=fsdp", "hardware.parallelism=fsdp does not go with the pictures"),
        ("model.lora.initialisation=eva", "model.lora.initialisation=eva does not go with the pictures"),
    ],
)
def test_what_does_not_go_with_pictures_is_named_with_the_remedy(override: str, message: str) -> None:
    found = mistakes(*PICTURES, override.replace(" ", ""))
    (one,) = [line for line in found if re.search(re.escape(message), line)]
    assert "palette" in one or "leaves nothing" in one or "take" in one or "name a number" in one


def test_adapters_of_several_tasks_at_once_do_not_go_with_pictures() -> None:
    found = mistakes(*PICTURES, "job=adapt", "adapt.together=2")
    assert any("adapt.together=2 does not go with the pictures of prompt" in line for line in found)


@pytest.mark.parametrize(
    "option", ["cell_pixels=28", "line_pixels=1", "margin_pixels=1", "canvas_pixels=560"]
)
def test_an_option_of_pictures_needs_a_prompt_that_shows_some(option: str) -> None:
    (one,) = mistakes("prompt=compact", f"prompt.{option}")
    assert one.startswith(f"prompt.{option}: compact shows no pictures")
    assert "prompt=picture" in one


@pytest.mark.parametrize(
    ("option", "message"), [("cell_pixels=0", "cell_pixels"), ("canvas_pixels=7", "canvas_pixels")]
)
def test_a_picture_cannot_be_too_small_to_be_drawn(option: str, message: str) -> None:
    assert any(message in line and "too small" in line for line in mistakes(*PICTURES, f"prompt.{option}"))
