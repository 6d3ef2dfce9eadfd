"""Build a verified prompt for one tokenizer from the options of a `prompt` section."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from arc_experiments.config.check import build
from arc_experiments.config.schema import PromptOptions
from arc_experiments.prompts.prompt import Prompt
from arc_experiments.tasks import Row, Task

NUM_VERIFIED = 32  # real tasks and ready rows on which the fast encoding is compared with the tokenizer


def make_prompt(own: PromptOptions, tokenizer: Any) -> Prompt:
    """Build the prompt without verifying its token table."""
    options = dataclasses.asdict(own)
    del options["name"]
    options |= {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}
    return Prompt(tokenizer=tokenizer, **options)


def verified_prompt(
    own: PromptOptions, tokenizer: Any, tasks: Sequence[Task], rows: Sequence[Row] = ()
) -> Prompt:
    """Build the prompt and compare its fast encoding with the tokenizer's on these tasks and some rows."""
    prompt = make_prompt(own, tokenizer)
    prompt.verify(tasks[:NUM_VERIFIED])
    prompt.check_rows(rows[:: len(rows) // NUM_VERIFIED + 1])
    return prompt
