"""The look-up table equals the tokenizer for every grid text, kind of question and symmetry."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from prompt_tools import (
    GRID_TEXTS,
    TINY,
    TOY,
    byte_tokenizer,
    digit_tokenizer,
    make,
    random_task,
    word_tokenizer,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from arc_experiments.augmentation.augmentations import SYMMETRIES, Symmetry
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import build, check
from arc_experiments.config.schema import conf_dir
from arc_experiments.prompts import KINDS, GridText, Kind, Prompt
from arc_experiments.prompts.kinds import PROGRAM_KINDS
from arc_experiments.prompts.tokens import probe_tasks
from arc_experiments.tasks import BadTasks, Task

GRID_KINDS = [kind for kind in KINDS if kind not in PROGRAM_KINDS]
ALL_KINDS = dict.fromkeys(GRID_KINDS, 1.0)
TOKENIZERS = [byte_tokenizer, word_tokenizer]


@cache
def real_tokenizer() -> PreTrainedTokenizerBase:
    """The one in the folder that ARC_TEST_TOKENIZER names, such as Qwen2's."""
    return AutoTokenizer.from_pretrained(os.environ["ARC_TEST_TOKENIZER"])


needs_real = pytest.mark.skipif(
    "ARC_TEST_TOKENIZER" not in os.environ, reason="ARC_TEST_TOKENIZER names no tokenizer's folder"
)


def assert_equal(prompt: Prompt, asked: Prompt, task: Task, kind: Kind) -> None:
    """`prompt` writes by table what `asked`, which was not verified, asks the tokenizer for."""
    assert prompt.encode(task, kind=kind).equals(asked.encode(task, kind=kind))
    prompt_alone = prompt.encode(task, kind=kind, with_answer=False)
    assert prompt_alone.equals(asked.encode(task, kind=kind, with_answer=False))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", ["arc24", "compact"])
@pytest.mark.parametrize("grid_text", GRID_TEXTS)
def test_the_table_equals_the_tokenizer(
    grid_text: str, name: str, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> None:
    overrides = [f"prompt={name}", f"prompt/grid={grid_text}"]
    prompt, asked = (make(tokenizer(), *overrides, loss_on="all_outputs", kinds=ALL_KINDS) for _ in range(2))
    prompt.verify([])
    assert (prompt.exact_table, prompt.table_refused) == (True, None)
    for task in (TOY, *map(random_task, range(3))):
        for kind in GRID_KINDS:
            assert_equal(prompt, asked, task, kind)


def test_the_shipped_tokenizers_table_is_exact() -> None:
    tiny = AutoTokenizer.from_pretrained(TINY)
    prompt, asked = (make(tiny, "prompt=compact", kinds=ALL_KINDS) for _ in range(2))
    prompt.verify([])
    assert prompt.exact_table
    for task, kind in itertools.product(map(random_task, range(10)), GRID_KINDS):
        assert_equal(prompt, asked, task, kind)
        whole = prompt.encode(task, kind=kind).input_ids
        assert tiny(prompt.decode(whole), add_special_tokens=False)["input_ids"] == whole.tolist()


def fragment(name: str) -> dict[str, Any]:
    """What an option of prompt/grid sets."""
    options = OmegaConf.to_container(OmegaConf.load(conf_dir() / "prompt" / "grid" / f"{name}.yaml"))
    assert isinstance(options, dict)
    return {str(key): options[key] for key in options if key not in ("_target_", "defaults")}


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    grids=st.sets(st.sampled_from(GRID_TEXTS)),
    separator=st.sampled_from(["", " ", ",", ", ", "|"]),
    tokenizer=st.sampled_from([*TOKENIZERS, digit_tokenizer]),
)
def test_any_combination_is_what_the_tokenizer_says(
    seed: int, grids: set[str], separator: str, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> None:
    """Exact by table, or refused and asked for: either way the tokens are the tokenizer's."""
    options: dict[str, Any] = {"separator": separator}
    for name in sorted(grids):
        options |= fragment(name)
    if "colour_names" in grids:  # which need the separator that they name
        options["separator"] = " "
    if "repeated_digits" in grids and options.get("frames"):  # whose cells another option may have replaced
        options["fill"] = "." * len(options["cells"][0])
    form = GridText(**options)
    prompt, asked = (make(tokenizer(), "prompt=compact", grid=form) for _ in range(2))
    prompt.verify([])
    joins = (digit_tokenizer, word_tokenizer) if "framed" in grids else (digit_tokenizer,)
    if tokenizer not in joins:
        assert prompt.exact_table
    assert_equal(prompt, asked, random_task(seed), "output_from_examples")


def test_a_tokenizer_that_joins_digits_gets_no_table_but_where_digits_stand_apart() -> None:
    exact = {}
    for grid_text in GRID_TEXTS:
        prompt = make(digit_tokenizer(), "prompt=arc24", f"prompt/grid={grid_text}")
        prompt.verify([])
        exact[grid_text] = prompt.exact_table
        assert (prompt.table_refused is None) == prompt.exact_table
    assert {name for name in exact if exact[name]} == {
        "separated",
        "symbols",
        "colour_names",
        "repeated_digits",
    }


def test_a_kind_that_was_not_verified_asks_the_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = make(byte_tokenizer(), "prompt=compact")
    prompt.verify([TOY])
    monkeypatch.setattr(
        prompt._encoders.table, "write", lambda fixed, grids: pytest.fail("the table was used")
    )
    prompt.encode(TOY, kind="input_from_inputs")


def test_the_made_tasks_hold_every_size_and_every_three_colours_in_a_row() -> None:
    grids = [
        grid
        for task in probe_tasks()
        for pair in (*task.train, *task.test)
        for grid in (pair.input, pair.output)
        if grid is not None
    ]
    assert {len(grid) for grid in grids} == {grid.shape[1] for grid in grids} == set(range(1, 31))
    seen = {
        tuple(row[place : place + 3])
        for grid in grids
        for row in grid.tolist()
        for place in range(len(row) - 2)
    }
    assert len(seen) == 1000


# Every task of ARC-AGI-1, in all eight symmetries


@cache
def real_tasks() -> list[Task]:
    return list(build(check(compose_config(["data=arc1"])).data.source).read(BadTasks()).fixed)


def differing(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task]) -> Iterator[str]:
    """Tasks whose tokens by table are not the tokenizer's, asked for many texts at once."""
    for kind in GRID_KINDS:
        encoders = [prompt._encoders.of(task, kind) for task in tasks]
        texts = [
            text
            for encoder, task in zip(encoders, tasks, strict=True)
            for text in encoder.texts([*task.train, task.test[-1]])
        ]
        truth = [
            encoded.ids
            for encoded in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]
        for place, task in enumerate(tasks):
            encoded = prompt.encode(task, len(task.test) - 1, kind=kind)
            parts = np.split(encoded.input_ids[:-1], [encoded.num_prompt])
            if [part.tolist() for part in parts] != truth[2 * place : 2 * place + 2]:
                yield f"{task.id} {kind}"


def assert_exact_on_all_tasks(tokenizer: PreTrainedTokenizerBase, grid_text: str) -> None:
    """Check each task in one of the eight symmetries, in turn: every symmetry sees a hundred tasks."""
    prompt = make(tokenizer, "prompt=arc24", f"prompt/grid={grid_text}", kinds=ALL_KINDS)
    prompt.verify([])
    assert prompt.exact_table
    tasks = real_tasks()
    assert len(tasks) == 800
    seen = [Symmetry(number % len(SYMMETRIES)).apply(task) for number, task in enumerate(tasks)]
    for start in range(0, len(tasks), 100):
        assert list(differing(prompt, tokenizer, seen[start : start + 100])) == []


@pytest.mark.slow
@pytest.mark.parametrize("grid_text", GRID_TEXTS)
def test_the_table_equals_the_tokenizer_on_every_task_the_symmetries_in_turn(grid_text: str) -> None:
    assert_exact_on_all_tasks(word_tokenizer(), grid_text)


@needs_real
@pytest.mark.slow
@pytest.mark.parametrize("grid_text", [name for name in GRID_TEXTS if name != "framed"])
def test_a_real_tokenizers_table_is_exact_on_every_task_the_symmetries_in_turn(grid_text: str) -> None:
    assert_exact_on_all_tasks(real_tokenizer(), grid_text)


@needs_real
@pytest.mark.parametrize("grid_text", GRID_TEXTS)
def test_a_real_tokenizer_agrees_on_made_tasks(grid_text: str) -> None:
    prompt, asked = (
        make(
            real_tokenizer(),
            "prompt=arc24",
            f"prompt/grid={grid_text}",
            loss_on="all_outputs",
            kinds=ALL_KINDS,
        )
        for _ in range(2)
    )
    tasks = [random_task(number) for number in range(3)]
    prompt.verify(tasks)
    assert prompt.exact_table == (grid_text != "framed"), "it joins what fills a frame"
    for task, kind in itertools.product(tasks, GRID_KINDS):
        assert_equal(prompt, asked, task, kind)
