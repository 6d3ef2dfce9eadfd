"""Build a verified prompt for one tokenizer from the options of a `prompt` section."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from arc_experiments.config.check import build
from arc_experiments.config.schema import PromptOptions
from arc_experiments.prompts.prompt import Prompt
from arc_experiments.tasks import Row, Task

NUM_VERIFIED = 32  # real tasks and ready rows on which the fast encoding is compared with the tokenizer


def make_prompt(own: PromptOptions, tokenizer: Any, language: str | None = None) -> Prompt:
    """Build the prompt without verifying its token table.

    Args:
        language: of the data's programs, which is asked for if the options name none.
    """
    options = dataclasses.asdict(own)
    del options["name"]
    options |= {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}
    options["language"] = own.language or language
    return Prompt(tokenizer=tokenizer, **options)


def verified_prompt(
    own: PromptOptions,
    tokenizer: Any,
    tasks: Sequence[Task],
    rows: Sequence[Row] = (),
    language: str | None = None,
) -> Prompt:
    """Build the prompt and compare its fast encoding with the tokenizer's on these tasks and some rows.

    Args:
        language: see `make_prompt`.
    """
    prompt = make_prompt(own, tokenizer, language)
    prompt.verify(tasks)
    prompt.check_rows(rows[:: len(rows) // NUM_VERIFIED + 1])
    return prompt
