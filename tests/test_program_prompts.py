"""Prompts that ask for programs: the text, its labels, its tokens, and reading an answer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prompt_tools import TOY, byte_tokenizer, digit_tokenizer, learnt, make, word_tokenizer
from toy_grids import grid
from transformers import PreTrainedTokenizerBase

from arc_experiments.programs.languages import UnreadableProgram
from arc_experiments.prompts import Kind, Prompt
from arc_experiments.prompts.kinds import PROGRAM_KINDS
from arc_experiments.prompts.prompt import LONGEST_PROGRAM
from arc_experiments.sources import Drawings
from arc_experiments.tasks import Pair, Program, Task

GOLDEN = Path(__file__).parent / "golden"
PROGRAM = Program(language="draw", text="rect(3,0,0,1,1)\npixel(5,1,0)")
DRAWN = Task(
    id="drawn",
    train=(
        Pair(input=grid("111", "111"), output=grid("331", "531")),
        Pair(input=grid("222", "222"), output=grid("332", "532")),
    ),
    test=(Pair(input=grid("444", "444"), output=grid("334", "534")),),
    program=PROGRAM,
)
BOTH = {"output_from_examples": 1.0, "program_from_examples": 2.0, "output_from_program": 1.0}
TOKENIZERS = [byte_tokenizer, word_tokenizer, digit_tokenizer]


def drawings(count: int) -> list[Task]:
    source = Drawings()
    return [source.draw(seed % len(source.ids), np.random.default_rng(seed)) for seed in range(count)]


@pytest.fixture
def chatty() -> PreTrainedTokenizerBase:
    return byte_tokenizer()


# The text


@pytest.mark.parametrize("name", ["program", "program_compact"])
@pytest.mark.parametrize("kind", PROGRAM_KINDS)
def test_a_question_about_programs_is_this_text(
    kind: Kind, name: str, chatty: PreTrainedTokenizerBase
) -> None:
    prompt = make(chatty, f"prompt={name}")
    text = prompt.decode(prompt.encode(DRAWN, kind=kind).input_ids)
    assert f"{text}\n" == (GOLDEN / f"prompt_{name}_{kind}.txt").read_text(encoding="utf-8")
    asked = prompt.encode(DRAWN, kind=kind, with_answer=False)
    assert text.startswith(prompt.decode(asked.input_ids))


def test_one_program_is_asked_for_the_whole_task_unless_the_question_shows_the_test_input(
    chatty: PreTrainedTokenizerBase,
) -> None:
    two = replace(DRAWN, test=(DRAWN.test[0], DRAWN.train[0]))
    prompt = make(chatty, "prompt=program")
    assert prompt.asks_once
    assert prompt.encode(two, 0).equals(prompt.encode(two, 1))
    assert len(prompt.fit_whole(two)) == 1
    showing = make(chatty, "prompt=program", "prompt.program_from_examples.question='{input}'")
    assert not showing.asks_once
    assert not showing.encode(two, 0).equals(showing.encode(two, 1))
    assert len(showing.fit_whole(two)) == 2


def test_the_prompt_alone_shows_neither_program_nor_test_output(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program", "prompt.language=draw")
    assert np.array_equal(prompt.encode_prompt(DRAWN), prompt.encode_prompt(DRAWN.without_solutions()))
    other = replace(DRAWN, program=Program(language="draw", text="flood(9,0,0)"))
    assert np.array_equal(prompt.encode_prompt(DRAWN), prompt.encode_prompt(other))


def test_each_task_is_asked_for_a_program_in_its_own_language(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program_compact", "prompt.language=draw")
    other = replace(DRAWN, program=Program(language="dsl", text="O = vmirror(I)"))
    assert prompt.text(other).endswith("L\nO = vmirror(I)")
    assert prompt.text(DRAWN).endswith(f"D\n{PROGRAM.text}")
    assert prompt.decode(prompt.encode_prompt(DRAWN.without_solutions())).endswith("D\n")


def test_a_language_that_nobody_named_is_asked_for_by_name(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program")
    with pytest.raises(ValueError, match=r"prompt\.language=null.*name one of draw, dsl, python"):
        prompt.encode_prompt(DRAWN.without_solutions())
    spoken = replace(DRAWN, program=Program(language="logo", text="forward"))
    with pytest.raises(ValueError, match=r"prompt\.languages has no text for logo.*prompt\.languages\.logo="):
        prompt.encode(spoken)


# Labels


@pytest.mark.parametrize("name", ["program", "program_compact"])
@pytest.mark.parametrize("verified", [True, False], ids=["by table", "by tokenizer"])
def test_the_answer_alone_has_a_loss(name: str, verified: bool, chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, f"prompt={name}", kinds=BOTH)
    if verified:
        prompt.verify([DRAWN])
        assert prompt.exact_table
    code = f"```python\n{PROGRAM.text}\n```" if name == "program" else PROGRAM.text
    end = prompt.decode([prompt.stop_ids[0]])
    encoded = prompt.encode(DRAWN)
    assert learnt(encoded, prompt) == [f"{code}{end}"]
    assert np.array_equal(encoded.input_ids[: encoded.num_prompt], prompt.encode_prompt(DRAWN))
    (output,) = learnt(prompt.encode(DRAWN, kind="output_from_program"), prompt)
    assert "334\n" in output or "1 334\n" in output


@pytest.mark.parametrize("verified", [True, False], ids=["by table", "by tokenizer"])
def test_an_open_end_is_written_and_has_no_loss(verified: bool, chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program_compact", kinds=BOTH)
    if verified:
        prompt.verify([DRAWN])
    cut_off = replace(DRAWN, program=replace(PROGRAM, open_end=True))
    assert learnt(prompt.encode(cut_off), prompt) == [PROGRAM.text]
    assert np.array_equal(prompt.encode(cut_off).input_ids, prompt.encode(DRAWN).input_ids)
    whole = prompt.encode(DRAWN, kind="output_from_program")
    assert whole.equals(prompt.encode(cut_off, kind="output_from_program")), "its answer is a grid"


@pytest.mark.parametrize("verified", [True, False], ids=["by table", "by tokenizer"])
def test_all_outputs_learns_the_demonstrations_outputs_from_the_second_on_too(
    verified: bool, chatty: PreTrainedTokenizerBase
) -> None:
    prompt = make(chatty, "prompt=program_compact", loss_on="all_outputs")
    if verified:
        prompt.verify([DRAWN])
    end = prompt.decode([prompt.stop_ids[0]])
    assert learnt(prompt.encode(DRAWN), prompt) == [f"332\n532\n{end}", f"{PROGRAM.text}{end}"]


# Tokens


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", ["program", "program_compact"])
@pytest.mark.parametrize("loss_on", ["test_output", "all_outputs"])
def test_the_tokens_are_those_of_the_tokenizer(
    loss_on: str, name: str, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> None:
    prompt, asked = (make(tokenizer(), f"prompt={name}", loss_on=loss_on, kinds=BOTH) for _ in range(2))
    prompt.verify([TOY, DRAWN])
    assert prompt.exact_table == (tokenizer is not digit_tokenizer)
    for task in (DRAWN, *drawings(20)):
        for kind in BOTH:
            for with_answer in (True, False):
                encoded = prompt.encode(task, kind=kind, with_answer=with_answer)  # type: ignore[arg-type]
                assert encoded.equals(asked.encode(task, kind=kind, with_answer=with_answer))  # type: ignore[arg-type]


def test_a_prompt_is_verified_without_any_program_if_its_language_is_known(
    chatty: PreTrainedTokenizerBase,
) -> None:
    prompt, asked = (make(chatty, "prompt=program", "prompt.language=python") for _ in range(2))
    prompt.verify([TOY])
    assert prompt.exact_table
    assert np.array_equal(prompt.encode_prompt(TOY), asked.encode_prompt(TOY))
    with pytest.raises(ValueError, match=r"prompt\.language=null"):
        make(chatty, "prompt=program").verify([TOY])


@pytest.mark.parametrize("kind", PROGRAM_KINDS)
@pytest.mark.parametrize("verified", [True, False], ids=["by table", "by tokenizer"])
def test_demonstrations_are_dropped_and_never_the_program(
    verified: bool, kind: Kind, chatty: PreTrainedTokenizerBase
) -> None:
    whole = make(chatty, "prompt=program_compact", kinds=BOTH)
    one = len(whole.encode(replace(DRAWN, train=DRAWN.train[:1]), kind=kind))
    prompt = make(chatty, "prompt=program_compact", kinds=BOTH, max_length=one)
    if verified:
        prompt.verify([DRAWN])
    fitted = prompt.fit(DRAWN, kind=kind)
    assert fitted is not None
    assert (len(fitted.encoded), fitted.num_dropped) == (one, int(kind == "program_from_examples"))
    assert fitted.task.program == PROGRAM
    prompt.max_length = one - 1
    assert prompt.fit(DRAWN, kind=kind) is None


# Samples


def test_a_task_without_a_program_is_asked_for_grids_alone(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program_compact", kinds=BOTH)
    assert prompt.trains_on_programs
    rng = np.random.default_rng(0)
    counts = {task.id: Counter(prompt.draw_kind(task, rng) for _ in range(2000)) for task in (DRAWN, TOY)}
    assert counts["toy"].keys() == {"output_from_examples"}
    for kind, weight in BOTH.items():
        assert abs(counts["drawn"][kind] / 2000 - weight / 4) < 0.04  # type: ignore[index]


def test_only_a_task_with_a_program_has_a_known_answer(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program", "prompt.language=draw")
    assert prompt.fit_whole(TOY) == []
    assert (prompt.has_answer(TOY), prompt.has_answer(DRAWN)) == (False, True)


# Reading


def answer_of(prompt: Prompt, task: Task) -> str:
    encoded = prompt.encode(task)
    return prompt.decode(encoded.input_ids[encoded.num_prompt : -1])


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", ["program", "program_compact"])
def test_a_right_answer_reads_back_as_its_program(
    name: str, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> None:
    prompt = make(tokenizer(), f"prompt={name}", "prompt.language=draw")
    for task in (DRAWN, *drawings(20)):
        assert prompt.read_program(answer_of(prompt, task)) == task.program


def test_an_answer_without_a_program_is_labelled(chatty: PreTrainedTokenizerBase) -> None:
    prompt = make(chatty, "prompt=program", "prompt.language=draw")
    for text in ("", "```python\n```", "```python\n\n```"):
        with pytest.raises(UnreadableProgram) as raised:
            prompt.read_program(text)
        assert raised.value.reason == "no_program", text
    chat = f"Sure! This paints it:\n```python\n{PROGRAM.text}\n```"
    assert prompt.read_program(chat) == PROGRAM


def test_a_program_may_take_so_many_tokens(chatty: PreTrainedTokenizerBase) -> None:
    assert make(chatty, "prompt=program").longest_answer() == LONGEST_PROGRAM
    both = make(chatty, "prompt=program_compact", asks="grid", kinds=BOTH)
    assert both.longest_answer() == 30 * 31 + 1
