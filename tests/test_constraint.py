"""The constraint allows exactly the texts of grids, whatever tokens they come in."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prompt_tools import GRID_TEXTS, TINY, byte_tokenizer, digit_tokenizer, make, random_task, word_tokenizer
from toy_grids import grid, grids
from toy_models import load, make_base
from toy_models import settings as model_settings
from transformers import AutoTokenizer

from arc_experiments.generation.constraint import Constraint, grid_constraint
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Limits
from arc_experiments.generation.threshold_search import Threshold
from arc_experiments.prompts import Prompt, UnreadableGrid
from arc_experiments.prompts.answer_language import AnswerLanguage
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import Grid

COMPACT = ["prompt=compact"]
LENIENT = make(AutoTokenizer.from_pretrained(TINY), *COMPACT)
FRAMED = make(AutoTokenizer.from_pretrained(TINY), *COMPACT, "prompt.grid.frames=[1,3]")


def language_of(*overrides: str) -> AnswerLanguage:
    return make(word_tokenizer(), *overrides).grid_answers()


def accepts(language: AnswerLanguage, text: str) -> bool:
    state = language.start
    for character in text:
        state = language.step(state, character)
    return language.is_end(state)


@pytest.mark.parametrize("name", GRID_TEXTS)
@given(cells=grids())
@settings(max_examples=8)
def test_every_grid_is_in_the_language_of_every_grid_text(name: str, cells: Grid) -> None:
    prompt = make(word_tokenizer(), "prompt=arc24", f"prompt/grid={name}")
    task = Task(id="a", train=(Pair(input=cells, output=cells),), test=(Pair(input=cells, output=cells),))
    text = prompt.decode(prompt.encode(task).input_ids[prompt.encode(task).num_prompt : -1])
    assert accepts(prompt.grid_answers(), text)


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        (
            COMPACT,
            ["", "\n", "12", "12\n3\n", "12\n345\n", "1" * 31 + "\n", "1\n" * 31, "12\n\n", "1a\n", " 1\n"],
        ),
        (
            ["prompt=arc24"],
            [
                "```grid shape: 1x2\n1 12\n2 12\n```", "```grid shape: 1x2\n1 123\n```", "1 12\n",
                "```grid shape: 31x1\n", "```grid shape: 2x1\n1 1\n3 1\n```", "```grid shape: 0x1\n",
            ],
        ),
        (
            [*COMPACT, "prompt.grid.frames=[2,3]"],
            [
                "1\n", "10.\n02.\n", "10.\n02.\n...\n", "1.\n2.\n3.\n", "10.\n02..\n...\n", "10.\n0..\n...\n",
                "10.\n02.\n1..\n", "...\n...\n...\n", "1230\n....\n...\n", "1230\n....\n....\n....\n",
            ],
        ),
        (["prompt=arc24", "prompt/grid=separated"], ["1|2", "1|\n", "12\n", "|1\n", "1|2\n1\n"]),
    ],
    ids=["compact", "shape_and_row_numbers", "framed", "separated"],
)  # fmt: skip
def test_other_texts_are_not_in_it(overrides: list[str], texts: list[str]) -> None:
    language = language_of(*overrides)
    assert [text for text in texts if accepts(language, text)] == []


@pytest.mark.parametrize("prompt", [LENIENT, FRAMED], ids=["compact", "framed"])
@given(text=st.text("01.\n", max_size=12))
@example(text="1.\n..\n")
@example(text="011\n...\n")
def test_the_language_of_compact_answers_is_what_the_reader_reads(prompt: Prompt, text: str) -> None:
    try:
        back = prompt.read(text)
        task = Task(id="a", train=(Pair(input=back, output=back),), test=(Pair(input=back, output=back),))
        encoded = prompt.encode(task)
        is_canonical = prompt.decode(encoded.input_ids[encoded.num_prompt : -1]) == text
    except UnreadableGrid:
        is_canonical = False
    assert accepts(prompt.grid_answers(), text) == is_canonical


PROMPTS = {
    "one token a cell": (lambda: AutoTokenizer.from_pretrained(TINY), COMPACT),
    "bytes": (byte_tokenizer, ["prompt=arc24"]),
    "words": (word_tokenizer, ["prompt=arc24", "prompt/grid=colour_names"]),
    "three digits a token": (digit_tokenizer, COMPACT),
    "three digits a token, with sizes": (digit_tokenizer, ["prompt=arc24"]),
}


@pytest.fixture(params=PROMPTS)
def prompt(request: pytest.FixtureRequest) -> Prompt:
    tokenizer, overrides = PROMPTS[request.param]
    return make(tokenizer(), *overrides)


def test_what_the_tokenizer_writes_is_allowed(prompt: Prompt) -> None:
    constraint = grid_constraint(prompt)
    for seed in range(4):
        encoded = prompt.encode(random_task(seed))
        answer = encoded.input_ids[encoded.num_prompt :].tolist()
        assert constraint.accepts(answer)
        assert not constraint.accepts([*answer[:-2], answer[-1]])
        assert not constraint.accepts([*answer[:-1], answer[-2]])


def test_whatever_is_chosen_among_the_allowed_tokens_becomes_a_grid(prompt: Prompt) -> None:
    constraint = grid_constraint(prompt)
    rng = np.random.default_rng(0)
    for _ in range(2):
        assert prompt.read(prompt.decode(walk(constraint, prompt, rng))).size


def walk(constraint: Constraint, prompt: Prompt, rng: np.random.Generator) -> list[int]:
    """Tokens drawn among those allowed, up to the end; rows are made to end early, for the test's sake."""
    state, ids = constraint.start, []
    logits = torch.zeros(1, prompt.num_ids)
    while True:
        (allowed,) = (row.nonzero()[:, 0].tolist() for row in constraint.mask([state], logits))
        if set(allowed) & set(prompt.stop_ids):
            return ids
        ending = [id for id in allowed if "\n" in prompt.decode([id])]
        id = int(rng.choice(ending if ending and rng.random() < 0.2 else allowed))
        ids.append(id)
        (state,) = constraint.after([state], [id])


def test_a_tokenizer_that_cuts_characters_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"inference\.constrain=grid.*no whole characters.*constrain=none"):
        grid_constraint(make(byte_tokenizer(), "prompt=arc24", "prompt/grid=symbols"))


# In the engines

SHOWN = Pair(input=grid("12"), output=grid("2", "1"))
TASKS = [
    Task(id=str(n), train=(SHOWN,), test=(Pair(input=grid(row), output=None),))
    for n, row in enumerate(["34", "5", "012345678"])
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    return load(
        model_settings(make_base(tmp_path_factory.mktemp("base") / "tiny", tokenizer)), trainable=False
    ).eval()


@pytest.mark.parametrize("engine", [Transformers, Threshold])
def test_constrained_answers_are_grids_with_the_models_own_log_probability(
    model: torch.nn.Module, engine: type
) -> None:
    prompt, constraint = LENIENT, grid_constraint(LENIENT)
    limits = Limits(max_new_tokens=prompt.longest_answer(), stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
    prompts = [prompt.encode_prompt(task) for task in TASKS]
    keys = [(task.id, 0, 0) for task in TASKS]
    for ids, answers in zip(
        prompts, engine(constraint=constraint).answer(model, prompts, keys, limits), strict=True
    ):
        for answer in answers:
            assert answer.finished
            assert prompt.read(prompt.decode(answer.ids)).size
            whole = torch.tensor([[*ids.tolist(), *answer.ids, prompt.stop_ids[0]]])
            with torch.inference_mode():
                steps = model(input_ids=whole).logits[0, :-1].log_softmax(-1)
            own = steps.gather(1, whole[0, 1:, None])[len(ids) - 1 :].double().sum()
            assert answer.log_probability == pytest.approx(float(own), abs=1e-3, rel=1e-4)


def test_a_constrained_search_finds_what_the_free_one_finds_without_what_is_no_grid(
    model: torch.nn.Module,
) -> None:
    prompt, constraint = LENIENT, grid_constraint(LENIENT)
    limits = Limits(max_new_tokens=4, stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
    prompts = [prompt.encode_prompt(task) for task in TASKS]
    keys = [(task.id, 0, 0) for task in TASKS]
    free, bound = Threshold(threshold=1e-4), Threshold(threshold=1e-4, constraint=constraint)
    pairs = zip(*(engine.answer(model, prompts, keys, limits) for engine in (free, bound)), strict=True)
    found = 0
    for every, only in pairs:
        fitting = [
            (answer.ids, round(answer.log_probability, 3))
            for answer in every
            if answer.finished and constraint.accepts([*answer.ids, prompt.stop_ids[0]])
        ]
        kept = [answer for answer in only if answer.finished and answer.log_probability >= math.log(1e-4)]
        assert [(answer.ids, round(answer.log_probability, 3)) for answer in kept] == fitting
        found += len(fitting)
    assert found


def test_samples_under_the_constraint_are_grids_and_the_same_in_any_batch(model: torch.nn.Module) -> None:
    prompt = LENIENT
    engine = Transformers(num_samples=2, temperatures=(1.0,), constraint=grid_constraint(prompt))
    limits = Limits(max_new_tokens=40, stop_ids=prompt.stop_ids, pad_id=prompt.pad_id)
    prompts = [prompt.encode_prompt(task) for task in TASKS]
    keys = [(task.id, 0, 0) for task in TASKS]
    together = engine.answer(model, prompts, keys, limits)
    alone = [engine.answer(model, [ids], [key], limits)[0] for ids, key in zip(prompts, keys, strict=True)]
    assert [[a.ids for a in group] for group in together] == [[a.ids for a in group] for group in alone]
    for answer in itertools.chain(*together):
        assert not answer.finished or prompt.read(prompt.decode(answer.ids)).size
