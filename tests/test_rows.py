"""Ready rows as tokens: what is read, what is learnt, and what a tokenizer or a chat template refuses."""

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import PartialState
from hypothesis import given
from hypothesis import strategies as st
from toy_models import byte_tokenizer, joining_tokenizer, load, settings

from arc_experiments.prompts import IGNORED, Encoded, GridText, Prompt
from arc_experiments.tasks.ready_rows import Row, parse_row
from arc_experiments.training.validation import make_records, validation_loss

BYTES, JOINING = byte_tokenizer(), joining_tokenizer()


def prompt_of(tokenizer: Any, *, chat: bool = True, max_length: int = 200) -> Prompt:
    return Prompt(
        tokenizer=tokenizer, grid=GridText(), system="Be short.", introduction="",
        demonstration="I{input}O{output}",
        question="I{input}O", answer="{output}", loss_on="test_output", chat=chat, max_length=max_length,
    )  # fmt: skip


def row(**content: Any) -> Row:
    return parse_row(content, split="", where="here")


def encode(tokenizer: Any, chat: bool = True, **content: Any) -> Encoded:
    fitted = prompt_of(tokenizer, chat=chat).fit_row(row(**content))
    assert fitted is not None
    return fitted.encoded


def both(tokenizer: Any, encoded: Encoded) -> tuple[str, list[str]]:
    """The whole text, and the runs of it that are learnt."""
    learnt, runs = encoded.labels != IGNORED, []
    for place in np.flatnonzero(learnt):
        if place == 0 or not learnt[place - 1]:
            runs.append([])
        runs[-1].append(encoded.input_ids[place])
    assert np.array_equal(encoded.labels[learnt], encoded.input_ids[learnt])
    return tokenizer.decode(encoded.input_ids), [tokenizer.decode(ids) for ids in runs]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_all_of_a_text_is_learnt_but_its_first_token() -> None:
    assert both(BYTES, encode(BYTES, text="abc")) == ("abc<|im_end|>", ["bc<|im_end|>"])
    assert both(JOINING, encode(JOINING, text="abc")) == ("<|begin|>abc<|end|>", ["abc<|end|>"])


def test_marks_that_a_text_has_already_are_not_written_twice() -> None:
    assert both(JOINING, encode(JOINING, text="<|begin|>abc<|end|>\n"))[0] == "<|begin|>abc<|end|>\n"


def test_of_a_prompt_with_completion_the_completion_is_learnt() -> None:
    encoded = encode(JOINING, prompt="12", completion="3")  # which are one token together, or apart
    assert both(JOINING, encoded) == ("<|begin|>123<|end|>", ["3<|end|>"])
    assert encoded.num_prompt == 2
    assert both(JOINING, encode(JOINING, prompt="", completion="3"))[1] == ["3<|end|>"]


@pytest.mark.parametrize("chat", [True, False])
def test_of_messages_all_that_the_assistant_says_is_learnt(chat: bool) -> None:
    messages = [
        said("user", "one"),
        said("assistant", "two\n"),
        said("user", "three"),
        said("assistant", "four"),
    ]
    text, learnt = both(BYTES, encode(BYTES, chat, messages=[*messages, said("user", "five")]))
    assert text == (
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\ntwo\n<|im_end|>\n"
        "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\nfour<|im_end|>"
    )
    assert learnt == ["two\n<|im_end|>", "four<|im_end|>"]
    given = encode(BYTES, prompt=messages[:3], completion=messages[3:])
    assert both(BYTES, given) == (text, ["four<|im_end|>"])


def test_tokens_are_taken_as_they_are() -> None:
    encoded = encode(BYTES, input_ids=[9, 8, 7], labels=[-100, 8, -100])
    assert (encoded.input_ids.tolist(), encoded.labels.tolist()) == ([9, 8, 7], [IGNORED, 8, IGNORED])
    assert encode(BYTES, input_ids=np.array([9, 8])).labels.tolist() == [IGNORED, 8]


PROMPT = prompt_of(BYTES)


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_any_text_comes_back_as_the_tokenizer_gives_it_back(text: str) -> None:
    fitted = PROMPT.fit_row(row(text=text))
    assert fitted is not None
    back = BYTES.decode(BYTES(text)["input_ids"])
    assert both(BYTES, fitted.encoded)[0] == f"{back}<|im_end|>"


@pytest.mark.parametrize(
    ("tokenizer", "content", "message"),
    [
        (JOINING, {"messages": [said("user", "a"), said("assistant", "b")]}, r"does not have: write prompt"),
        (BYTES, {"input_ids": [5, 600]}, r"has the token 600, but this model's tokenizer has 2\d\d"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_is_refused(
    tokenizer: Any, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_of(tokenizer).fit_row(row(**content))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system') }}", r"refuses messages of user: no system"),
        ("{% for m in messages %}{{ loop.length }}{{ m.content }};{% endfor %}", r"changes earlier turns"),
    ],
)  # fmt: skip
def test_a_chat_template_that_cannot_write_the_messages_is_refused(template: str, message: str) -> None:
    tokenizer = byte_tokenizer()
    prompt = prompt_of(tokenizer, chat=False)
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=message):
        prompt.fit_row(row(messages=[said("user", "a"), said("assistant", "b")]))


def test_the_validation_loss_of_rows_is_over_their_learnt_tokens_alone(base: Any) -> None:
    prompt, model = prompt_of(BYTES), load(settings(base), trainable=False)
    talk = [said("user", "hi"), said("assistant", "yes"), said("user", "more"), said("assistant", "no")]
    rows = [row(text="abc"), row(prompt="1+1=", completion="2"), row(messages=talk), row(text="x" * 300)]
    records, too_long = make_records(rows, prompt, {each.id: "mine" for each in rows})
    assert (len(records), too_long) == (3, 1)
    expected = {}
    for each in rows[:3]:
        encoded = prompt.fit_row(each).encoded
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor(encoded.input_ids)[None].long()).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits, torch.tensor(encoded.labels[1:]).long(), reduction="none", ignore_index=IGNORED
        )
        expected[each.id] = float(losses.double().sum()) / int((encoded.labels[1:] != IGNORED).sum())
    for size in (1, 3):
        loss = validation_loss(
            model,
            records,
            num_too_long=too_long,
            pad_id=prompt.pad_id,
            batch_size=size,
            processes=PartialState(),
        )
        assert loss.by_task == pytest.approx(expected, abs=1e-5)
        assert loss.num_tokens == sum(record.num_counted for record in records) == 3 + 2 + 4 + 3
