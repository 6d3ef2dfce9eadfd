r"""Restricts answers to tokens that can still become a rectangular grid, or a program.

Which characters may follow is in `prompts/answer_language.py`, for programs in their language's `Grammar`.
Tokens are read as characters, so one token may hold several cells or a piece of the fixed text:

    answer so far "12\n3", tokens "1", "12", "\n"   ->   "1" alone ("12" would make the row too long)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from arc_experiments.programs.languages import language
from arc_experiments.prompts import Prompt
from arc_experiments.prompts.answer_language import AnswerLanguage, State
from arc_experiments.prompts.encoding import Encoded
from arc_experiments.prompts.tokens import probe_tasks
from arc_experiments.tasks import Program

ENDED: State = frozenset()


class Constraint:
    """The tokens allowed after each beginning of an answer. States are numbers, so that rows can carry them.

    Args:
        texts: the characters of each token that may be used.
        stop_ids: tokens that end an answer. They are also allowed if no other token fits.
    """

    def __init__(self, language: AnswerLanguage, texts: dict[int, str], stop_ids: Sequence[int]) -> None:
        self._language, self._texts, self._stop_ids = language, texts, stop_ids
        self._tokens: dict[str, Any] = {}  # a tree: by character, and under "" the ids that end there
        for id, text in texts.items():
            node = self._tokens
            for character in text:
                node = node.setdefault(character, {})
            node.setdefault("", []).append(id)
        self._numbers: dict[State, int] = {language.start: 0}
        self._states: list[State] = [language.start]
        self._after: dict[tuple[int, int], int] = {}  # by state and token
        self._allowed: dict[int, torch.Tensor] = {}
        self._can_go_on: dict[State, bool] = {}

    start = 0

    def mask(self, states: Iterable[int], logits: torch.Tensor) -> torch.Tensor:
        """Whether each token may come next; bool, of the logits' shape (rows, vocabulary)."""
        allowed = torch.zeros_like(logits, dtype=torch.bool)
        for row, state in enumerate(states):
            if state not in self._allowed:
                self._allowed[state] = torch.tensor(self._next(self._states[state]), device=logits.device)
            allowed[row, self._allowed[state]] = True
        return allowed

    def after(self, states: Iterable[int], ids: Iterable[int]) -> list[int]:
        """The state of each row after its next token, which must be allowed."""
        return [self._following(state, id) for state, id in zip(states, ids, strict=True)]

    def accepts(self, ids: Sequence[int]) -> bool:
        """Whether these tokens, the end token included, are a whole answer."""
        state = self._language.start
        for id in ids[:-1]:
            for character in self._texts.get(id, "\0"):
                state = self._language.step(state, character)
        return self._language.is_end(state) and ids[-1] in self._stop_ids

    def _following(self, state: int, id: int) -> int:
        if (state, id) not in self._after:
            reached = ENDED
            if id not in self._stop_ids:
                reached = self._states[state]
                for character in self._texts[id]:
                    reached = self._language.step(reached, character)
                assert reached, f"token {id} was not allowed"
            self._after[state, id] = self._number(reached)
        return self._after[state, id]

    def _next(self, state: State) -> list[int]:
        """List the tokens that may come next: those after which the answer can go on, in tokens."""
        found = [
            id
            for id, reached, is_whole in self._walk(state, self._tokens)
            if is_whole or self._goes_on(reached)
        ]
        if not found or self._language.is_end(state):
            found += self._stop_ids
        return found

    def _goes_on(self, state: State) -> bool:
        """Whether tokens complete the text that was begun: not so where `DO` was, and `DOWN` is one token."""
        if state not in self._can_go_on:
            self._can_go_on[state] = any(
                is_whole or self._goes_on(reached) for _, reached, is_whole in self._walk(state, self._tokens)
            )
        return self._can_go_on[state]

    def _walk(
        self, state: State, tokens: dict[str, Any], *, is_whole: bool = False
    ) -> Iterator[tuple[int, State, bool]]:
        """Yield each token that fits, the state after it, and whether a text of the language ends with it."""
        for character, node in tokens.items():
            if character == "":
                for id in node:
                    yield id, state, is_whole
            elif following := self._language.step(state, character):
                yield from self._walk(following, node, is_whole=self._language.completes(state, character))

    def _number(self, state: State) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
        return self._numbers[state]


def grid_constraint(prompt: Prompt) -> Constraint:
    """Build the constraint for answers with a grid.

    Raises:
        ValueError: the prompt's tokenizer writes grids in tokens that are parts of characters.
    """
    remedy = "inference.constrain=none, or train with digits as cells (prompt/grid=minimal)"
    examples = [prompt.encode(task, kind="output_from_examples") for task in probe_tasks()]
    return _checked(prompt, prompt.grid_answers(), examples, "inference.constrain=grid", remedy)


def program_constraint(prompt: Prompt) -> Constraint:
    """Build the constraint for answers with a program.

    Raises:
        ValueError: the language has no grammar, or the prompt's tokenizer writes its programs in tokens that
            are parts of characters.
    """
    option, remedy = "inference.constrain=program", "inference.constrain=none"
    grammar = language(prompt.language).grammar
    if grammar is None:
        raise ValueError(f"{option}: there is no grammar for programs in {prompt.language}: use {remedy}")
    program = Program(language=prompt.language, text=grammar.example)
    task = replace(probe_tasks()[0], program=program)
    examples = [prompt.encode(task, kind="program_from_examples")]
    return _checked(prompt, prompt.program_answers(grammar), examples, option, remedy)


def _checked(
    prompt: Prompt, answers: AnswerLanguage, examples: Iterable[Encoded], option: str, remedy: str
) -> Constraint:
    """Build a constraint that allows these examples, or raise ValueError."""
    constraint = Constraint(answers, _texts(prompt, answers.alphabet), prompt.stop_ids)
    for encoded in examples:
        answer = encoded.input_ids[encoded.num_prompt :].tolist()
        if not constraint.accepts(answer):
            raise ValueError(
                f"{option}: this model's tokenizer writes the answers of this prompt in tokens that stand "
                f"for no whole characters, such as those of {prompt.decode(answer)[:40]!r}: use {remedy}"
            )
    return constraint


def _texts(prompt: Prompt, alphabet: frozenset[str]) -> dict[int, str]:
    """The characters of each token that is made of the alphabet alone, as decoded after other text."""
    anchor = prompt.tokenize("\n")[-1:].tolist()
    before = prompt.decode(anchor)
    texts = {}
    for id in range(prompt.num_ids):
        text = prompt.decode([*anchor, id]).removeprefix(before)
        if id not in prompt.stop_ids and id != prompt.pad_id and text and alphabet.issuperset(text):
            texts[id] = text
    return texts
