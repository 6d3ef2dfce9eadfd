"""Prompts: text reads back, labels are exactly where the loss is, and the table equals the tokenizer."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from prompt_tools import (
    GRID_TEXTS,
    TINY,
    TOY,
    byte_tokenizer,
    digit_tokenizer,
    grid,
    learnt,
    make,
    random_task,
    shortened,
    word_tokenizer,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from arc_experiments.prompts import Kind, UnreadableGrid
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import NUM_COLOURS

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def tiny() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture
def chatty() -> PreTrainedTokenizerBase:
    return byte_tokenizer()


@pytest.fixture
def merging() -> PreTrainedTokenizerBase:
    return digit_tokenizer()


# The prompts, literally


def assert_golden(text: str, file: str) -> None:
    assert f"{text}\n" == (GOLDEN / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("arc24", "prompt_arc24_chat.txt"),
        ("arc24_long", "prompt_arc24_long_chat.txt"),
        ("compact", "prompt_compact.txt"),
        ("framed", "prompt_framed.txt"),
    ],
)
def test_a_prompt_is_this_text(name: str, golden: str, request: pytest.FixtureRequest) -> None:
    tokenizer = "tiny" if name in ("compact", "framed") else "chatty"
    prompt = make(request.getfixturevalue(tokenizer), f"prompt={name}")
    text = prompt.decode(prompt.encode(TOY).input_ids)
    assert_golden(text, golden)
    assert text.startswith(prompt.decode(prompt.encode_prompt(TOY)))


@pytest.mark.parametrize("kind", ["input_from_inputs", "output_from_outputs"])
@pytest.mark.parametrize("name", ["arc24", "compact"])
def test_a_question_of_another_kind_is_this_text(
    name: str, kind: Kind, request: pytest.FixtureRequest
) -> None:
    prompt = make(request.getfixturevalue("tiny" if name == "compact" else "chatty"), f"prompt={name}")
    text = prompt.decode(prompt.encode(TOY, kind=kind).input_ids)
    assert_golden(text, f"prompt_{name}_{kind}.txt")


def test_three_demonstrations_fit_the_framed_prompt_and_a_fourth_is_dropped(
    tiny: PreTrainedTokenizerBase,
) -> None:
    prompt = make(tiny, "prompt=framed", "prompt.fit=drop")
    full = np.ones((10, 10), np.uint8)
    large = Pair(input=full, output=full[:7])
    three, four = (Task(id="a", train=(large,) * count, test=(large,)) for count in (3, 4))
    for task, num_dropped in ((three, 0), (four, 1)):
        fitted = prompt.fit(task)
        assert fitted is not None
        assert (len(fitted.encoded), fitted.num_dropped) == (893, num_dropped)


def test_small_grids_take_fewer_tokens_of_the_framed_prompt(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "prompt=framed", "prompt.fit=drop")
    full = np.ones((6, 6), np.uint8)
    for pair in (Pair(input=full, output=full), Pair(input=full[:3], output=full[:1, :1])):
        fitted = prompt.fit(Task(id="a", train=(pair,) * 9, test=(pair,)))
        assert fitted is not None
        assert (len(fitted.encoded), fitted.num_dropped) == (871, 0)


@pytest.mark.parametrize("name", GRID_TEXTS)
def test_a_grid_text_in_a_prompt_is_this_text(name: str, chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=arc24", f"prompt/grid={name}")
    assert_golden(prompt.decode(prompt.encode(shortened(1)).input_ids), f"prompt_grid_{name}.txt")


def test_without_a_chat_template_the_system_text_goes_first(merging: PreTrainedTokenizerBase) -> None:
    prompt = make(merging, "prompt=arc24")
    text = prompt.decode(prompt.encode_prompt(TOY))
    assert text.startswith("You are a helpful assistant.\n\nFind the rule that turns")
    assert "<|im_start|>" not in text
    assert prompt.stop_ids == (merging.eos_token_id,)


def test_the_prompt_shows_the_test_pair_asked_for_and_never_its_output(
    chatty: PreTrainedTokenizerBase,
) -> None:
    prompt = make(chatty, "prompt=arc24")
    first, second = (prompt.decode(prompt.encode_prompt(TOY, index)) for index in (0, 1))
    assert first.replace("1x2\n1 89\n", "1x1\n1 0\n") == second
    held_back = TOY.without_solutions()
    assert np.array_equal(prompt.encode_prompt(held_back, 1), prompt.encode_prompt(TOY, 1))


# Chat templates


def test_the_answer_ends_with_the_end_of_the_turn(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=arc24")
    end = chatty.convert_tokens_to_ids("<|im_end|>")
    assert prompt.encode(TOY).input_ids[-1] == end
    assert prompt.stop_ids == (end, chatty.eos_token_id)
    assert prompt.decode(prompt.encode_prompt(TOY)).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_chat_never_ignores_the_template(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=arc24", chat=False)
    text = prompt.decode(prompt.encode(TOY).input_ids)
    assert "<|im_start|>" not in text
    assert text.endswith("```<|endoftext|>")
    assert prompt.stop_ids == (chatty.eos_token_id,)


@pytest.mark.parametrize("date", ["{{ date_string }}", "{{ strftime_now('%d %b %Y') }}"])
def test_a_template_that_writes_todays_date_writes_one_that_stays(date: str) -> None:
    tokenizer = deepcopy(byte_tokenizer())
    tokenizer.chat_template = f"Today: {date}\n{tokenizer.chat_template}"
    prompt = make(tokenizer, "prompt=arc24")
    assert prompt.decode(prompt.encode_prompt(TOY)).startswith("Today: 26 Jul 2024\n")


def test_a_template_that_refuses_the_system_text_is_named_with_the_remedy() -> None:
    tokenizer = deepcopy(byte_tokenizer())
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    with pytest.raises(ValueError, match=r"\(no system role\).*prompt\.system=null.*prompt\.chat=never"):
        make(tokenizer, "prompt=arc24")
    assert make(tokenizer, "prompt=arc24", system=None).encode_prompt(TOY).size


def test_the_templates_own_tokens_are_single_tokens(chatty: PreTrainedTokenizerBase) -> None:
    ids = make(chatty, "prompt=arc24").encode_prompt(TOY)
    assert np.sum(ids == chatty.convert_tokens_to_ids("<|im_start|>")) == 3
    assert np.sum(ids == chatty.convert_tokens_to_ids("<|im_end|>")) == 2


# Labels


def test_test_output_learns_the_answer_and_its_end_and_nothing_else(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "prompt=compact", loss_on="test_output")
    encoded = prompt.encode(TOY)
    assert learnt(encoded, prompt) == ["98\n<eos>"]
    assert encoded.labels[-1] == encoded.input_ids[-1] == tiny.eos_token_id
    assert len(encoded) == len(prompt.encode_prompt(TOY)) + 4


def test_all_outputs_learns_from_the_second_demonstration_on(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "prompt=compact", loss_on="all_outputs")
    assert learnt(prompt.encode(TOY), prompt) == ["543\n<eos>", "7\n6\n<eos>", "98\n<eos>"]


def test_all_outputs_learns_shape_and_rows_of_arc24(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=arc24", loss_on="all_outputs")
    answer = "### Output\n\n```grid shape: 1x2\n1 98\n```<|im_end|>"
    assert learnt(prompt.encode(TOY), prompt) == ["1x3\n1 543\n", "2x1\n1 7\n2 6\n", answer]


def test_a_newline_that_the_tokenizer_joins_with_the_next_ones_is_not_learnt() -> None:
    prompt = make(word_tokenizer(), "prompt=arc24", "prompt/grid=minimal", loss_on="all_outputs")
    learnt_texts = learnt(prompt.encode(TOY), prompt)
    assert learnt_texts == ["543", "7\n6", "### Output\n\n98\n<|im_end|>"]
    prompt.verify([TOY])
    assert prompt.exact_table
    assert learnt(prompt.encode(TOY), prompt) == learnt_texts


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("input_from_inputs", ["345\n<eos>", "6\n7\n<eos>", "89\n<eos>"]),
        ("output_from_outputs", ["543\n<eos>", "7\n6\n<eos>", "98\n<eos>"]),
    ],
)
def test_another_kind_learns_its_own_side(
    kind: Kind, expected: list[str], tiny: PreTrainedTokenizerBase
) -> None:
    prompt = make(tiny, "prompt=compact", loss_on="all_outputs")
    assert learnt(prompt.encode(TOY, kind=kind), prompt) == expected
    prompt = make(tiny, "prompt=compact", loss_on="test_output")
    assert learnt(prompt.encode(TOY, kind=kind), prompt) == expected[-1:]


# The tokenizer itself, where the look-up table is not exact


def test_a_tokenizer_that_joins_digits_is_asked_itself(merging: PreTrainedTokenizerBase) -> None:
    prompt = make(merging, "prompt=compact", loss_on="all_outputs")
    prompt.verify([TOY])
    assert not prompt.exact_table
    assert prompt.table_refused == "the tokenizer merges text over the edges of cells"
    encoded = prompt.encode(TOY)
    text = "I10\n02\nO01\n20\n<E>I345\nO543\n<E>I6\n7\nO7\n6\n<E>I89\nO98\n".replace("<E>", merging.eos_token)
    assert prompt.decode(encoded.input_ids[:-1]) == text
    assert encoded.input_ids[:-1].tolist() == merging(text)["input_ids"]
    assert len(encoded) < len(text), "digits were joined"
    assert learnt(encoded, prompt) == [f"{rows}\n<|endoftext|>" for rows in ("543", "7\n6", "98")]


def test_a_prompt_that_the_tokenizer_cannot_write_is_refused(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "prompt=arc24")
    with pytest.raises(ValueError, match="cannot write this prompt") as raised:
        prompt.verify([TOY])
    assert "prompt=compact" in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["prompt/grid=separated"], ["without '|'", "I1|0", "comes back as '<bos>I10"]),
        (["prompt/grid=symbols"], ["without 'æëðñòõøûþÿ'"]),
        (["prompt/grid=row_numbers"], ["without ' '", "'1 98", "comes back as '198"]),
        (["prompt.grid.separator=' '"], ["without ' '", "'9 8", "comes back as '98"]),
    ],
)
def test_a_grid_text_that_the_tokenizer_cannot_write_is_refused(
    changes: list[str], expected: list[str], tiny: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ValueError, match=r"cannot write this prompt.*prompt/grid=minimal") as raised:
        make(tiny, "prompt=compact", *changes).verify([TOY])
    assert [part for part in expected if part not in str(raised.value)] == [], raised.value


def test_a_tokenizer_without_an_end_is_refused(merging: PreTrainedTokenizerBase) -> None:
    endless = PreTrainedTokenizerFast(tokenizer_object=merging.backend_tokenizer)
    with pytest.raises(ValueError, match="no end-of-text token"):
        make(endless, "prompt=compact")


# Fitting


@pytest.mark.parametrize("verified", [True, False], ids=["by table", "by tokenizer"])
def test_demonstrations_are_dropped_from_the_end_until_it_fits(
    verified: bool, tiny: PreTrainedTokenizerBase
) -> None:
    lengths = [len(make(tiny, "prompt=compact").encode(shortened(number))) for number in (3, 2, 1)]
    assert lengths == sorted(lengths, reverse=True)
    for dropped, length in enumerate(lengths):
        prompt = make(tiny, "prompt=compact", max_length=length)
        if verified:
            prompt.verify([TOY])
        fitted = prompt.fit(TOY, 0)
        assert fitted is not None
        assert (fitted.num_dropped, len(fitted.encoded)) == (dropped, length)
        assert (fitted.task.train, fitted.task.test) == (TOY.train[: 3 - dropped], TOY.test)
        assert fitted.encoded.equals(prompt.encode(shortened(3 - dropped)))
    too_short = make(tiny, "prompt=compact", max_length=lengths[-1] - 1)
    assert too_short.fit(TOY, 0) is None


@pytest.mark.parametrize("tokenizer", [byte_tokenizer, word_tokenizer, digit_tokenizer])
@pytest.mark.parametrize("with_answer", [True, False])
def test_as_few_demonstrations_are_dropped_as_it_takes(
    with_answer: bool, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> None:
    """Colour names are one to eight tokens long by the table of these."""
    longest = make(tokenizer(), "prompt=arc24", "prompt/grid=colour_names")
    longest.verify([TOY])
    for seed in range(6):
        task = random_task(seed)
        lengths = [
            len(longest.encode(shorter(task, number), with_answer=with_answer))
            for number in range(1, len(task.train) + 1)
        ]
        for limit in {*lengths, *(length - 1 for length in lengths)}:
            longest.max_length = limit
            fitted = longest.fit(task, with_answer=with_answer)
            kept = sum(length <= limit for length in lengths)
            assert (len(fitted.task.train) if fitted else 0) == kept
            assert fitted is None or len(fitted.encoded) == lengths[kept - 1]


def shorter(task: Task, num_demonstrations: int) -> Task:
    return Task(id=task.id, train=task.train[:num_demonstrations], test=task.test)


def test_fitting_a_prompt_alone_needs_no_answer(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "prompt=compact")
    fitted = prompt.fit(TOY.without_solutions(), 0, with_answer=False)
    assert fitted is not None
    assert np.array_equal(fitted.encoded.input_ids, prompt.encode_prompt(TOY))
    assert fitted.encoded.num_prompt == len(fitted.encoded)


# Samples


def test_the_main_kind_alone_is_drawn_unless_others_have_a_weight(tiny: PreTrainedTokenizerBase) -> None:
    prompt = make(tiny, "prompt=compact")
    drawn = [prompt.sample(TOY, np.random.default_rng(seed)) for seed in range(50)]
    assert {sample.kind for sample in drawn if sample} == {"output_from_examples"}
    assert {sample.test_index for sample in drawn if sample} == {0, 1}


def test_kinds_are_drawn_by_weight(tiny: PreTrainedTokenizerBase) -> None:
    weights = {"output_from_examples": 2, "input_from_inputs": 1, "output_from_outputs": 1}
    prompt = make(tiny, "prompt=compact", kinds=weights)
    prompt.verify([TOY])
    rng = np.random.default_rng(0)
    drawn = [prompt.sample(TOY, rng) for _ in range(2000)]
    counts = Counter(sample.kind for sample in drawn if sample)
    assert counts.keys() == weights.keys()
    for kind, weight in weights.items():
        assert abs(counts[kind] / 2000 - weight / 4) < 0.04
    for sample in drawn[:50]:
        assert sample is not None
        assert sample.encoded.equals(prompt.encode(TOY, sample.test_index, kind=sample.kind))


def test_a_sample_is_the_rngs_alone_and_takes_as_much_of_it_for_any_weights(
    tiny: PreTrainedTokenizerBase,
) -> None:
    main = make(tiny, "prompt=compact")
    mixed = make(tiny, "prompt=compact", "prompt.kinds.input_from_inputs=1")
    for seed in range(20):
        rngs = [np.random.default_rng(seed) for _ in range(3)]
        one, again, other = (
            prompt.sample(TOY, rng) for prompt, rng in zip((mixed, mixed, main), rngs, strict=True)
        )
        assert one is not None
        assert again is not None
        assert other is not None
        assert one.encoded.equals(again.encoded)
        assert one.test_index == other.test_index
        assert rngs[0].random() == rngs[2].random()


def test_fit_redraw_gives_no_sample_that_lost_demonstrations(tiny: PreTrainedTokenizerBase) -> None:
    length = len(make(tiny, "prompt=compact").encode(TOY))
    rng = np.random.default_rng(0)
    held = (Pair(input=grid("89"), output=grid("98")),)
    task = Task(id="toy", train=TOY.train, test=held)
    for fit, limit, found in (
        ("drop", length - 1, True),
        ("redraw", length - 1, False),
        ("redraw", length, True),
    ):
        prompt = make(tiny, "prompt=compact", f"prompt.fit={fit}", max_length=limit)
        assert (prompt.sample(task, rng) is not None) == found
    validating = make(tiny, "prompt=compact", "prompt.fit=redraw", max_length=length - 1).fit(task)
    assert validating is not None
    assert validating.num_dropped == 1, "what is validated is never redrawn"


# Reading


@pytest.mark.parametrize("name", GRID_TEXTS)
@pytest.mark.parametrize("prompt_name", ["arc24", "compact"])
def test_a_right_answer_reads_back_as_its_grid(
    name: str, prompt_name: str, chatty: PreTrainedTokenizerBase
) -> None:
    prompt = make(chatty, f"prompt={prompt_name}", f"prompt/grid={name}")
    prompt.verify([])
    for seed in range(10):
        task = random_task(seed)
        answer = prompt.encode(task).input_ids[len(prompt.encode_prompt(task)) : -1]
        assert np.array_equal(prompt.read(prompt.decode(answer)), task.test[0].output)
        assert len(answer) + 1 <= prompt.longest_answer()


def test_the_longest_answer_is_that_of_the_largest_grid(tiny: PreTrainedTokenizerBase) -> None:
    assert make(tiny, "prompt=compact").longest_answer() == 30 * 31 + 1


@pytest.mark.parametrize("tokenizer", [byte_tokenizer, word_tokenizer, digit_tokenizer])
@pytest.mark.parametrize("name", GRID_TEXTS)
def test_the_longest_answer_is_in_the_colour_with_the_longest_text(
    name: str, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> None:
    prompt = make(tokenizer(), "prompt=arc24", f"prompt/grid={name}")
    prompt.verify([])
    one = grid("0")
    lengths = []
    for colour in range(NUM_COLOURS):
        pair = Pair(input=one, output=np.full((30, 30), colour, np.uint8))
        encoded = prompt.encode(Task(id="", train=(Pair(input=one, output=one),), test=(pair,)))
        lengths.append(len(encoded) - encoded.num_prompt)
    if prompt.exact_table:
        assert prompt.longest_answer() == max(lengths)
    else:
        assert prompt.longest_answer() >= max(lengths)


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
        make(chatty, "prompt=arc24").read(text)
    assert raised.value.reason == reason
