"""Prompts: text that reads back, labels exactly where the loss looks, and a table that equals the tokenizer."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

from arc_experiments.checking import build, check
from arc_experiments.composing import compose_config
from arc_experiments.grids import Grid
from arc_experiments.prompts import Encoded, GridText, Prompt, UnreadableGrid
from arc_experiments.tasks import Pair, Task

HERE = Path(__file__).parent
TINY = HERE.parent / "arc_experiments" / "assets" / "tiny"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["black", "blue", "red", "green", "yellow", "grey", "pink", "orange", "cyan", "brown"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def grid(*rows: str) -> Grid:
    return np.array([list(map(int, row)) for row in rows], np.uint8)


TOY = Task(
    id="toy",
    train=(
        Pair(input=grid("10", "02"), output=grid("01", "20")),
        Pair(input=grid("345"), output=grid("543")),
        Pair(input=grid("6", "7"), output=grid("7", "6")),
    ),
    test=(Pair(input=grid("89"), output=grid("98")), Pair(input=grid("0"), output=grid("1"))),
)


@pytest.fixture(scope="module")
def tiny() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def chatty() -> PreTrainedTokenizerBase:
    """Qwen2's tokenizer with one token a byte and no merges, and a ChatML template."""
    marks = ["<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*ALPHABET, "<|endoftext|>", *marks])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token=None,
        additional_special_tokens=marks,
    )  # fmt: skip
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="module")
def merging() -> PreTrainedTokenizerBase:
    """A tokenizer that joins the digits 1 and 0 into one token, as Llama's does."""
    vocabulary = {token: index for index, token in enumerate([*ALPHABET, "10", "<e>"])}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "0")]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<e>")


def make(tokenizer: PreTrainedTokenizerBase, name: str, **changes: Any) -> Prompt:
    """The prompt of conf/prompt/<name>.yaml."""
    return Prompt(tokenizer=tokenizer, **{**prompt_options(name), **changes})


@functools.cache
def prompt_options(name: str) -> dict[str, Any]:
    options = dataclasses.asdict(check(compose_config([f"prompt={name}"])).prompt)
    del options["name"]
    return options | {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}


def learnt(encoded: Encoded, prompt: Prompt) -> list[str]:
    """The texts of the runs of tokens that have a label, which must be the tokens themselves."""
    has_label = encoded.labels != -100
    assert np.array_equal(encoded.labels[has_label], encoded.input_ids[has_label])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], has_label.astype(int), [0]])))
    return [prompt.decode(encoded.input_ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


# The two prompts, literally


@pytest.mark.parametrize(
    ("name", "golden"), [("arc24", "prompt_arc24_chat.txt"), ("compact", "prompt_compact.txt")]
)
def test_a_prompt_is_this_text(name: str, golden: str, request: pytest.FixtureRequest) -> None:
    prompt = make(request.getfixturevalue("chatty" if name == "arc24" else "tiny"), name)
    text = prompt.decode(prompt.encode(TOY).input_ids)
    assert text + "\n" == (HERE / "golden" / golden).read_text(encoding="utf-8")
    assert text.startswith(prompt.decode(prompt.encode_prompt(TOY)))


def test_without_a_chat_template_the_system_text_goes_first(merging: PreTrainedTokenizerBase) -> None:
    prompt = make(merging, "arc24")
    text = prompt.decode(prompt.encode_prompt(TOY))
    assert text.startswith("You are a helpful assistant.\n\nFind the rule that turns")
    assert "<|im_start|>" not in text
    assert prompt.stop_ids == (merging.eos_token_id,)


def test_the_prompt_shows_the_test_pair_asked_for_and_never_its_output(
    chatty: PreTrainedTokenizerBase,
) -> None:
    prompt = make(chatty, "arc24")
    first, second = (prompt.decode(prompt.encode_prompt(TOY, index)) for index in (0, 1))
    assert first.replace("1x2\n1 89\n", "1x1\n1 0\n") == second
    held_back = TOY.without_solutions()
    assert np.array_equal(prompt.encode_prompt(held_back, 1), prompt.encode_prompt(TOY, 1))


# Chat templates


def test_the_answer_ends_with_the_end_of_the_turn(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "arc24")
    end = chatty.convert_tokens_to_ids("<|im_end|>")
    assert prompt.encode(TOY).input_ids[-1] == end
    assert prompt.stop_ids == (end, chatty.eos_token_id)
    assert prompt.decode(prompt.encode_prompt(TOY)).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_chat_never_ignores_the_template(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "arc24", chat=False)
    text = prompt.decode(prompt.encode(TOY).input_ids)
    assert "<|im_start|>" not in text
    assert text.endswith("```<|endoftext|>")
    assert prompt.stop_ids == (chatty.eos_token_id,)


def test_the_templates_own_tokens_are_single_tokens(chatty: PreTrainedTokenizerBase) -> None:
    ids = make(chatty, "arc24").encode_prompt(TOY)
    assert np.sum(ids == chatty.convert_tokens_to_ids("<|im_start|>")) == 3
    assert np.sum(ids == chatty.convert_tokens_to_ids("<|im_end|>")) == 2


# Labels


def test_test_output_learns_the_answer_and_its_end_and_nothing_else(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "compact", loss_on="test_output")
    encoded = prompt.encode(TOY)
    assert learnt(encoded, prompt) == ["98\n<eos>"]
    assert encoded.labels[-1] == encoded.input_ids[-1] == tiny.eos_token_id
    assert len(encoded) == len(prompt.encode_prompt(TOY)) + 4


def test_all_outputs_learns_from_the_second_demonstration_on(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "compact", loss_on="all_outputs")
    assert learnt(prompt.encode(TOY), prompt) == ["543\n", "7\n6\n", "98\n<eos>"]


def test_all_outputs_learns_shape_and_rows_of_arc24(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "arc24", loss_on="all_outputs")
    answer = "### Output\n\n```grid shape: 1x2\n1 98\n```<|im_end|>"
    assert learnt(prompt.encode(TOY), prompt) == ["1", "3", "1 543\n", "2", "1", "1 7\n2 6\n", answer]


# The look-up table and the tokenizer


@pytest.mark.parametrize("loss_on", ["test_output", "all_outputs"])
@pytest.mark.parametrize("name", ["compact", "arc24"])
def test_the_table_equals_the_tokenizer(name: str, loss_on: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue("chatty" if name == "arc24" else "tiny")
    by_tokenizer = make(tokenizer, name, loss_on=loss_on)
    by_table = make(tokenizer, name, loss_on=loss_on)
    by_table.verify([TOY])
    assert (by_table.exact_table, by_table.table_refused) == (True, None)
    assert not by_tokenizer.exact_table
    for seed in range(20):
        task = random_task(seed)
        slow, fast = by_tokenizer.encode(task), by_table.encode(task)
        assert np.array_equal(slow.input_ids, fast.input_ids)
        assert np.array_equal(slow.labels, fast.labels)
        assert np.array_equal(by_tokenizer.encode_prompt(task), by_table.encode_prompt(task))
        whole = tokenizer(by_table.decode(fast.input_ids), add_special_tokens=False)["input_ids"]
        assert whole == fast.input_ids.tolist()


def random_task(seed: int) -> Task:
    rng = np.random.default_rng(seed)

    def random_grid() -> Grid:
        return rng.integers(0, 10, rng.integers(1, 31, 2), dtype=np.uint8)

    pairs = [Pair(input=random_grid(), output=random_grid()) for _ in range(rng.integers(2, 6))]
    return Task(id=str(seed), train=tuple(pairs[1:]), test=tuple(pairs[:1]))


def test_a_tokenizer_that_joins_digits_is_asked_itself(merging: PreTrainedTokenizerBase) -> None:
    prompt = make(merging, "compact", loss_on="all_outputs")
    prompt.verify([TOY])
    assert not prompt.exact_table
    assert prompt.table_refused == "the tokenizer merges text over the edges of cells"
    encoded = prompt.encode(TOY)
    text = "I10\n02\nO01\n20\nI345\nO543\nI6\n7\nO7\n6\nI89\nO98\n"
    assert prompt.decode(encoded.input_ids[:-1]) == text
    assert encoded.input_ids[:-1].tolist() == merging(text)["input_ids"]
    assert learnt(encoded, prompt) == ["543\n", "7\n6\n", "98\n<e>"]


def test_a_table_is_refused_where_cells_have_different_lengths(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "compact", grid=GridText(cells=WORDS, separator=" "))
    prompt.verify([TOY])
    assert not prompt.exact_table
    assert prompt.table_refused == "cells are not of equal length in tokens"
    assert learnt(prompt.encode(TOY), prompt)[-1] == "brown cyan\n<|endoftext|>"


def test_a_prompt_that_the_tokenizer_cannot_write_is_refused(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "arc24")
    with pytest.raises(ValueError, match="cannot write this prompt") as raised:
        prompt.verify([TOY])
    assert "prompt=compact" in str(raised.value)


def test_a_tokenizer_without_an_end_is_refused(merging: PreTrainedTokenizerBase) -> None:
    endless = PreTrainedTokenizerFast(tokenizer_object=merging.backend_tokenizer)
    with pytest.raises(ValueError, match="no end-of-text token"):
        make(endless, "compact")


# Fitting and reading


def test_demonstrations_are_dropped_from_the_end_until_it_fits(tiny: PreTrainedTokenizerBase) -> None:
    lengths = [len(make(tiny, "compact").encode(shortened(number))) for number in (3, 2, 1)]
    assert lengths == sorted(lengths, reverse=True)
    for dropped, length in enumerate(lengths):
        prompt = make(tiny, "compact", max_length=length)
        fitted = prompt.fit(TOY, 0, prompt.encode)
        assert fitted is not None
        encoded, task, num_dropped = fitted
        assert num_dropped == dropped
        assert len(encoded) == length
        assert task.train == TOY.train[: 3 - dropped]
        assert task.test == TOY.test
    too_short = make(tiny, "compact", max_length=lengths[-1] - 1)
    assert too_short.fit(TOY, 0, too_short.encode) is None


def shortened(num_demonstrations: int) -> Task:
    return Task(id="toy", train=TOY.train[:num_demonstrations], test=TOY.test)


def test_fitting_a_prompt_alone_needs_no_answer(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "compact")
    fitted = prompt.fit(TOY.without_solutions(), 0, prompt.encode_prompt)
    assert fitted is not None
    assert np.array_equal(fitted[0], prompt.encode_prompt(TOY))


@pytest.mark.parametrize("name", ["arc24", "compact"])
def test_a_right_answer_reads_back_as_its_grid(name: str, chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, name)
    for seed in range(20):
        task = random_task(seed)
        answer = prompt.encode(task).input_ids[len(prompt.encode_prompt(task)) : -1]
        assert np.array_equal(prompt.read(prompt.decode(answer)), task.test[0].output)
        assert len(answer) + 1 <= prompt.longest_answer()


def test_the_longest_answer_is_that_of_the_largest_grid(tiny: PreTrainedTokenizerBase) -> None:
    assert make(tiny, "compact").longest_answer() == 30 * 31 + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("I do not know", "no_grid"),
        ("### Output\n\n", "empty"),
        ("### Output\n\n1 0", "no_grid"),
        ("### Output\n\n```grid shape: 1x1\n1 0\n", "unclosed"),
        ("### Output\n\n```grid shape: 1x2\n1 0\n```", "wrong_shape"),
    ],
)
def test_an_answer_in_another_form_is_refused_with_the_reason(
    text: str, reason: str, chatty: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(UnreadableGrid) as raised:
        make(chatty, "arc24").read(text)
    assert raised.value.reason == reason
