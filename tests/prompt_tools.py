"""What the tests of prompts share: a toy task, the prompts of conf/, tokenizers of several kinds."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from toy_grids import grid
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import build, check
from arc_experiments.config.schema import PICTURE_OPTIONS, conf_dir
from arc_experiments.prompts import Encoded, Prompt
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import Grid

TINY = Path(__file__).parents[1] / "arc_experiments" / "assets" / "tiny"
GRID_TEXTS = sorted(file.stem for file in (conf_dir() / "prompt" / "grid").glob("*.yaml"))
CHAT = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ["<|im_start|>", "<|im_end|>"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
# How Qwen2's tokenizer cuts a text before it joins bytes: single digits, a space with the word after it.
QWEN2_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


TOY = Task(
    id="toy",
    train=(
        Pair(input=grid("10", "02"), output=grid("01", "20")),
        Pair(input=grid("345"), output=grid("543")),
        Pair(input=grid("6", "7"), output=grid("7", "6")),
    ),
    test=(Pair(input=grid("89"), output=grid("98")), Pair(input=grid("0"), output=grid("1"))),
)


def shortened(num_demonstrations: int) -> Task:
    return Task(id="toy", train=TOY.train[:num_demonstrations], test=TOY.test)


def random_task(seed: int) -> Task:
    rng = np.random.default_rng(seed)

    def random_grid() -> Grid:
        return rng.integers(0, 10, rng.integers(1, 31, 2), dtype=np.uint8)

    pairs = [Pair(input=random_grid(), output=random_grid()) for _ in range(rng.integers(2, 6))]
    return Task(id=str(seed), train=tuple(pairs[1:]), test=tuple(pairs[:1]))


def make(tokenizer: PreTrainedTokenizerBase, *overrides: str, **changes: Any) -> Prompt:
    """The prompt of these overrides: `make(tokenizer, "prompt=arc24", "prompt/grid=symbols")`."""
    return Prompt(tokenizer=tokenizer, **{**prompt_options(*overrides), **changes})


@functools.cache
def prompt_options(*overrides: str) -> dict[str, Any]:
    options = dataclasses.asdict(check(compose_config(list(overrides))).prompt)
    for name in ("name", *PICTURE_OPTIONS):
        del options[name]
    return options | {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}


def learnt(encoded: Encoded, prompt: Prompt) -> list[str]:
    """The texts of the runs of tokens that have a label, which must be the tokens themselves."""
    has_label = encoded.labels != -100
    assert np.array_equal(encoded.labels[has_label], encoded.input_ids[has_label])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], has_label.astype(int), [0]])))
    return [prompt.decode(encoded.input_ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Qwen2's tokenizer with one token a byte and no merges, and a ChatML template."""
    vocabulary = {token: index for index, token in enumerate([*ALPHABET, "<|endoftext|>", *MARKS])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token=None,
        additional_special_tokens=MARKS,
    )  # fmt: skip
    tokenizer.chat_template = CHAT
    return tokenizer


@functools.cache
def word_tokenizer() -> PreTrainedTokenizerBase:
    """Make a byte-level BPE that cuts like Qwen2's: colour names are one token or two."""
    files = sorted((conf_dir() / "prompt").rglob("*.yaml"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    words = [line.replace("\\n", "\n") for line in lines if not line.startswith("#")]
    words += ["```\n\n```grid shape: \n\n\n"] * 3
    tokenizer = trained_tokenizer(words, QWEN2_CUTS)
    tokenizer.chat_template = CHAT
    return tokenizer


@functools.cache
def digit_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE trained on digits, which it joins into numbers of up to three, as Llama 3's does."""
    rng = np.random.default_rng(0)
    rows = ["".join(map(str, rng.integers(0, 10, 30))) for _ in range(200)]
    return trained_tokenizer(["\n".join(rows)], r"\p{N}{1,3}|[^\p{N}]+")


def trained_tokenizer(texts: list[str], cuts: str) -> PreTrainedTokenizerBase:
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cuts), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        initial_alphabet=ALPHABET,
        special_tokens=["<|endoftext|>", *MARKS],
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
