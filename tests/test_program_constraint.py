"""The constraint to programs allows the normal forms of draw and dsl, and nothing that cannot be read."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from program_tools import evaluated
from prompt_tools import byte_tokenizer, make
from quick_compose import compose
from toy_models import make_base
from transformers import AutoTokenizer

from arc_experiments.config.check import ConfigError
from arc_experiments.config.paths import local_path
from arc_experiments.generation.constraint import program_constraint
from arc_experiments.programs.languages import UnreadableProgram, dsl, language
from arc_experiments.programs.languages.draw import SHAPES
from arc_experiments.programs.languages.dsl import solution
from arc_experiments.programs.re_arc import functions, verifiers
from arc_experiments.prompts import Prompt
from arc_experiments.prompts.answer_language import ProgramAnswers

pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")

FENCED = "```python\n", "\n```"


def accepts(name: str, text: str) -> bool:
    grammar = language(name).grammar
    assert grammar is not None
    answers = ProgramAnswers(grammar, *FENCED)
    state = answers.start
    for character in text.join(FENCED):
        state = answers.step(state, character)
    return answers.is_end(state)


def test_every_drawing_in_its_normal_form_is_allowed() -> None:
    own = Random(0)
    for _ in range(50):
        calls = []
        for _ in range(own.randint(1, 5)):
            shape = own.choice(list(SHAPES))
            numbers = [own.randrange(10), *(own.randrange(30) for _ in range(2 * SHAPES[shape]))]
            calls.append(f"{shape}({', '.join(map(str, numbers))})")
        try:
            text = language("draw").normalise("\n".join(calls))
        except UnreadableProgram:  # crooked lines alone
            continue
        assert accepts("draw", text), text


def test_the_solutions_of_re_arc_in_their_normal_form_are_allowed() -> None:
    for task_id in list(verifiers())[::8]:
        found = solution(task_id)
        assert found is not None
        assert accepts("dsl", found.text), found.text


def test_every_function_of_the_language_takes_a_fixed_number_of_arguments() -> None:
    for name, node in functions().items():
        assert node.args.args, name
        others = node.args.vararg, node.args.kwarg, *node.args.kwonlyargs, *node.args.defaults
        assert not any(others), name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("draw", ""),
        ("draw", "pixel(1,2)"),
        ("draw", "pixel(10,2,3)"),
        ("draw", "pixel(1,2,30)"),
        ("draw", "pixel(1,02,3)"),
        ("draw", "pixel(1, 2,3)"),
        ("draw", "pixel(1,2,3)\n"),
        ("draw", "circle(1,2,3)"),
        ("dsl", "x1 = ofcolor(I, FIVE)"),
        ("dsl", "O = ofcolor(I)"),
        ("dsl", "O = ofcolor(I, FIVE, FIVE)"),
        ("dsl", "O = ofcolor(x1, FIVE)"),
        ("dsl", "x2 = ofcolor(I, FIVE)\nO = fill(I, TWO, x2)"),
        ("dsl", "O = fill(I, TWO, O)"),
        ("dsl", "O = open(I)"),
        ("dsl", "O = vmirror(I)\nO = vmirror(I)"),
    ],
)
def test_what_is_no_program_is_not_allowed(name: str, text: str) -> None:
    assert not accepts(name, text)


def test_a_program_without_calls_is_allowed() -> None:
    assert accepts("dsl", "O = I")
    assert not accepts("dsl", "x1 = vmirror(I)\nO = I"), "its normal form has no x1"


def test_a_call_of_a_calls_result_takes_any_number_of_arguments() -> None:
    assert accepts("dsl", "x1 = lbind(shift, I)\nx2 = x1(ORIGIN)\nO = paint(I, x2)")
    assert accepts("dsl", "x1 = fork(add, first, last)\nO = x1(I, 12, -30)")


PROMPTS = {
    "draw, a token a number": (
        lambda: AutoTokenizer.from_pretrained(local_path("package:tiny_program")),
        ["prompt=program_compact", "prompt.language=draw"],
    ),
    "dsl, a token a word": (
        lambda: AutoTokenizer.from_pretrained(local_path("package:tiny_program")),
        ["prompt=program_compact", "prompt.language=dsl"],
    ),
    "draw, bytes": (byte_tokenizer, ["prompt=program", "prompt.language=draw"]),
    "dsl, bytes": (byte_tokenizer, ["prompt=program", "prompt.language=dsl"]),
}


@pytest.fixture(params=PROMPTS)
def prompt(request: pytest.FixtureRequest) -> Prompt:
    tokenizer, overrides = PROMPTS[request.param]
    return make(tokenizer(), *overrides)


def test_whatever_is_chosen_among_the_allowed_tokens_becomes_a_program(prompt: Prompt) -> None:
    constraint, rng = program_constraint(prompt), np.random.default_rng(0)
    for _ in range(30):
        state, ids = constraint.start, []
        while True:
            (allowed,) = constraint.mask([state], torch.zeros(1, prompt.num_ids)).nonzero(as_tuple=True)[1:]
            free = [id for id in allowed.tolist() if id not in prompt.stop_ids]
            if len(free) < len(allowed) and (not free or rng.random() < 0.5):
                break
            ids.append(int(rng.choice(free)))
            (state,) = constraint.after([state], ids[-1:])
        read = prompt.read_program(prompt.decode(ids))
        if read.language == "draw":
            # The grammar knows no crooked lines, which paint nothing, and of which alone no program consists.
            read = replace(read, text=f"{read.text}\npixel(1,2,3)")
        assert language(read.language).normalise(read.text)


def test_programs_in_python_have_no_grammar() -> None:
    with pytest.raises(ValueError, match=r"constrain=program: there is no grammar for programs in python"):
        program_constraint(make(byte_tokenizer(), "prompt=program", "prompt.language=python"))


def test_without_reasoning_gym_dsl_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsl, "functions", dict)
    with pytest.raises(ValueError, match="reasoning-gym"):
        program_constraint(make(byte_tokenizer(), "prompt=program", "prompt.language=dsl"))


CUT = ["prompt=program", "prompt.language=draw", 'prompt.program_from_examples.answer="→{program}"']


def test_a_tokenizer_that_cuts_characters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"constrain=program.*no whole characters.*constrain=none"):
        program_constraint(make(byte_tokenizer(), *CUT))


def test_it_goes_with_the_question_that_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the answers are grids"):
        compose(["inference.constrain=program"], tmp_path / "grids")
    with pytest.raises(ConfigError, match="the answers are programs"):
        compose(["data=draw", "prompt=program", "inference.constrain=grid"], tmp_path / "programs")


def test_an_untrained_model_writes_nothing_but_programs(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options = [f"model.path={make_base(tmp_path / 'base')}", "model.weights=random", "model.lora=null"]
    options += ["inference.temperature=1.0", "inference.num_samples=4", "inference.max_new_tokens=60"]
    reasons = {}
    for constrain in ("none", "program"):
        run, _ = evaluated(tmp_path / constrain, *options, f"inference.constrain={constrain}")
        metrics = json.loads((run.folder / "metrics.json").read_text())
        reasons[constrain] = set(metrics["score"]["programs"]["reasons"])
    assert reasons["none"] & {"syntax", "no_program"}
    assert not reasons["program"] & {"syntax", "no_program"}
